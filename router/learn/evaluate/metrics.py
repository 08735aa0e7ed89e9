"""The published measures of a two-model router: PGR, APGR, CPT, and their bootstrap. Works on numbers only.

From RouteLLM (Ong et al., 2024, section 2.2), with every rank a threshold and nothing clipped.
"""

import math

import msgspec
import numpy as np
import numpy.typing as npt

EVEN = 1e-6  #: a gap of no more is none
REDRAWS = 1000

Floats = npt.NDArray[np.floating]


class Curve(msgspec.Struct, frozen=True):
    """`pgr[i]` at a share `i / (len(pgr) - 1)` of strong calls."""

    pgr: npt.NDArray[np.float64]

    @property
    def apgr(self) -> float:
        """The area under PGR over the share: 0.5 at random; an oracle may exceed 1."""
        return float(np.trapezoid(self.pgr, dx=1 / (len(self.pgr) - 1)))

    def cpt(self, reach: float) -> float:
        """The smallest share of strong calls with PGR of at least `reach`."""
        return float(np.flatnonzero(self.pgr >= reach)[0]) / (len(self.pgr) - 1)


class Interval(msgspec.Struct, frozen=True):
    """A bootstrap's central 95 %. NaN (null in JSON) where there was one prompt to draw from: one says nothing of
    others."""

    low: float
    high: float


def curve(weak: Floats, strong: Floats, preference: Floats) -> Curve:
    """PGR when the prompts of highest `preference` go to the strong model, one more at each step.

    PGR(share) = (score of the routed mix - weak's) / (strong's - weak's). Equal preferences are taken in their mean
    order: their stretch is a straight line. Raises ValueError unless the strong model is the better one.
    """
    gain = (np.asarray(strong, np.float64) - np.asarray(weak, np.float64))[np.argsort(-preference, kind="stable")]
    if not gain.sum() > 0:
        raise ValueError("the strong model must have the higher mean score")
    ordered = np.sort(-np.asarray(preference, np.float64))
    edges = np.concatenate([[0], np.flatnonzero(np.diff(ordered)) + 1, [len(gain)]])
    routed = np.concatenate([[0.0], np.cumsum(gain)])
    return Curve(np.interp(np.arange(len(gain) + 1), edges, routed[edges]) / routed[-1])


def oracle(weak: Floats, strong: Floats) -> Floats:
    """The preference that knows the answers."""
    return np.asarray(strong, np.float64) - np.asarray(weak, np.float64)


def bootstrap(
    weak: Floats, strong: Floats, preferences: list[Floats], draws: int = 200, seed: int = 0
) -> npt.NDArray[np.float64]:
    """APGR of each preference on the same resampled prompts: [draws, preferences]. Paired: differences may be taken.

    Prompts without a gap to recover have no APGR: where the strong model is not the better one, they are drawn again.
    NaN where there is one prompt alone.
    """
    rng = np.random.default_rng(seed)
    out = np.full((draws, len(preferences)), np.nan)
    for draw in range(draws if len(weak) > 1 else 0):
        rows = _drawn(rng, weak, strong)
        out[draw] = [curve(weak[rows], strong[rows], preference[rows]).apgr for preference in preferences]
    return out


def _drawn(rng: np.random.Generator, weak: Floats, strong: Floats) -> npt.NDArray[np.int64]:
    """Prompts with a gap to recover; all of them once where `REDRAWS` draws have none."""
    for _ in range(REDRAWS):
        rows = rng.integers(0, len(weak), len(weak))
        if strong[rows].sum(dtype=np.float64) > weak[rows].sum(dtype=np.float64) + EVEN:
            return rows
    return np.arange(len(weak))


def interval(samples: Floats) -> Interval:
    """The central 95 % of bootstrap samples; NaN of NaN."""
    if np.isnan(samples).any():
        return Interval(math.nan, math.nan)
    low, high = np.quantile(samples, [0.025, 0.975])
    return Interval(float(low), float(high))


def brier(score: Floats, quality: Floats) -> float:
    """Mean squared difference of predicted quality and score."""
    return float(np.mean((np.asarray(quality, np.float64) - score) ** 2))
