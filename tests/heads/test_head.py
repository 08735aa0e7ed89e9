"""One suite over every head."""

import subprocess
import sys

import numpy as np
import pytest

from router.errors import ConfigError
from router.heads import Claim, load
from router.types import Scores

CLAIMS = [Claim(name="s", like="tiny-1b"), Claim(name="l", strength=0.65)]
CONVERSATIONS = [
    [("hello world?", 1.0)],
    [("hello", 1.0), ("you are helpful", 0.1), ("world " * 50, 0.25)],
    [("", 1.0)],
    [("\ud800 北", 1.0)],
]


@pytest.fixture(params=["mf", "mf_numpy"])
def head(request, path):
    return load(path, CLAIMS, kind=request.param)


def test_scores(head):
    for segments in CONVERSATIONS:
        scores = head.score(segments)
        assert isinstance(scores, Scores)
        assert len(scores.quality) == 2
        assert all(isinstance(q, float) and 0 <= q <= 1 for q in scores.quality)
        assert head.score(segments) == scores


def test_pieces_are_counted(head):
    assert head.score([("hello world?", 1.0), ("hello", 0.1)]).prompt_tokens == 4


def test_placements_and_turn_weights(head):
    assert [(p.name, p.by) for p in head.placements] == [("s", "like"), ("l", "strength")]
    assert head.turns.earlier == 0.3


def test_heads_agree(path):
    native, plain = (load(path, CLAIMS, kind=kind) for kind in ("mf", "mf_numpy"))
    for segments in CONVERSATIONS:
        np.testing.assert_allclose(native.score(segments).quality, plain.score(segments).quality, rtol=3e-5)


def test_unknown_checkpoint(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.safetensors: cannot be read"):
        load(tmp_path / "none.safetensors", CLAIMS)


def test_scoring_loads_nothing_heavy(path):
    """The frontend's process must stay small."""
    code = f"""
import sys
from router.heads import Claim, load
load({str(path)!r}, [Claim(name="m", like="tiny-1b")]).score([("hello", 1.0)])
heavy = {{"torch", "transformers", "vllm", "pyarrow", "scipy", "sklearn", "safetensors"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
