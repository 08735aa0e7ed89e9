"""Logistic regression of many models at once, with a prior that ties them. Convex; L-BFGS. Knows only matrices."""

from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from router.learn.design import Matrix
from router.learn.recipe import Tie

Floats = npt.NDArray[np.float32]


class Weights(msgspec.Struct, frozen=True):
    """`logits = x @ hidden @ ties.T + bias`: hidden [features, k], ties [models, k], bias [models]."""

    hidden: Floats
    ties: Floats
    bias: Floats

    def logits(self, x: Matrix) -> Floats:
        """[prompts, models]"""
        return np.asarray(x.dot(self.hidden) @ self.ties.T + self.bias, np.float32)


def sigmoid(z: Floats) -> Floats:
    """Without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * z)))


def ties(strengths: npt.NDArray[np.float64], tie: Tie) -> Floats:
    """[models, k]: the models' weights are drawn from a Gaussian of covariance `ties @ ties.T`: all move together,
    along their strength (NaN: unknown, taken as the mean), and each by itself."""
    known = np.isfinite(strengths)
    spread = float(strengths[known].std()) if known.sum() > 1 else 0.0
    standard = np.zeros((len(strengths), 1))
    if spread > 0:
        standard[known, 0] = (strengths[known] - strengths[known].mean()) / spread
    parts = [np.full_like(standard, tie.shared), tie.strength * standard, tie.single * np.eye(len(strengths))]
    out = np.concatenate(parts, axis=1).astype(np.float32)
    return np.asarray(out[:, np.abs(out).sum(0) > 0])


def fit(
    x: Matrix,
    scores: Floats,
    weights: Floats,
    prior: Floats,
    ridge: float,
    steps: int,
    on_step: Callable[[], None] = lambda: None,
    *,
    bias: bool = True,
    offset: Floats | float = 0.0,
) -> Weights:
    """Minimises the weighted log loss of `scores` [prompts, models] (in 0..1; weight 0 where unknown) plus
    `ridge / 2 * |hidden|^2`, for `logits = x @ hidden @ prior.T + bias + offset`."""
    turned = x.sparse.T.tocsr()
    shape = x.shape[1], prior.shape[1]
    size = shape[0] * shape[1]

    def loss(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        hidden = flat[:size].astype(np.float32).reshape(shape)
        z = x.dot(hidden) @ prior.T + flat[size:].astype(np.float32) + offset
        value = float((weights * (np.logaddexp(np.float32(0), z) - scores * z)).sum(dtype=np.float64))
        value += 0.5 * ridge * float(np.vdot(hidden, hidden))
        error = weights * (sigmoid(z) - scores)
        back = error @ prior
        gradient = np.concatenate([turned @ back, x.dense.T @ back]) + ridge * hidden
        slope = error.sum(0) if bias else np.zeros(len(prior))
        return value, np.concatenate([gradient.ravel(), slope]).astype(np.float64)

    hits, misses = (weights * scores).sum(0), (weights * (1 - scores)).sum(0)
    start = np.concatenate([np.zeros(size), np.log((hits + 1) / (misses + 1)) * bias])
    options = {"maxiter": steps, "maxcor": 6, "ftol": 1e-6}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", callback=lambda _: on_step(), options=options)
    flat = found.x.astype(np.float32)
    return Weights(flat[:size].reshape(shape), prior, flat[size:])
