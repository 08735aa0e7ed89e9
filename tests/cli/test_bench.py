"""`headgate bench` against a running `headgate serve` over stub hosts: every kind of policy, prices, engine seconds."""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router.cli.main import main


def test_every_kind_of_policy_of_a_running_pool_is_measured(
    serve: Callable[..., Any],
    config: Callable[..., Path],
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pool = [
        {"name": "small", "model": "stub", "like": "llama-3.1-8b-instruct", "gpu_share": 0.1, "usd_per_hour": 20.0},
        {"name": "large", "model": "stub", "strength": 0.6, "gpu_share": 0.9, "usd_per_hour": 20.0},
    ]
    host = shlex.join([sys.executable, "-P", str(root / "bench" / "stub_host.py")])
    server = serve(str(config(pool=pool)), "--host-command", host)
    questions = tmp_path / "questions.jsonl"
    rows = [{"prompt": f"count {i}", "expected": "0 1 2", "max_tokens": 3, "grader": "exact"} for i in range(6)]
    questions.write_text("\n".join(map(json.dumps, rows)))
    policies = ["auto", "small", "large", "random", "jsq", "static", "router-mf-0.0"]
    argv = ["bench", "--url", server.url, "--admin", server.admin.removeprefix("http://"), "--workload", str(questions)]
    argv += [word for name in policies for word in ("--policy", name)]
    argv += [
        "--seconds",
        "0.5",
        "--warmup",
        "0.1",
        "--rounds",
        "1",
        "--rate",
        "20",
        "--arrivals",
        "constant",
        "--no-pictures",
        "--draws",
        "20",
        "--json",
    ]
    assert main([*argv, "--out", str(tmp_path / "run")]) == 0
    found = json.loads(capsys.readouterr().out)
    measured = {one["policy"]: one for one in found["measured"]}
    assert list(measured) == policies
    assert {name: one["figures"]["quality"]["value"] for name, one in measured.items()} == dict.fromkeys(policies, 1.0)
    assert {name: one["faults"] for name, one in measured.items()} == {name: {} for name in policies}
    assert measured["small"]["shares"] == {"small": 1.0}
    assert measured["router-mf-0.0"]["shares"] == {"large": 1.0}
    assert measured["static"]["shares"] == {"small": 1.0}  # both are always right: none need the large one
    assert measured["random"]["shares"].keys() == measured["jsq"]["shares"].keys() == {"small", "large"}
    assert found["basis"] == "engine"
    assert found["best_constant"] in ("small", "large")
    labels = [json.loads(line) for line in (tmp_path / "run" / "labels.jsonl").read_text().splitlines()]
    assert [(one["weak"], one["strong"]) for one in labels] == [(1.0, 1.0)] * 6


def test_a_policy_that_the_pool_cannot_have_is_refused(
    serve: Callable[..., Any], config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(str(config(pool=[{"name": "one", "model": "stub"}])))
    argv = ["bench", "--url", server.url, "--admin", server.admin.removeprefix("http://"), "--synthetic", "5,5"]
    argv += ["--no-pictures", "--out", str(tmp_path / "run")]
    assert main([*argv, "--policy", "jsq"]) == 2
    assert "--policy jsq: expected a pool of at least two members, got 1" in capsys.readouterr().err
    assert main(["bench", "--admin", "127.0.0.1:1", "--synthetic", "5,5", "--no-pictures"]) == 1
    assert "no server answers at 127.0.0.1:1" in capsys.readouterr().err
