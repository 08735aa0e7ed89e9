"""The decision bench runs end to end in its quick mode, on a checkpoint made here; a wrong scorer is not timed."""

import argparse
import json
import subprocess
import sys

import decision
import numpy as np
import pytest

from router.heads.checkpoint import FORMAT, Metadata, ModelRecord, write
from router.native.spec import EncoderSpec
from router.native.vocab import build_vocab
from tests.conftest import WORK_S


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    tokens = ["[UNK]", *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz")]
    vocab, longest = build_vocab(tokens)
    spec = EncoderSpec(pieces=len(tokens), unk=0, max_piece=longest, word_rows=256, word_cap=16.0)
    draw = np.random.default_rng(5)
    arrays = {
        "table": draw.normal(0, 0.2, (spec.rows, 16)),
        "vocab": vocab,
        "vectors": draw.normal(0, 0.2, (3, 16)),
        "bias": np.zeros(3),
    }
    models = tuple(ModelRecord(name=f"m{i}", strength=0.3 + 0.2 * i) for i in range(3))
    path = tmp_path_factory.mktemp("bench") / "c.safetensors"
    write(path, Metadata(format=FORMAT, encoder=spec, models=models), arrays)
    return path


def test_figures(root, checkpoint):
    command = [
        sys.executable,
        str(root / "bench/decision.py"),
        "--quick",
        "--runs",
        "2",
        "--checkpoint",
        str(checkpoint),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WORK_S, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["thread_safe"] is True
    assert 0 < result["score_p50_us"] < result["p50_us"] < result["p50_us_32_models"]
    assert result["p50_us"] < result["numpy_p50_us"]
    assert result["ms_8000_words"] > 0
    assert result["load_ms"] > 0
    assert len(result["spread"]["p50_us"]["runs"]) == 2


def test_a_wrong_scorer_is_not_timed(monkeypatch, checkpoint):
    monkeypatch.setattr(decision, "agree", lambda *_: 0.5)
    with pytest.raises(SystemExit, match=r"differ by 5\.00e-01: nothing is timed"):
        decision.measure(argparse.Namespace(checkpoint=str(checkpoint), quick=True, runs=1))
