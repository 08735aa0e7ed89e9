"""Reliability bins and the calibration error against cases worked by hand."""

import numpy as np
import pytest

from router.learn.evaluate.metrics_calibration import Bin, ece, equal_mass, equal_width

SCORE = np.array([0, 1, 0, 1, 1, 1], np.float32)
QUALITY = np.array([0.1, 0.3, 0.35, 0.6, 0.8, 0.9], np.float32)


def test_equal_mass_by_hand() -> None:
    bins = equal_mass(SCORE, QUALITY, 3)
    assert [bin.prompts for bin in bins] == [2, 2, 2]
    assert [bin.scored for bin in bins] == [0.5, 0.5, 1.0]
    assert [bin.predicted for bin in bins] == pytest.approx([0.2, 0.475, 0.85])
    assert ece(bins) == pytest.approx((0.3 + 0.025 + 0.15) / 3)


def test_equal_width_by_hand_leaves_empty_bins_out() -> None:
    bins = equal_width(SCORE, QUALITY, 4)
    assert [bin.prompts for bin in bins] == [1, 2, 1, 2]
    assert ece(bins) == pytest.approx((0.1 + 2 * abs(0.325 - 0.5) + 0.4 + 2 * 0.15) / 6)
    assert equal_width(np.array([1.0]), np.array([1.0]), 4) == (Bin(1.0, 1.0, 1),)


def test_equal_predictions_share_a_bin() -> None:
    bins = equal_mass(SCORE, np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.9]), 6)
    assert [bin.prompts for bin in bins] == [5, 1]
    assert equal_mass(SCORE, np.full(6, 0.5), 3) == (Bin(0.5, pytest.approx(4 / 6), 6),)


def test_a_right_prediction_has_no_error() -> None:
    rng = np.random.default_rng(0)
    quality = rng.random(200_000)
    score = (rng.random(200_000) < quality).astype(float)
    assert ece(equal_mass(score, quality)) < 0.01
    assert ece(equal_mass(score, np.sqrt(quality))) > 0.1
