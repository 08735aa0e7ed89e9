"""Fits the same weights from battles as from scores: P(a preferred) is a logistic of the difference of two logits.

    P(a preferred to b | x) = sigmoid(logit_a(x) - logit_b(x))

as in Bradley and Terry (1952), each logit linear in the prompt; a tie is half a win of either side. Works on matrices
only.
"""

from collections.abc import Callable

import msgspec
import numpy as np
from scipy import sparse

from router.learn.data.corpus import Battled
from router.learn.fit.design import Matrix
from router.learn.fit.logistic import NEWTONS, Floats, Point, Weights, newton


def fit_battles(
    x: Matrix,
    battles: Battled,
    prior: Floats,
    ridge: float,
    steps: int,
    on_step: Callable[[], None] = lambda: None,
) -> Weights:
    """Minimises the log loss of the outcomes plus `ridge / 2 * |hidden|^2`; x [prompts, features], prior [models, k].

    Battles tell differences alone: the models' mean logit is 0 on every prompt, so a quality is the odds against an
    average model of the table.
    """
    fought = Matrix(x.sparse[battles.prompt], x.dense[battles.prompt])
    problem = _Battles(fought, fought.sparse.T.tocsr(), prior[battles.a] - prior[battles.b], battles, len(prior), ridge)
    start = np.zeros((x.shape[1], prior.shape[1]), np.float32), np.zeros(len(prior), np.float32)
    weights = np.ones(len(battles.outcome), np.float32)
    hidden, bias = newton(problem, battles.outcome, weights, start, NEWTONS, steps, on_step)
    return Weights(hidden, prior - prior.mean(0), bias - bias.mean())


class _Battles(msgspec.Struct, frozen=True):
    """One fit's matrices: a logit per battle. `apart` [battles, k]: the prior's row of a less that of b."""

    x: Matrix
    turned: sparse.csr_matrix
    apart: Floats
    battles: Battled
    models: int
    ridge: float

    def logits(self, hidden: Floats, bias: Floats) -> Floats:
        own = np.einsum("ik,ik->i", self.x.dot(hidden), self.apart)
        return np.asarray(own + bias[self.battles.a] - bias[self.battles.b], np.float32)

    def pulled(self, error: Floats) -> Point:
        back = error[:, None] * self.apart
        return np.concatenate([self.turned @ back, self.x.dense.T @ back]), self._summed(error, -error)

    def diagonal(self, curvature: Floats) -> Point:
        spread = curvature[:, None] * self.apart**2
        squared = self.turned.multiply(self.turned).tocsr() @ spread
        hidden = np.concatenate([squared, (self.x.dense**2).T @ spread]) + self.ridge
        return np.asarray(hidden, np.float32), self._summed(curvature, curvature) + np.float32(1e-3)

    def _summed(self, of_a: Floats, of_b: Floats) -> Floats:
        total = np.bincount(self.battles.a, of_a, self.models) + np.bincount(self.battles.b, of_b, self.models)
        return np.asarray(total, np.float32)
