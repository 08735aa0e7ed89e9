"""What is learnt of answers that still run: answers of known hazard."""

import numpy as np
import numpy.typing as npt
import pytest

from router.learn.verifier.boundaries import Paths, chances, held_chances, paths, running
from router.learn.verifier.series import Series
from router.verify.judged import Running

Floats = npt.NDArray[np.float64]


def made(count: int = 600, told: bool = True, seed: int = 0) -> Paths:
    """Right answers end after 10 to 30 tokens, wrong ones after 20 to 60, and are unsure all the way where `told`."""
    rng = np.random.default_rng(seed)
    right = (rng.random(count) < 0.5).astype(np.float64)
    tokens = np.where(right > 0.5, rng.integers(10, 31, count), rng.integers(20, 61, count)).astype(np.float64)
    series = [
        Series(logprobs=tuple((-0.5 - (1.0 - one if told else 0.0) - 0.4 * rng.random(int(n))).tolist()))
        for one, n in zip(right, tokens, strict=True)
    ]
    return paths(series, tokens, right, np.zeros(count))


def folds(at: Paths) -> npt.NDArray[np.int64]:
    return np.arange(len(at.tokens)) % 4


def test_the_longer_an_answer_runs_the_less_likely_it_is_right() -> None:
    at = made(told=False)
    found = running(at, folds(at))
    assert found.statistic == "tokens"
    assert len(found.tokens) >= 3
    chance = [1 / (1 + np.exp(-z)) for z in found.intercept]
    share = [float(at.right[at.tokens > knot].mean()) for knot in found.tokens]
    assert chance == pytest.approx(share, abs=0.05)
    assert chance[0] > 0.4 > chance[-1]
    assert list(found.left) == pytest.approx([(at.tokens[at.tokens > k] - k).mean() for k in found.tokens])


def test_a_statistic_that_tells_is_used_and_its_sign_is_right() -> None:
    at = made(told=True)
    found = running(at, folds(at))
    assert found.statistic == "logprob"
    assert min(found.slope) > 0
    said = held_chances(at, folds(at), found)[:, 0]
    known = np.isfinite(said)
    assert said[known & (at.right > 0.5)].min() > said[known & (at.right < 0.5)].max()


def test_answers_that_have_ended_have_no_chance_at_a_knot() -> None:
    at = made()
    found = running(at, folds(at))
    said = chances(at, found)
    for k, knot in enumerate(found.tokens):
        assert (np.isnan(said[:, k]) == (at.tokens <= knot)).all()


def test_too_few_answers_tell_nothing() -> None:
    at = made(30)
    assert running(at, folds(at)) == Running()


def test_without_statistics_of_all_answers_the_tokens_alone_are_used() -> None:
    at = made()
    bare = paths([None] * len(at.tokens), at.tokens, at.right, at.prior)
    assert running(bare, folds(bare)).statistic == "tokens"
