"""Calibrates log odds per model: by a line (Platt, 1999), or by an increasing curve (isotonic; Zadrozny and Elkan,
2002). Fitted on held-out logits; the artefact keeps the result and every head applies it."""

from typing import Literal, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from router.errors import ConfigError
from router.heads import Artefact
from router.heads.curves import X, Y

Method = Literal["platt", "isotonic", "none"]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

PRIOR = 10.0  #: labels' worth of belief in slope 1; and in Platt's line, at each bin of the isotonic curve
LEAST_SLOPE = 0.01  #: of a line: no calibration turns a model's ranking round
BINS = 32  #: of the isotonic curve: as many prompts in each
SURE = 1e-4  #: no curve is surer than this


def calibrated(artefact: Artefact, logits: Floats, scores: Floats, method: Method = "platt") -> Artefact:
    """The artefact, its models calibrated by held-out `logits` and their `scores` (0..1), both [prompts, models], NaN
    where unknown. The logits are those that the artefact's method says without calibration.

    A line of `mf` is folded into its vectors and biases and costs nothing; all else is kept as curves. Raises
    ConfigError for an artefact that is calibrated already, and for another method.
    """
    if method not in get_args(Method):
        raise ConfigError(f"--calibration: expected one of {', '.join(get_args(Method))}; got {method!r}")
    if X in artefact.arrays or artefact.meta.calibration not in ("", "none"):
        raise ConfigError(f"{artefact.path}: expected an uncalibrated router, got one calibrated before")
    arrays = dict(artefact.arrays)
    if method == "platt" and artefact.meta.router == "mf":
        slope, offset = lines(logits, scores).T
        arrays["vectors"] = arrays["vectors"] * slope[:, None]
        arrays["bias"] = arrays["bias"] * slope + offset
    elif method != "none":
        arrays[X], arrays[Y] = knots(logits, scores, method)
    meta = msgspec.structs.replace(artefact.meta, calibration=method)
    return msgspec.structs.replace(artefact, meta=meta, arrays=arrays)


def platt(logits: Floats, scores: Floats, steps: int = 50) -> tuple[float, float]:
    """`a, c` such that `sigmoid(a * logit + c)` fits the scores (0..1) best; Newton's method, held near slope 1."""
    z, y = np.asarray(logits, np.float64), np.asarray(scores, np.float64)
    at = np.array([1.0, 0.0])
    x = np.stack([z, np.ones_like(z)])
    prior = np.diag([PRIOR, 1e-3])

    def loss(point: npt.NDArray[np.float64]) -> float:
        along, off = point @ x, point - [1.0, 0.0]
        return float((np.logaddexp(0, along) - y * along).sum() + 0.5 * off @ prior @ off)

    for _ in range(steps):
        q = 0.5 * (1 + np.tanh(0.5 * (at @ x)))
        gradient = x @ (q - y) + prior @ (at - [1.0, 0.0])
        step = np.linalg.solve((x * (q * (1 - q))) @ x.T + prior, gradient)
        while loss(at - step) > loss(at) and np.abs(step).max() > 1e-9:
            step = step / 2  # far from the answer a whole step may overshoot
        at = at - step
        if np.abs(step).max() < 1e-9:
            break
    if at[0] < LEAST_SLOPE:
        mean = (y.sum() + 1) / (len(y) + 2)
        return LEAST_SLOPE, float(_logit(mean) - LEAST_SLOPE * z.mean())
    return float(at[0]), float(at[1])


def lines(logits: Floats, scores: Floats) -> Floats:
    """`[models, 2]`: the line of each column of held-out logits; slope 1, offset 0 where nothing is known."""
    out = untouched(scores.shape[1])
    for column in range(scores.shape[1]):
        known = np.isfinite(scores[:, column]) & np.isfinite(logits[:, column])
        if known.any():
            out[column] = platt(logits[known, column], scores[known, column])
    return out


def untouched(models: int) -> Floats:
    """`[models, 2]`: lines that leave all as it is."""
    return np.tile(np.array([1.0, 0.0], np.float32), (models, 1))


