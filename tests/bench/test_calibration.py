"""What bench/calibration.py works out besides `router.learn`."""

import calibration
import numpy as np
import pytest

from router.learn.data.corpus import Column, Corpus


def test_a_single_fold_shows_what_pooling_hides() -> None:
    """Of the upper fold all are sent where three in ten are asked for, of the lower one none."""
    gain = np.array([1.0, 2, 3, 4, 11, 12, 13, 14, np.nan])
    folds = np.array([0, 0, 0, 0, 1, 1, 1, 1, -1])
    assert calibration.worst_fold(gain, folds) == pytest.approx(70)


def test_a_fold_is_calibrated_by_the_others_alone() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (400, 1)).astype(np.float32)
    scores = (rng.random((400, 1)) < 0.9).astype(np.float32)
    folds = np.arange(400) % 2
    corpus = Corpus((), (Column(0, "m"),), scores, np.zeros(400, np.int64))
    before = calibration.held_out(corpus, folds, logits, "platt")
    scores[folds == 0] = 0
    after = calibration.held_out(corpus, folds, logits, "platt")
    assert (before[folds == 0] == after[folds == 0]).all()
    assert (after[folds == 1] < before[folds == 1]).all()
    assert calibration.held_out(corpus, folds, logits, "none") is logits
