"""A linear probe on the logits at an answer's first token: with the prior, the model's own estimate of its answer.

Logits are a linear image of the last hidden state, so a probe on a fixed choice of them is one on that state (see
docs/moments.md for its sources).
"""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from router.learn.verifier.auroc import auc
from router.learn.verifier.fit import newton

FEWEST = 200  #: answers of a model
RIDGES = (30.0, 100.0, 300.0, 1000.0, 3000.0)
PRIOR_SCALE = 10.0  #: how many times less than the logits the prior's weight is held back

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """log odds = bias + prior * logit(prior) + weights . logits."""

    weights: Floats
    bias: float
    prior: float

    def log_odds(self, logits: Floats, prior: Floats) -> Floats:
        return np.asarray(self.bias + self.prior * prior + logits @ self.weights)


class Probed(msgspec.Struct, frozen=True, kw_only=True):
    """Of one model: the probe, and what it says of answers held out by question."""

    probe: Probe
    held: Floats
    auroc: float
    prior_auroc: float
    gains: bool  #: in log loss over the prior, by two standard errors


def probed(first: Sequence[Sequence[float]], right: Floats, prior: Floats, folds: Ints) -> Probed | None:
    """None where too few answers have logits, or not as many each."""
    sizes = {len(one) for one in first}
    if len(right) < FEWEST or len(sizes) != 1 or 0 in sizes or not 0 < (right > 0.5).mean() < 1:
        return None
    logits = np.array(first, np.float64)
    held = {ridge: _held(logits, right, prior, folds, ridge) for ridge in RIDGES}
    losses = {ridge: _losses(said, right) for ridge, said in held.items()}
    ridge = min(RIDGES, key=lambda each: float(losses[each].sum()))
    less = _losses(prior, right) - losses[ridge]
    return Probed(
        probe=fit(logits, right, prior, ridge), held=held[ridge], auroc=auc(right, held[ridge]),
        prior_auroc=auc(right, prior), gains=bool(less.mean() > 2 * less.std() / np.sqrt(len(less))),
    )  # fmt: skip


def fit(logits: Floats, right: Floats, prior: Floats, ridge: float) -> Probe:
    """`logits` [answers, tokens], `prior` log odds [answers]."""
    centre, scale = logits.mean(0), np.maximum(logits.std(0), 1e-3)
    found = newton(np.concatenate([(logits - centre) / scale, PRIOR_SCALE * prior[:, None]], axis=1), right, ridge)
    weights = found[:-2] / scale
    return Probe(weights=weights, bias=float(found[-1] - weights @ centre), prior=float(PRIOR_SCALE * found[-2]))


def _held(logits: Floats, right: Floats, prior: Floats, folds: Ints, ridge: float) -> Floats:
    out = np.full(len(right), np.nan)
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        out[test] = fit(logits[train], right[train], prior[train], ridge).log_odds(logits[test], prior[test])
    return out


def _losses(said: Floats, right: Floats) -> Floats:
    return np.asarray(np.logaddexp(0, said) - right * said)
