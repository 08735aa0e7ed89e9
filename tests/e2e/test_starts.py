"""How `headgate serve` starts real engines: side by side, and not at all where vLLM refuses an argument of one."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

ARGS = {"kv_cache_memory_bytes": 32 << 20, "block_size": 32, "max_model_len": 512, "dtype": "float32"}
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for a socket's path."""
    with tempfile.TemporaryDirectory(prefix="hg-") as path:
        yield Path(path)


@pytest.fixture
def start(tmp_path: Path, pair: Path, engine_env: dict[str, str], folder: Path) -> Start:
    def serve(*args: dict[str, Any]) -> "subprocess.Popen[str]":
        pool = [
            {"name": f"m{i}", "model": str(pair / "small"), "strength": 0.5, "engine_args": one, "env": engine_env}
            for i, one in enumerate(args)
        ]
        logs = {"runtime_dir": str(folder / "run"), "log_dir": str(folder / "logs")}
        config = {"server": {"port": 0, "admin_port": 0}, "pool": pool, "supervision": logs}
        path = tmp_path / "headgate.yaml"
        path.write_text(json.dumps(config))
        command = [sys.executable, "-P", "-m", "router.cli.main", "serve", "--json", str(path)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})

    return serve


def logs_of(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted((folder / "logs").glob("*.log"))]


def test_no_engine_loads_where_vllm_refuses_a_value_of_another_and_it_is_told_with_its_key(
    start: Start, folder: Path
) -> None:
    process = start(ARGS, {**ARGS, "max_num_seqs": "many"})
    _, error = process.communicate(timeout=600)
    assert process.returncode == 2
    assert "headgate.yaml: argument --max-num-seqs: invalid" in error
    assert error.rstrip().endswith("- at `$.pool[1].engine_args.max_num_seqs`")
    assert len(logs_of(folder)) == 2
    assert not any("Resolved architecture" in log for log in logs_of(folder))


def test_a_name_that_vllm_does_not_have_is_refused_before_vllm_is_imported(start: Start) -> None:
    process = start({**ARGS, "max_modle_len": 3})
    _, error = process.communicate(timeout=600)
    assert process.returncode == 2
    assert (
        "vLLM has no such argument; did you mean 'max_model_len'? - at `$.pool[0].engine_args.max_modle_len`" in error
    )


def test_engines_sized_by_their_kv_cache_load_side_by_side(start: Start) -> None:
    process = start(ARGS, ARGS)
    assert process.stdout is not None
    events: list[tuple[float, dict[str, Any]]] = []
    try:
        for line in process.stdout:
            events.append((time.monotonic(), json.loads(line)))
            if events[-1][1]["event"] == "serving":
                break
    finally:
        process.terminate()
        process.communicate(timeout=120)
    first_ready_s = min(at for at, event in events if event["event"] == "ready")
    began_s = {event["member"]: at for at, event in reversed(events) if loads(event)}
    assert began_s.keys() == {"m0", "m1"}
    assert max(began_s.values()) < first_ready_s
    (serving,) = [event for _, event in events if event["event"] == "serving"]
    assert [member["place"]["where"] for member in serving["members"]] == ["cpu", "cpu"]


def loads(event: dict[str, Any]) -> bool:
    """Which stages of it are told hangs on when the log is looked at."""
    return stage_of(event) not in ("", "importing vLLM", "waiting for its turn")


def stage_of(event: dict[str, Any]) -> str:
    return str((event.get("start") or {}).get("stage", ""))
