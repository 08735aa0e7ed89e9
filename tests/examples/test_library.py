"""The library examples run as they stand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import WORK_S


def run(root: Path, *argv: str) -> str:
    done = subprocess.run([sys.executable, *argv], cwd=root, capture_output=True, text=True, timeout=WORK_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_decide(root: Path) -> None:
    lines = run(root, "examples/library_decide.py", "Hello!").splitlines()
    assert lines[0].split() in (["small", "Hello!"], ["large", "Hello!"])
    assert lines[1].strip().startswith("small: quality 0.")
    assert lines[2].strip().startswith("large: quality 0.")
    assert lines[3].strip().startswith("utility, by ")


@pytest.mark.engine
def test_chat(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="answers need vLLM")
    engine_args = {"dtype": "float32", "enforce_eager": True, "block_size": 32, "kv_cache_memory_bytes": 32 << 20}
    member = {
        "name": "tiny",
        "model": str(root / "examples/pair/small"),
        "like": "pair-small",
        "engine_args": engine_args,
    }
    config = tmp_path / "headgate.yaml"
    routing = {"checkpoint": str(root / "examples/pair/router.safetensors")}
    config.write_text(json.dumps({"pool": [member], "routing": routing}))
    first, last = run(root, "examples/library_chat.py", str(config), "What is 7 + 8?").splitlines()
    assert first == "What is 7 + 8?  15   [tiny, only_candidate]"
    assert last.startswith("tiny alone says: 15 (")
