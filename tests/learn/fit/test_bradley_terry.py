"""Battles: strengths that made them are found again, ties count half, and a checkpoint can be trained on them alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from router.errors import ConfigError
from router.heads import Claim, load
from router.learn.data.corpus import Battled
from router.learn.fit.bradley_terry import fit_battles
from router.learn.fit.design import Matrix
from router.learn.fit.logistic import sigmoid
from router.learn.fit.recipe import SIZES
from router.learn.fit.training import run

EYE = np.eye(3, dtype=np.float32)


def one_prompt() -> Matrix:
    return Matrix(sparse.csr_matrix((1, 1), dtype=np.float32), np.zeros((1, 1), np.float32))


def battled(*rows: tuple[int, int, int, float]) -> Battled:
    prompt, a, b, outcome = zip(*rows, strict=True)
    return Battled(np.array(prompt), np.array(a), np.array(b), np.array(outcome, np.float32))


def test_shares_of_wins_are_the_models_differences() -> None:
    """3 of 4 won against the next: ln 3 apart, whoever stands first in the row."""
    rows = [(0, 0, 1, 1.0)] * 3 + [(0, 1, 0, 1.0)] + [(0, 1, 2, 1.0)] * 3 + [(0, 1, 2, 0.0)]
    found = fit_battles(one_prompt(), battled(*rows * 50), EYE, ridge=1.0, steps=30).logits(one_prompt())[0]
    np.testing.assert_allclose(np.diff(found), -np.log(3), atol=0.02)
    assert abs(found.sum()) < 1e-5


def test_a_tie_is_half_a_win_of_either_side() -> None:
    ties = fit_battles(one_prompt(), battled(*[(0, 0, 1, 0.5)] * 40), EYE[:2], 1.0, 30)
    mixed = fit_battles(one_prompt(), battled(*[(0, 0, 1, 1.0), (0, 0, 1, 0.0)] * 20), EYE[:2], 1.0, 30)
    np.testing.assert_allclose(ties.logits(one_prompt()), 0, atol=1e-5)
    np.testing.assert_allclose(mixed.logits(one_prompt()), 0, atol=1e-5)


def test_who_wins_may_depend_on_the_prompt() -> None:
    rng = np.random.default_rng(0)
    x = Matrix(sparse.csr_matrix((400, 1), dtype=np.float32), rng.standard_normal((400, 1)).astype(np.float32))
    prompt = rng.integers(0, 400, 4000)
    won = rng.random(4000) < sigmoid(2 * x.dense[prompt, 0])
    battles = Battled(prompt, np.zeros(4000, np.int64), np.ones(4000, np.int64), won.astype(np.float32))
    found = fit_battles(x, battles, EYE[:2], ridge=0.1, steps=30).logits(x)
    slope = np.polyfit(x.dense[:, 0], found[:, 0] - found[:, 1], 1)[0]
    assert slope == pytest.approx(2, abs=0.2)


@pytest.fixture
def arena(tmp_path: Path) -> Path:
    """`tiny` wins on greetings, `big` on sums; they never tie, and who stands first alternates."""
    path = tmp_path / "arena.jsonl"
    rows = []
    for i in range(200):
        sums = i % 2 == 0
        prompt = f"What is {i} + {7 * i}?" if sums else f"Say hello to friend number {i}, kindly and warmly"
        a, b = ("tiny", "big") if i % 4 < 2 else ("big", "tiny")
        rows.append({"prompt": prompt, "model_a": a, "model_b": b, "winner": "a" if (a == "big") == sums else "b"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_checkpoint_is_trained_on_battles_alone(arena: Path, tmp_path: Path) -> None:
    report = run([arena], tmp_path / "arena.safetensors", SIZES["small"], folds=2)
    assert report.models == ("tiny", "big")
    assert report.held_out == ()
    head = load(tmp_path / "arena.safetensors", [Claim(name="tiny"), Claim(name="big")])
    quality = head.score_many(["What is 31 + 87?", "Say hello to friend number 5, kindly and warmly"])
    assert quality[0, 1] - quality[0, 0] > 0.2
    assert quality[1, 0] - quality[1, 1] > 0.2


def test_other_methods_say_how_battles_become_scores(arena: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--router knn: arena.jsonl: expected scores, got battles; mf learns"):
        run([arena], tmp_path / "arena.safetensors", SIZES["small"], router="knn", folds=2)
