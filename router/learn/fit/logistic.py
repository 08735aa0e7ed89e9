"""Logistic regression of many models at once, with a prior that ties their weights. Newton's method. Matrices only."""

from collections.abc import Callable
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import sparse

from router.learn.fit.design import Matrix
from router.learn.fit.recipe import Tie

Floats = npt.NDArray[np.float32]
Point = tuple[Floats, Floats]
NEWTONS = 2
IMITATED = np.float32(0.2)  #: weight of a logit that is imitated: about the curvature of a label
FLAT = np.float32(0.01)  #: least curvature of a label: a step from a sure prediction stays a step
TOLERANCE = 0.03  #: of the residual, against its start
EXACT = 0.004  #: the same, for `imitate`: to stop early there is to hold back more than its ridge says


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
    newtons: int = NEWTONS,
) -> Weights:
    """Minimises the weighted log loss of `scores` [prompts, models] (in 0..1; weight 0 where unknown) plus
    `ridge / 2 * |hidden|^2`, for `logits = x @ hidden @ prior.T + bias + offset`. Newton's method: `newtons`
    systems, each by `steps` conjugate gradients at most."""
    problem = _Problem(x, x.sparse.T.tocsr(), prior, ridge, bias)
    hidden = np.zeros((x.shape[1], prior.shape[1]), np.float32)
    constant = np.zeros(len(prior), np.float32)
    if bias and not isinstance(offset, np.ndarray):
        hits, misses = (weights * scores).sum(0), (weights * (1 - scores)).sum(0)
        constant = np.asarray(np.log((hits + 1) / (misses + 1)), np.float32)
    at = newton(problem, scores, weights, (hidden, constant), newtons, steps, on_step, offset)
    return Weights(at[0], prior, at[1])


def imitate(
    x: Matrix,
    wanted: Floats,
    prior: Floats,
    ridge: float,
    steps: int,
    on_step: Callable[[], None] = lambda: None,
    weights: Floats | float = 1.0,
) -> Weights:
    """Least squares: weights whose logits come nearest to `wanted` [prompts, models], and `ridge / 2 * |hidden|^2`.
    `weights`: of each, as `wanted`."""
    problem = _Problem(x, x.sparse.T.tocsr(), prior, ridge, bias=True)
    curvature = np.full_like(wanted, IMITATED) * weights
    back = problem.pulled(curvature * wanted)
    hidden, bias = _solve(problem, curvature, back, steps, on_step, EXACT)
    return Weights(hidden, prior, bias)


class Problem(Protocol):
    """A map from points, (hidden, bias), to logits, and the ridge on hidden."""

    @property
    def ridge(self) -> float: ...

    def logits(self, hidden: Floats, bias: Floats) -> Floats: ...

    def pulled(self, error: Floats) -> Point:
        """The transpose of `logits`."""
        ...

    def diagonal(self, curvature: Floats) -> Point:
        """Of the Hessian."""
        ...


def newton(
    problem: Problem,
    scores: Floats,
    weights: Floats,
    start: Point,
    newtons: int,
    steps: int,
    on_step: Callable[[], None],
    offset: Floats | float = 0.0,
) -> Point:
    """Newton's method on the weighted log loss of `scores`, shaped as the problem's logits are."""
    hidden, bias = start
    for _ in range(newtons):
        quality = sigmoid(problem.logits(hidden, bias) + offset)
        error, curvature = weights * (quality - scores), weights * np.maximum(quality * (1 - quality), FLAT)
        slope = problem.pulled(error)
        target = -(slope[0] + problem.ridge * hidden), -slope[1]
        step = _solve(problem, curvature, target, steps, on_step)
        hidden, bias = hidden + step[0], bias + step[1]
    return hidden, bias


def _solve(
    problem: Problem,
    curvature: Floats,
    target: Point,
    steps: int,
    on_step: Callable[[], None],
    tolerance: float = TOLERANCE,
) -> Point:
    """Conjugate gradients on the Hessian, preconditioned by its diagonal."""
    diagonal = problem.diagonal(curvature)
    at: Point = np.zeros_like(target[0]), np.zeros_like(target[1])
    rest = target
    ahead: Point = rest[0] / diagonal[0], rest[1] / diagonal[1]
    direction: Point = ahead
    size = _inner(rest, ahead)
    enough = size * tolerance**2
    for _ in range(steps):
        on_step()
        if size <= enough:
            continue
        pulled = problem.pulled(curvature * problem.logits(*direction))
        along: Point = np.asarray(pulled[0] + problem.ridge * direction[0], np.float32), pulled[1]
        length = np.float32(size / _inner(direction, along))
        at = at[0] + length * direction[0], at[1] + length * direction[1]
        rest = rest[0] - length * along[0], rest[1] - length * along[1]
        ahead = rest[0] / diagonal[0], rest[1] / diagonal[1]
        last, size = size, _inner(rest, ahead)
        turn = np.float32(size / last)
        direction = ahead[0] + turn * direction[0], ahead[1] + turn * direction[1]
    return at


class _Problem(msgspec.Struct, frozen=True):
    """One fit's matrices: a logit per prompt and model."""

    x: Matrix
    turned: sparse.csr_matrix
    prior: Floats
    ridge: float
    bias: bool

    def logits(self, hidden: Floats, bias: Floats) -> Floats:
        return np.asarray(self.x.dot(hidden) @ self.prior.T + bias)

    def pulled(self, error: Floats) -> Point:
        back = error @ self.prior
        hidden = np.concatenate([self.turned @ back, self.x.dense.T @ back])
        return hidden, error.sum(0) if self.bias else np.zeros(len(self.prior), np.float32)

    def diagonal(self, curvature: Floats) -> Point:
        spread = curvature @ self.prior**2
        squared = self.turned.multiply(self.turned).tocsr() @ spread
        hidden = np.concatenate([squared, (self.x.dense**2).T @ spread]) + self.ridge
        return np.asarray(hidden, np.float32), np.asarray(curvature.sum(0) + 1e-3, np.float32)


def _inner(one: Point, other: Point) -> float:
    return float(np.vdot(one[0], other[0])) + float(np.vdot(one[1], other[1]))
