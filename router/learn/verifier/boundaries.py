"""What is known of an answer that still runs: P(right) and the tokens still to come, at knots over its tokens.

    logit P(right | still running at t_k, statistic x) = intercept_k + slope_k * x + prior_weight_k * logit(prior)

An answer that runs long is mostly wrong, so each knot is fitted on the answers alone that got so far.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from router.learn.verifier.fit import newton
from router.learn.verifier.series import Series, moving_means
from router.verify.judged import Running
from router.watched import Statistic

FEWEST = 40  #: answers that still run at a knot, right and wrong ones
RIDGE = 3.0
QUANTILES = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.85, 0.93)  #: of the answers' tokens: where knots stand

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_SERIES: tuple[tuple[Statistic, str], ...] = (("logprob", "logprobs"), ("entropy", "entropies"), ("margin", "margins"))


class Paths(msgspec.Struct, frozen=True, kw_only=True):
    """Answers on their way. `statistics[name][i]`: of the i-th answer, after each of its tokens."""

    tokens: Floats
    right: Floats
    prior: Floats  #: log odds
    statistics: dict[Statistic, tuple[Floats, ...]]

    def part(self, rows: Ints) -> "Paths":
        kept = {name: tuple(values[i] for i in rows) for name, values in self.statistics.items()}
        return Paths(tokens=self.tokens[rows], right=self.right[rows], prior=self.prior[rows], statistics=kept)


def paths(series: Sequence[Series | None], tokens: Floats, right: Floats, prior: Floats) -> Paths:
    """Statistics are those that all answers have; the tokens alone always."""
    found: dict[Statistic, tuple[Floats, ...]] = {}
    for name, column in _SERIES:
        if all(one is not None and getattr(one, column) for one in series):
            found[name] = tuple(moving_means(getattr(one, column)) for one in series)
    return Paths(tokens=tokens, right=right, prior=prior, statistics=found)


def running(at: Paths, folds: Ints) -> Running:
    """By the statistic that says most of answers held out by `folds` [answers]: another than the tokens only where it
    is better than these by a standard error. Empty where too few answers got anywhere."""
    knots = _knots(at)
    if not knots:
        return Running()
    base = _held_losses(at, "tokens", knots, folds)
    best: tuple[float, Statistic] = (0.0, "tokens")
    for name in at.statistics:
        less = base - _held_losses(at, name, knots, folds)
        error = float(less.std()) / math.sqrt(max(1, len(less)))
        if less.mean() > error:
            best = max(best, (float(less.mean()), name))
    return _fit(at, best[1], knots)


def chances(at: Paths, of: Running) -> Floats:
    """P(right) [answers, knots]; NaN where an answer has ended before the knot."""
    out = np.full((len(at.tokens), len(of.tokens)), np.nan)
    for k, knot in enumerate(of.tokens):
        rows = np.flatnonzero(at.tokens > knot)
        z = (
            of.intercept[k]
            + of.slope[k] * _statistic(at, of.statistic, rows, knot)
            + of.prior_weight[k] * at.prior[rows]
        )
        out[rows, k] = 0.5 * (1 + np.tanh(0.5 * z))
    return out


def held_chances(at: Paths, folds: Ints, of: Running) -> Floats:
    """`chances` by fits that have not seen the answer's fold, with the knots and the statistic of `of`."""
    out = np.full((len(at.tokens), len(of.tokens)), np.nan)
    if of.tokens:
        for fold in np.unique(folds):
            test = np.flatnonzero(folds == fold)
            made = _fit(at.part(np.flatnonzero(folds != fold)), of.statistic, of.tokens)
            out[test] = chances(at.part(test), made)
    return out


def _knots(at: Paths) -> tuple[float, ...]:
    known = at.tokens[np.isfinite(at.tokens)]
    if len(known) < FEWEST:
        return ()
    found = []
    for knot in sorted({max(1.0, float(math.floor(np.quantile(known, q)) - 1)) for q in QUANTILES}):
        right = at.right[at.tokens > knot]
        if len(right) >= FEWEST and 0 < (right > 0.5).mean() < 1:
            found.append(knot)
    return tuple(found)


def _fit(at: Paths, statistic: Statistic, knots: Sequence[float]) -> Running:
    columns: list[tuple[float, float, float, float]] = []
    for knot in knots:
        rows = np.flatnonzero(at.tokens > knot)
        x = _statistic(at, statistic, rows, knot)
        centre, scale = (float(x.mean()), max(1e-6, float(x.std()))) if len(rows) else (0.0, 1.0)
        prior = at.prior[rows]
        found = newton(np.stack([(x - centre) / scale, prior], axis=1), at.right[rows], RIDGE)
        slope = float(found[0]) / scale if statistic != "tokens" else 0.0
        left = float((at.tokens[rows] - knot).mean()) if len(rows) else 0.0
        columns.append((float(found[2]) - slope * centre, slope, float(found[1]), left))
    intercept, slopes, weights, left_over = zip(*columns, strict=True)
    return Running(
        statistic=statistic, tokens=tuple(knots), intercept=intercept, slope=slopes, prior_weight=weights,
        left=left_over,
    )  # fmt: skip


def _statistic(at: Paths, statistic: Statistic, rows: Ints, knot: float) -> Floats:
    """After `knot` tokens, of answers that have more."""
    if statistic == "tokens":
        return np.zeros(len(rows))
    values = at.statistics[statistic]
    return np.array([values[i][min(int(knot), len(values[i])) - 1] for i in rows])


def _held_losses(at: Paths, statistic: Statistic, knots: tuple[float, ...], folds: Ints) -> Floats:
    """Log loss of each answer, over the knots that it got to."""
    chance = held_chances(at, folds, Running(statistic=statistic, tokens=knots))
    with np.errstate(divide="ignore", invalid="ignore"):
        each = -(at.right[:, None] * np.log(chance) + (1 - at.right[:, None]) * np.log(1 - chance))
    return np.asarray(np.nansum(each, axis=1))