def knots(logits: Floats, scores: Floats, method: Method) -> tuple[Floats, Floats]:
    """`x, y` [models, knots] of `router.heads.curves`: curves of each column of held-out logits."""
    found = []
    for column, line in enumerate(lines(logits, scores)):
        known = np.isfinite(scores[:, column]) & np.isfinite(logits[:, column])
        z, y = np.asarray(logits[known, column], np.float64), np.asarray(scores[known, column], np.float64)
        found.append(isotonic(z, y, line) if method == "isotonic" and known.any() else _of_line(line))
    most = max(len(x) for x, _ in found)
    padded = [_padded(x, y, most) for x, y in found]
    return np.stack([x for x, _ in padded]), np.stack([y for _, y in padded])


def isotonic(logits: Doubles, scores: Doubles, line: Floats) -> tuple[Floats, Floats]:
    """Knots of one model. Bins of equally many prompts, each drawn to Platt's line by `PRIOR` labels, are pooled until
    they rise; a knot stands at the centre of each pool, so the curve rises between them as well (centred isotonic
    regression; Oron and Flournoy, 2017). Beyond the outermost knots it goes on along Platt's slope."""
    a, c = float(line[0]), float(line[1])
    x, hits, count = _bins(logits, scores)
    believed = 0.5 * (1 + np.tanh(0.5 * (a * x + c)))
    rates = (hits + PRIOR * believed) / (count + PRIOR)
    centres, pooled_rates, _ = pooled(x, rates, count + PRIOR)
    y = _logit(np.clip(pooled_rates, SURE, 1 - SURE))
    ends = np.array([-1.0, *np.zeros(len(y)), 1.0])
    return _rising(np.pad(centres, 1, "edge") + ends, np.pad(y, 1, "edge") + max(a, LEAST_SLOPE) * ends)


def pooled(x: Doubles, y: Doubles, weight: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Pools of adjacent points whose means rise: their centres, means and weights (Ayer et al., 1955)."""
    from sklearn.isotonic import isotonic_regression

    fitted = isotonic_regression(y, sample_weight=weight)
    first = np.concatenate([[0], np.flatnonzero(np.diff(fitted) > 0) + 1])
    total = np.add.reduceat(weight, first)
    return np.add.reduceat(x * weight, first) / total, fitted[first], total


def _bins(logits: Doubles, scores: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Mean logit, sum of scores and number of prompts, in rising order. Equal logits are in one bin."""
    order = np.argsort(logits, kind="stable")
    z, y = logits[order], scores[order]
    edges = np.unique(np.searchsorted(z, z[np.arange(BINS) * len(z) // BINS]))
    count = np.diff(np.append(edges, len(z))).astype(np.float64)
    return np.add.reduceat(z, edges) / count, np.add.reduceat(y, edges), count


def _of_line(line: Floats) -> tuple[Floats, Floats]:
    x = np.array([-1.0, 1.0], np.float32)
    return x, line[0] * x + line[1]


def _rising(x: Doubles, y: Doubles) -> tuple[Floats, Floats]:
    """In single precision, less the inner knots that no longer rise there."""
    x32, y32 = x.astype(np.float32), y.astype(np.float32)
    kept = [0]
    for i in range(1, len(x)):
        if x32[i] > x32[kept[-1]] and y32[i] > y32[kept[-1]]:
            kept.append(i)
    return x32[kept], y32[kept]


def _padded(x: Floats, y: Floats, knots: int) -> tuple[Floats, Floats]:
    """The outermost line drawn out until there are `knots` knots."""
    more = np.arange(1, knots - len(x) + 1, dtype=np.float32)
    slope = (y[-1] - y[-2]) / (x[-1] - x[-2])
    return np.append(x, x[-1] + more), np.append(y, y[-1] + slope * more)


def _logit(p: npt.NDArray[np.floating] | float) -> Doubles:
    p = np.asarray(p, np.float64)
    return np.asarray(np.log(p / (1 - p)))
