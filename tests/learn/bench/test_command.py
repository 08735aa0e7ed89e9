"""`headgate bench` as a user types it, against a scripted server."""

import csv
import json
import os
import re
import signal
import subprocess
import sys

import pytest

from router.cli.main import main
from tests.conftest import WORK_S, wait_until

QUICK = [
    "--seconds", "0.6", "--warmup", "0.1", "--rounds", "2", "--rate", "20", "--arrivals", "constant", "--draws", "20",
]  # fmt: skip


@pytest.fixture
def workload(tmp_path):
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{i}+1", "expected": i + 1}) + "\n" for i in range(5)))
    return path


def command(scripted, workload, out, *words, targets=("good", "wrong")):
    named = [word for name in targets for word in ("--target", f"{name}={scripted.url},model={name},usd-hour=1")]
    return [
        "bench", "--targets-only", *named, "--workload", str(workload), "--grade", "number", *QUICK, "--out", str(out),
        *words,
    ]  # fmt: skip


def test_two_endpoints_are_compared_and_all_files_written(scripted, workload, tmp_path, capsys):
    out = tmp_path / "run"
    words = ["--slo", "ttft_ms=60000,e2e_ms=60000", "--json", "--rate", "10,20"]
    assert main(command(scripted, workload, out, *words)) == 0
    found = json.loads(capsys.readouterr().out)
    quality = {(one["policy"], one["level"]): one["figures"]["quality"]["value"] for one in found["measured"]}
    assert quality == {("good", "10/s"): 1.0, ("good", "20/s"): 1.0, ("wrong", "10/s"): 0.0, ("wrong", "20/s"): 0.0}
    assert found["best_constant"] == "good"
    rows = [json.loads(line) for line in (out / "requests.jsonl").read_text().splitlines()]
    assert len(rows) == sum(scripted.asked.values()) == 2 * 2 * (7 + 14)
    for number in {row["number"] for row in rows if row["level"] == 1}:
        pair = [row for row in rows if (row["level"], row["number"], row["round"]) == (1, number, 0)]
        assert len({(row["item"], row["at_s"]) for row in pair}) == 1  # the same question at the same moment
    with (out / "bench.csv").open() as file:
        assert next((row["policy"], row["quality"]) for row in csv.DictReader(file)) == ("good", "1.0")
    assert (out / "pareto.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "bench.html").read_text()
    assert "Throughput per dollar" in page
    assert re.findall(r"""(?:src|href)=["'](?!data:)""", page) == []
    assert page.index("<img") < page.index("<table")  # the front comes first


def test_run_again_it_asks_nothing_more_and_other_settings_are_refused(scripted, workload, tmp_path, capsys):
    words = command(scripted, workload, tmp_path / "run", "--no-pictures")
    assert main(words) == 0
    asked, first = scripted.asked.total(), capsys.readouterr().out
    assert "Best constant: good" in first
    assert main(words) == 0
    assert scripted.asked.total() == asked
    assert main([*words, "--seed", "7"]) == 2
    assert "(seed: 0 there, 7 here); choose another folder, or --anew" in capsys.readouterr().err


def test_an_interrupted_run_keeps_what_was_measured_and_goes_on(scripted, workload, tmp_path, root):
    out = tmp_path / "run"
    words = command(scripted, workload, out, "--no-pictures", "--seconds", "3", targets=("good",))
    env = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen([sys.executable, "-P", "-m", "router.cli.main", *words], env=env, stdout=subprocess.PIPE)
    cells = out / "cells.jsonl"
    wait_until(lambda: cells.exists() and cells.read_bytes().count(b"\n") == 1)
    before = scripted.asked.total()
    wait_until(lambda: scripted.asked.total() > before + 20)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=WORK_S)[0] is not None
    assert process.returncode == 130
    told = json.loads((out / "bench.json").read_text())
    assert any("The run was interrupted" in caveat for caveat in told["caveats"])
    assert main(words) == 0
    told = json.loads((out / "bench.json").read_text())
    assert not [caveat for caveat in told["caveats"] if "interrupted" in caveat or "have not been measured" in caveat]
    assert told["measured"][0]["requests"] == 120


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rate", "NaN"], "expected a number from 0, got 'NaN'"),
        (["--rate", "-1"], "expected a number from 0, got '-1'"),
        (["--rate", "0"], "expected a number above 0, got '0'"),
        (["--ramp", "1,1,9"], "expected a factor from 1.01"),
        (["--burst", "5,10,10"], "expected a burst shorter than its period"),
        (["--slo", "ttft=1"], "expected ttft_ms=..., tpot_ms=... or e2e_ms=..., got 'ttft=1'"),
        (["--slo", "ttft_ms=nan"], "expected a number from 0, got 'nan'"),
        (["--synthetic", "5"], "expected two numbers of tokens"),
    ],
)
def test_numbers_that_are_none_are_refused_where_they_are_read(words, message, capsys):
    with pytest.raises(SystemExit):
        main(["bench", *words])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--targets-only"], "--targets-only: expected at least one --target"),
        (["--target", "a=ftp://x"], "--target a: ftp://x: expected http(s)://..."),
        (["--target", "a=http://x,modle=y"], "--target a: expected one of model=...,"),
        (["--target", "a=http://x,usd-hour=nan"], "--target a: usd-hour: expected a number from 0, got 'nan'"),
        (["--target", "a=http://x,key-env=NO_SUCH"], "key-env: the variable NO_SUCH is not set, or empty"),
        (["--target", "a=http://x", "--target", "a=http://y"], "--target: names must differ"),
        (["--target", "a=http://x", "--policy", "auto"], "--policy: expected it without --targets-only"),
        (["--target", "a=http://x", "--extra", '{"model": 1}'], "--extra: model is set by bench"),
        (["--target", "a=http://x", "--grade", "number"], "--grade: expected --workload"),
        (["--target", "a=http://x", "--against", "b"], "--against: expected one of a; got 'b'"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_asked(words, message, tmp_path, capsys):
    argv = ["bench", "--targets-only", "--synthetic", "5,5", "--no-pictures", "--out", str(tmp_path / "run"), *words]
    assert main(argv) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_without_matplotlib_pictures_are_refused_first(scripted, workload, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "router.learn.bench.page", None)
    assert main(command(scripted, workload, tmp_path / "run")) == 2
    assert "pip install 'headgate-router[bench]', or give --no-pictures" in capsys.readouterr().err
    assert scripted.asked.total() == 0


def test_a_ramp_ends_for_a_policy_at_the_first_rate_that_it_does_not_hold(scripted, workload, tmp_path, capsys):
    words = ["--ramp", "10,2,40", "--slo", "e2e_ms=60000", "--no-pictures", "--json", "--rounds", "1"]
    assert main(command(scripted, workload, tmp_path / "run", *words, targets=("good", "broken"))) == 0
    found = json.loads(capsys.readouterr().out)
    levels = {name: [one["level"] for one in found["measured"] if one["policy"] == name] for name in ("good", "broken")}
    assert levels == {"good": ["10/s", "20/s", "40/s"], "broken": ["10/s"]}
    broken = next(one for one in found["measured"] if one["policy"] == "broken")
    assert broken["faults"] == {"status": 6}


def test_a_trace_is_sent_at_its_moments_with_its_own_prompts(scripted, tmp_path, capsys):
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"at_s": 10, "prompt": "1+1"}\n{"at_s": 10.2, "prompt": "2+2"}\n')
    argv = ["bench", "--targets-only", "--target", f"good={scripted.url}", "--trace", str(trace), "--warmup", "0"]
    argv += ["--rounds", "1", "--no-pictures", "--out", str(tmp_path / "run")]
    assert main(argv) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "requests.jsonl").read_text().splitlines()]
    assert [(row["at_s"], row["text"]) for row in rows] == [(0.0, "2"), (0.2, "4")]
