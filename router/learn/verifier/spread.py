"""How far what is thought of an answer moves once it is seen, and how far models' answers move together: what a plan
(`router.policy.plan`) needs to know, from held-out labels.

All columns are of one length and held out: no fit behind them has seen the answer's question.
"""

import math

import numpy as np
import numpy.typing as npt

Column = npt.ArrayLike
LEAST = 30  #: answers from which anything is estimated


def spread(prior: Column, posterior: Column, right: Column) -> float:
    """Standard deviation of the posterior mean about the prior, in quality points.

    `prior`, `posterior`: P(right) before an answer and after it; `right`: its label. Of a posterior that is right about
    itself, cov(posterior - prior, right - prior) is the variance of posterior - prior; one that says more than it knows
    is counted by what it knows. NaN: fewer than `LEAST` answers.
    """
    before, moved, missed = _columns(prior, posterior, right)
    if len(before) < LEAST:
        return math.nan
    said = float(np.std(moved))
    return max(0.0, float(np.mean((moved - moved.mean()) * (missed - missed.mean())))) / said if said > 0 else 0.0


def correlation(prior: Column, posterior: Column, other_prior: Column, other: Column, other_spread: float) -> float:
    """Of the posterior means of two models, 0..1, where only the first one's answers were judged.

    `other`: the second model's labels on the same prompts, or its own posteriors; `other_spread`: its spread. In the
    plan's model E[(other - other_prior) * z] = correlation * other_spread, z being the first one's move in deviations.
    NaN: fewer than `LEAST` prompts, or no spread.
    """
    _, moved, missed = _columns(prior, posterior, np.asarray(other, np.float64) - np.asarray(other_prior) + prior)
    deviation = float(np.std(moved)) if len(moved) else 0.0
    if len(moved) < LEAST or not deviation > 0 or not other_spread > 0:
        return math.nan
    found = float(np.mean((moved - moved.mean()) / deviation * (missed - missed.mean()))) / other_spread
    return min(max(found, 0.0), 1.0)


def _columns(prior: Column, posterior: Column, right: Column) -> tuple[npt.NDArray[np.float64], ...]:
    """The prior, how far the posterior moved from it, and how far the label lies from it; of rows that have all."""
    told = [np.asarray(column, np.float64) for column in (prior, posterior, right)]
    if len({column.shape for column in told}) > 1 or told[0].ndim != 1:
        raise ValueError(f"expected columns of one length, got shapes {[column.shape for column in told]}")
    columns = np.array(told)
    before, after, label = columns[:, np.isfinite(columns).all(0)]
    return before, after - before, label - before
