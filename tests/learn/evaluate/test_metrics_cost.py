"""The hull and AIQ against cases worked by hand."""

import numpy as np
import pytest

from router.learn.evaluate.metrics_cost import aiq, cost_of, hull

COST = np.array([1.0, 2.0, 3.0, 4.0, 2.5])
QUALITY = np.array([0.2, 0.6, 0.5, 0.8, 0.6])


def test_hull_by_hand() -> None:
    # (3, .5) is dearer and worse than (2, .6), (2.5, .6) dearer and no better
    cost, quality = hull(COST, QUALITY)
    assert cost.tolist() == [1, 2, 4]
    assert quality.tolist() == [0.2, 0.6, 0.8]


def test_hull_leaves_out_what_a_mix_of_two_reaches() -> None:
    # (2, .3) lies below the line from (1, .2) to (4, .8), and (3, .6) on it
    cost, quality = hull(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.2, 0.3, 0.6, 0.8]))
    assert cost.tolist() == [1, 4]
    assert quality.tolist() == [0.2, 0.8]


def test_of_equally_dear_points_the_best_counts() -> None:
    assert hull(np.array([1.0, 1.0, 1.0]), np.array([0.1, 0.9, 0.4]))[1].tolist() == [0.9]


def test_aiq_by_hand() -> None:
    # from 1 to 2 the mean is .4, from 2 to 4 it is .7, beyond 4 it stays .8
    assert aiq(COST, QUALITY, 1, 4) == pytest.approx((0.4 * 1 + 0.7 * 2) / 3)
    assert aiq(COST, QUALITY, 1, 6) == pytest.approx((0.4 * 1 + 0.7 * 2 + 0.8 * 2) / 5)
    assert aiq(COST, QUALITY, 1.5, 3) == pytest.approx((0.5 * 0.5 + 0.65 * 1) / 1.5)


def test_aiq_refuses_what_it_cannot_say() -> None:
    with pytest.raises(ValueError, match=r"no point is as cheap as 0\.5"):
        aiq(COST, QUALITY, 0.5, 4)
    with pytest.raises(ValueError, match="range of costs is empty"):
        aiq(COST, QUALITY, 2, 2)


def test_cost_of_a_quality() -> None:
    assert cost_of(COST, QUALITY, 0.6) == 2
    assert cost_of(COST, QUALITY, 0.9) == float("inf")
