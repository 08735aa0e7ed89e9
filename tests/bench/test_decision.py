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
        "--base",
        str(root),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WORK_S, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["thread_safe"] is True
    assert min(result[name] for name in ("score_p50_us", "p50_us", "p50_us_32_models")) > 0
    assert result["p50_us"] < result["numpy_p50_us"]
    assert result["ms_8000_words"] > 0
    assert result["load_ms"] > 0
    assert len(result["spread"]["p50_us"]["runs"]) == 2
    for models in (2, 32):
        assert result[f"ratio_{models}"] == result["base"][f"{models}_models"]["ratio"]["median"] > 0
        assert len(result["base"][f"{models}_models"]["ours_us"]["runs"]) == 6


def test_a_base_that_is_no_checkout_is_not_timed(checkpoint, tmp_path):
    with pytest.raises(SystemExit, match="expected its own `router`, got "):
        decision.paired(tmp_path, str(checkpoint), 3, 1)


def test_checkouts_that_decide_differently_are_not_timed(monkeypatch, root, checkpoint):
    class Other(decision.Contestant):
        def __init__(self, *args):
            super().__init__(*args)
            self.chosen = self.chosen if len(made) else []
            made.append(self)

    made = []
    monkeypatch.setattr(decision, "Contestant", Other)
    with pytest.raises(SystemExit, match="decide differently: nothing is timed"):
        decision.paired(root, str(checkpoint), 3, 1)


def test_a_wrong_scorer_is_not_timed(monkeypatch, checkpoint):
    monkeypatch.setattr(decision, "agree", lambda *_: 0.5)
    with pytest.raises(SystemExit, match=r"differ by 5\.00e-01: nothing is timed"):
        decision.measure(argparse.Namespace(checkpoint=str(checkpoint), quick=True, runs=1))
