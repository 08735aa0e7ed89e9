"""Fits the judge's curves: three additive models of straight pieces, their mean by shares that held-out answers choose,
and a line per model that calibrates it. Arrays in, arrays out; reads no tables.

    floor   length and least log-probability, each only in its direction (`observed.SIGNS`)
    signed  all statistics of tokens, each only in its direction
    free    all numbers, the prior too, any way

`free` is best on answers like those that it learnt from, `floor` where they are unlike.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from router.learn.verifier.fit import scales
from router.verify.judged import KNOTS
from router.verify.observed import OBSERVED, SIGNS

RIDGE = 10.0  #: of the curves' slopes, in log odds per standard deviation; log loss summed over answers
LINE_RIDGE = 10.0  #: of a model's line around slope 1 and offset 0
FLOOR = ("tokens", "excess", "cut", "least_logprob")
SIGNED = (
    *FLOOR, "mean_logprob", "recent_logprob", "surprise", "mean_entropy", "recent_entropy", "mean_margin",
    "least_margin", "recent_margin",
)  # fmt: skip
EXPERTS: dict[str, tuple[str, ...]] = {"floor": FLOOR, "signed": SIGNED, "free": OBSERVED}
SHARES: dict[str, float] = {"floor": 0.5, "signed": 0.25, "free": 0.25}  #: where held-out answers cannot choose them

Floats = npt.NDArray[np.float64]
_START, _WIDTH = np.array(KNOTS[:-1]), np.diff(KNOTS)
_ZERO = KNOTS.index(0.0)


class Additive(msgspec.Struct, frozen=True, kw_only=True):
    """Over `OBSERVED`: `curve` [numbers, KNOTS] by standard deviations from `centre`; log odds."""

    centre: Floats
    scale: Floats
    curve: Floats
    unknown: Floats
    bias: float

    def log_odds(self, x: Floats) -> Floats:
        """[answers] of [answers, numbers], NaN: unknown."""
        known = np.isfinite(x)
        z = np.clip(np.where(known, (x - self.centre) / self.scale, 0), KNOTS[0], KNOTS[-1])
        terms = np.stack([np.interp(z[:, k], KNOTS, self.curve[k]) for k in range(x.shape[1])], axis=1)
        return np.asarray(self.bias + np.where(known, terms, self.unknown).sum(1))


def fit(x: Floats, right: Floats, expert: str) -> Additive:
    """`x` [answers, OBSERVED], NaN: unknown; `right` 0..1."""
    from scipy.optimize import minimize

    known = np.isfinite(x)
    centre, scale = scales(x)
    used = [k for k, name in enumerate(OBSERVED) if name in EXPERTS[expert] and _tells(x[:, k])]
    ramps = _ramps(np.where(known, (x - centre) / scale, 0))[:, used] * known[:, used, None]
    count = len(used) * len(_START)
    design = np.concatenate([ramps.reshape(len(x), count), ~known[:, used]], axis=1)
    columns = design.shape[1]

    def loss(weights: Floats) -> tuple[float, Floats]:
        slopes = weights[:columns]
        z = design @ slopes + weights[columns]
        rest = _sigmoid(z) - right
        value = float(np.logaddexp(0, z).sum() - right @ z + RIDGE / 2 * slopes @ slopes)
        return value, np.append(design.T @ rest + RIDGE * slopes, rest.sum())

    free: list[tuple[float | None, float | None]] = [(None, None)]
    signed: dict[int, list[tuple[float | None, float | None]]] = {-1: [(None, 0.0)], 1: [(0.0, None)]}
    ways = [free if expert == "free" else signed[SIGNS[OBSERVED[k]]] for k in used]
    bounds = [one for way in ways for one in way * len(_START)] + free * (len(used) + 1)
    found = minimize(loss, np.zeros(columns + 1), jac=True, method="L-BFGS-B", bounds=bounds).x
    curve, unknown = np.zeros((len(OBSERVED), len(KNOTS))), np.zeros(len(OBSERVED))
    rises = found[:count].reshape(len(used), len(_START)) * _WIDTH
    whole = np.concatenate([np.zeros((len(used), 1)), np.cumsum(rises, axis=1)], axis=1)
    curve[used] = whole - whole[:, [_ZERO]]
    unknown[used] = found[count:columns]
    return Additive(centre=centre, scale=scale, curve=curve, unknown=unknown, bias=float(found[columns]))


def mean(models: Sequence[Additive], shares: Sequence[float]) -> Additive:
    """Of models of the same answers: their log odds are averaged."""
    return Additive(
        centre=models[0].centre, scale=models[0].scale,
        curve=np.tensordot(np.array(shares), np.stack([one.curve for one in models]), 1),
        unknown=np.tensordot(np.array(shares), np.stack([one.unknown for one in models]), 1),
        bias=float(np.dot(shares, [one.bias for one in models])),
    )  # fmt: skip


def line(log_odds: Floats, right: Floats) -> tuple[float, float]:
    """Slope and offset that calibrate `log_odds`, held near 1 and 0 by `LINE_RIDGE`. The slope is not below 0."""
    from scipy.optimize import minimize

    design = np.stack([log_odds, np.ones(len(log_odds))], axis=1)
    towards = np.array([1.0, 0.0])

    def loss(at: Floats) -> tuple[float, Floats]:
        z, away = design @ at, at - towards
        value = float(np.logaddexp(0, z).sum() - right @ z + LINE_RIDGE / 2 * away @ away)
        return value, design.T @ (_sigmoid(z) - right) + LINE_RIDGE * away

    slope, offset = minimize(loss, towards, jac=True, method="L-BFGS-B", bounds=[(0.0, None), (None, None)]).x
    return float(slope), float(offset)


def _tells(values: Floats) -> bool:
    """It varies, or it is known of some answers only."""
    known = values[np.isfinite(values)]
    return len(known) > 0 and (len(known) < len(values) or bool(known.std() > 1e-9))


def _ramps(z: Floats) -> Floats:
    """[answers, numbers, pieces]: how far each value goes into each piece, from the mean, in standard deviations."""
    inside = np.clip(z[:, :, None] - _START, 0, _WIDTH)
    return np.asarray(inside - np.where(_START < 0, _WIDTH, 0))


def _sigmoid(z: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * z)))
