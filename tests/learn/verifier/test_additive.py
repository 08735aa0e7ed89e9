"""The curves that are fitted, on numbers of known effect."""

import numpy as np
import numpy.typing as npt
import pytest

from router.learn.verifier.additive import EXPERTS, fit, line, mean
from router.learn.verifier.auroc import auc, least_lead
from router.verify.observed import OBSERVED

Floats = npt.NDArray[np.float64]
TOKENS, LEAST, PRIOR = (OBSERVED.index(name) for name in ("tokens", "least_logprob", "prior"))


def planted(weights: dict[int, float], count: int = 2000, seed: int = 0) -> tuple[Floats, Floats]:
    """Numbers, NaN but for those that have a weight, and labels drawn by their weighted sum."""
    rng = np.random.default_rng(seed)
    x = np.full((count, len(OBSERVED)), np.nan)
    z = np.zeros(count)
    for column, weight in weights.items():
        x[:, column] = rng.normal(size=count)
        z += weight * x[:, column]
    return x, (rng.random(count) < 1 / (1 + np.exp(-z))).astype(np.float64)


def test_finds_the_slope_that_was_planted() -> None:
    x, right = planted({TOKENS: -1.0, LEAST: 0.5})
    made = fit(x, right, "floor")
    rises = (made.curve[:, 3] - made.curve[:, 1]) / 2  # from one deviation below to one above
    assert rises[[TOKENS, LEAST]] == pytest.approx([-1.0, 0.5], abs=0.15)
    assert made.curve[PRIOR].tolist() == [0] * 5
    assert auc(right, made.log_odds(x)) > 0.74


@pytest.mark.parametrize(("expert", "turned"), [("floor", False), ("signed", False), ("free", True)])
def test_only_free_may_go_against_a_number_s_direction(expert: str, turned: bool) -> None:
    """Here a low least log-probability goes with right answers."""
    x, right = planted({TOKENS: -0.5, LEAST: -1.0})
    curve = fit(x, right, expert).curve[LEAST]
    assert (curve[-1] < -1) == turned
    assert (curve == 0).all() == (not turned)


def test_unknown_numbers_have_a_weight_of_their_own() -> None:
    x, right = planted({TOKENS: -1.0, LEAST: 0.0})
    x[right > 0.5, LEAST] = np.nan  # unknown exactly where the answer is right
    made = fit(x, right, "free")
    assert auc(right, made.log_odds(x)) > 0.99
    assert made.unknown[LEAST] > 1


def test_the_mean_of_models_says_the_mean_of_their_log_odds() -> None:
    x, right = planted({TOKENS: -1.0, LEAST: 0.5, PRIOR: 1.0}, 400)
    x[::3, LEAST] = np.nan
    models = [fit(x, right, name) for name in EXPERTS]
    said = mean(models, [0.5, 0.2, 0.3]).log_odds(x)
    assert said == pytest.approx(np.array([0.5, 0.2, 0.3]) @ np.stack([one.log_odds(x) for one in models]))


def test_a_line_calibrates_and_stays_near_one_where_little_is_known() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=4000)
    right = (rng.random(4000) < 1 / (1 + np.exp(-truth))).astype(np.float64)
    slope, offset = line(3 * truth + 1, right)
    assert (slope, offset) == (pytest.approx(1 / 3, abs=0.05), pytest.approx(-1 / 3, abs=0.1))
    assert line(np.array([2.0]), np.array([0.0])) == (pytest.approx(1, abs=0.3), pytest.approx(0, abs=0.2))
    assert line(-truth, right)[0] == 0  # never turned round


def test_the_least_lead_is_over_the_best_score_beside_it() -> None:
    right = np.array([1.0, 1.0, 0.0, 0.0])
    said, good, bad = np.array([4.0, 3, 2, 1]), np.array([4.0, 2, 3, 1]), np.array([1.0, 2, 3, 4])
    assert least_lead(right, said, {"good": good, "bad": bad}) == pytest.approx(1 - 0.75)
    assert least_lead(right, bad, {"good": good}) == pytest.approx(-0.75)
    assert least_lead(right, said, {}) == 0
