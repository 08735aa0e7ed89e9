"""Measures of calibration: reliability bins and the calibration error. Works on numbers only."""

import msgspec
import numpy as np
import numpy.typing as npt

BINS = 15  #: as in Guo et al. (2017)

Floats = npt.NDArray[np.floating]


class Bin(msgspec.Struct, frozen=True):
    """Prompts of about the same prediction."""

    predicted: float  #: mean predicted quality
    scored: float  #: mean score
    prompts: int


def equal_mass(score: Floats, quality: Floats, bins: int = BINS) -> tuple[Bin, ...]:
    """About as many prompts in each, in rising order of prediction. Equal predictions are in one bin, so there may be
    fewer."""
    ordered = np.sort(quality)
    starts = np.unique(np.searchsorted(ordered, ordered[np.arange(bins) * len(ordered) // bins]))
    return _bins(score, quality, np.searchsorted(ordered[starts], quality, side="right") - 1)


def equal_width(score: Floats, quality: Floats, bins: int = BINS) -> tuple[Bin, ...]:
    """Bins as wide as each other over 0..1; empty ones are left out."""
    return _bins(score, quality, np.minimum((np.asarray(quality, np.float64) * bins).astype(np.int64), bins - 1))


def ece(bins: tuple[Bin, ...]) -> float:
    """Expected calibration error: the bins' mean distance of prediction and score, each prompt counting once."""
    total = sum(bin.prompts for bin in bins)
    return sum(bin.prompts * abs(bin.predicted - bin.scored) for bin in bins) / total


def _bins(score: Floats, quality: Floats, index: npt.NDArray[np.int64]) -> tuple[Bin, ...]:
    found = []
    for bin in np.unique(index):
        inside = index == bin
        predicted, scored = (float(np.mean(values[inside], dtype=np.float64)) for values in (quality, score))
        found.append(Bin(predicted, scored, int(inside.sum())))
    return tuple(found)
