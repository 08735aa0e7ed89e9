"""The measures against cases worked by hand, and against RouteLLM's own arithmetic."""

import numpy as np
import pytest

from router.learn import metrics

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
