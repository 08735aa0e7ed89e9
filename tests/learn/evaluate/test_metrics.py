"""The measures against cases worked by hand, and against RouteLLM's own arithmetic."""

import numpy as np
import pytest

from router.learn.evaluate import metrics

WEAK = np.array([1, 0, 0, 1], np.float32)
STRONG = np.array([1, 1, 1, 0], np.float32)


def test_pgr_by_hand() -> None:
    # gains 0, 1, 1, -1; the weak mean is .5, the strong one .75: the gap is one prompt's worth
    curve = metrics.curve(WEAK, STRONG, np.array([0.1, 0.9, 0.8, 0.2]))
    assert curve.pgr.tolist() == [0.0, 1.0, 2.0, 1.0, 1.0]
    assert curve.apgr == pytest.approx((0.5 * 0 + 1 + 2 + 1 + 0.5 * 1) / 4)
    assert curve.cpt(0.5) == 0.25
    assert curve.cpt(1.0) == 0.25


def test_oracle_exceeds_one_and_the_opposite_falls_below_zero() -> None:
    best = metrics.oracle(WEAK, STRONG)
    assert max(metrics.curve(WEAK, STRONG, best).pgr) == 2.0
    assert min(metrics.curve(WEAK, STRONG, -best).pgr) == -1.0


def test_ties_are_a_straight_line() -> None:
    curve = metrics.curve(WEAK, STRONG, np.zeros(4))
    assert curve.pgr.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert curve.apgr == 0.5


def test_order_of_prompts_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    weak, strong = rng.integers(0, 2, 200), np.ones(200)
    preference = rng.integers(0, 5, 200) / 5
    turned = rng.permutation(200)
    one = metrics.curve(weak, strong, preference).apgr
    assert metrics.curve(weak[turned], strong[turned], preference[turned]).apgr == pytest.approx(one)


def test_equals_routellm_arithmetic_at_its_thresholds() -> None:
    """RouteLLM routes score >= threshold to the strong model, and takes the mean accuracy of the mix."""
    rng = np.random.default_rng(1)
    weak = rng.integers(0, 2, 500).astype(float)
    strong = np.maximum(weak, rng.integers(0, 2, 500))
    win_rate = rng.random(500)
    curve = metrics.curve(weak, strong, win_rate)
    for threshold in np.quantile(win_rate, [0.1, 0.35, 0.8]):
        routed = win_rate >= threshold
        accuracy = np.where(routed, strong, weak).mean()
        expected = (accuracy - weak.mean()) / (strong.mean() - weak.mean())
        assert curve.pgr[routed.sum()] == pytest.approx(expected)


def test_refuses_a_strong_model_that_is_not() -> None:
    with pytest.raises(ValueError, match="strong model must have the higher mean score"):
        metrics.curve(STRONG, WEAK, np.zeros(4))


def test_bootstrap_is_paired_and_repeatable() -> None:
    rng = np.random.default_rng(2)
    weak, strong = np.zeros(100), rng.integers(0, 2, 100).astype(float)
    preference = strong + rng.random(100)
    samples = metrics.bootstrap(weak, strong, [preference, preference, -preference], draws=20)
    assert (samples[:, 0] == samples[:, 1]).all()
    assert (samples[:, 0] > samples[:, 2]).all()
    again = metrics.bootstrap(weak, strong, [preference], draws=20)
    assert (again[:, 0] == samples[:, 0]).all()
    span = metrics.interval(samples[:, 0])
    assert span.low < samples[:, 0].mean() < span.high


def test_brier() -> None:
    assert metrics.brier(np.array([1.0, 0.0]), np.array([0.5, 0.5])) == 0.25


def test_bootstrap_draws_again_where_there_is_no_gap() -> None:
    """Two prompts of which one is won: a quarter of all draws has no gap to recover."""
    weak, strong = np.array([0.0, 0.0]), np.array([0.0, 1.0])
    samples = metrics.bootstrap(weak, strong, [np.array([0.0, 1.0])], draws=50)
    assert np.isfinite(samples).all()


def routellm(weak: np.ndarray, strong: np.ndarray, win_rate: np.ndarray, bins: int) -> tuple[float, dict[float, float]]:
    """APGR and CPT (in shares) as RouteLLM's `evals` have them: `bins + 1` quantiles of the win rate as thresholds,
    the trapezoid of accuracy over the share less the weak model's, and CPT by straight lines between thresholds."""
    thresholds = np.quantile(win_rate, np.linspace(0, 1, bins + 1))
    shares, accuracies = [], []
    for i, threshold in enumerate(thresholds):
        sent = win_rate >= threshold if i < bins else win_rate > threshold
        shares.append(sent.mean())
        accuracies.append(np.where(sent, strong, weak).mean())
    share, accuracy = np.array(shares[::-1]), np.array(accuracies[::-1])
    area = np.trapezoid(accuracy, share)
    apgr = (area - weak.mean()) / (strong.mean() - weak.mean())
    targets = {x: weak.mean() + x * (strong.mean() - weak.mean()) for x in (0.5, 0.8)}
    return float(apgr), {x: float(np.interp(target, accuracy, share)) for x, target in targets.items()}


def test_equals_routellm_where_each_rank_is_a_threshold() -> None:
    """Ten prompts, ten bins: the grids are one. Gains in order of win rate: 1 0 1 1 0 0 -1 0 1 0, a gap of 3."""
    weak = np.array([0, 1, 0, 0, 1, 0, 1, 1, 0, 1], float)
    strong = np.array([1, 1, 1, 1, 1, 0, 0, 1, 1, 1], float)
    win_rate = np.linspace(0.95, 0.05, 10)
    theirs, their_cpt = routellm(weak, strong, win_rate, 10)
    ours = metrics.curve(weak, strong, win_rate)
    assert (3 * ours.pgr).round(9).tolist() == [0, 1, 1, 2, 3, 3, 3, 2, 2, 3, 3]
    assert ours.apgr == pytest.approx(theirs) == pytest.approx((1 + 1 + 2 + 3 + 3 + 3 + 2 + 2 + 3 + 1.5) / 30)
    # half the gap is 1.5 prompts: theirs lies between the ranks 2 and 3, ours is the first rank that has reached it
    assert their_cpt[0.5] == pytest.approx(0.25)
    assert ours.cpt(0.5) == 0.3


def test_differs_from_routellm_by_the_grid_alone() -> None:
    """Their area is the trapezoid of our curve at their eleven shares; with every rank a threshold it is ours."""
    rng = np.random.default_rng(4)
    win_rate = rng.random(1000)
    weak = (rng.random(1000) > 0.5 * win_rate).astype(float)
    strong = np.maximum(weak, rng.integers(0, 2, 1000))
    ours = metrics.curve(weak, strong, win_rate)
    theirs, their_cpt = routellm(weak, strong, win_rate, 10)
    at = np.round(np.linspace(0, 1000, 11)).astype(int)
    assert theirs == pytest.approx(np.trapezoid(ours.pgr[at], at / 1000), abs=1e-9)
    assert theirs == pytest.approx(ours.apgr, abs=0.01)
    assert routellm(weak, strong, win_rate, 1000)[0] == pytest.approx(ours.apgr, abs=1e-9)
    assert their_cpt[0.5] == pytest.approx(ours.cpt(0.5), abs=0.02)
