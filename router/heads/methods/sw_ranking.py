"""Similarity-weighted ranking: per query, a Bradley-Terry fit of the models over all training prompts' battles, each
weighed by how like the query its prompt is.

Source: RouteLLM (Ong et al., 2024, section 4.1.1): w_i = 10^(1 + S_i / max S), here of another base. A prompt on which
models a and b scored s_a and s_b is a battle that a wins by (1 + s_a - s_b) / 2: a tie counts half, as there. So the
matrix of wins is linear in scores, two models have a closed form, and more take a few Newton steps.
"""

from collections.abc import Sequence
from copy import copy
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import Artefact
from router.errors import ConfigError
from router.heads.methods import embedding
from router.heads.methods.labelled import Group, groups, log_odds, means
from router.types import Segment

NEWTONS = 6
RIDGE = 1e-4  #: of a battle's weight: ratings stay finite where a model never loses
BLOCK = 64  #: queries at once: bounds the memory of a batch
COMMON = 32  #: prompts that the same models answered are reckoned with at once, if they are so many

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


class SwRankingSettings(msgspec.Struct, frozen=True, kw_only=True):
    base: float = 1e6  #: RouteLLM's is 10, over another embedding; larger: the nearest count for more

    def check(self, where: str) -> None:
        """Raises ConfigError."""
        if not 1 < self.base < 1e30:
            raise ConfigError(f"{where}: base: expected a number above 1, got {self.base:g}")


class Battles:
    """A group's prompts, those that the same models answered one after another. Immutable."""

    def __init__(self, group: Group) -> None:
        _, pattern, count = np.unique(group.known, axis=0, return_inverse=True, return_counts=True)
        pattern = np.where(count >= COMMON, np.arange(len(count)), len(count))[pattern.reshape(-1)]
        self.order = np.argsort(pattern, kind="stable")  #: of the group's prompts, in which weights are given
        self.models = group.models
        self._scores, self._known = group.scores[self.order], group.known[self.order]
        edges = [*np.flatnonzero(np.diff(pattern[self.order], prepend=-1)).tolist(), len(pattern)]
        alike = [slice(first, last) for first, last in pairwise(edges)]
        self._rest = alike.pop() if pattern.max() == len(count) else slice(0, 0)
        self._alike = alike
        self._pairs = group.known.shape[1] == 2 and bool(group.known.all())  # then there is a closed form

    def ranked(self, weights: Floats) -> Floats:
        """Log odds [queries, models], of prompts that weigh `weights` [queries, prompts]."""
        if self._pairs:
            means = (weights @ self._scores) / weights.sum(1, keepdims=True, dtype=np.float64)
            gap = np.asarray(log_odds((1 + means[:, 0] - means[:, 1]) / 2), np.float64)
            return _levelled(np.stack([gap / 2, -gap / 2], 1), means)
        fought, scored = self._matrices(weights)
        own = np.maximum(np.einsum("qaa->qa", fought), 1e-9)
        return _levelled(ratings(fought, scored), np.einsum("qaa->qa", scored) / own)

    def _matrices(self, weights: Floats) -> tuple[Doubles, Doubles]:
        """Weight of the prompts that a and b both answered, and a's score over them: [queries, models, models]."""
        models = self._known.shape[1]
        fought, scored = np.zeros((2, len(weights), models, models))
        for rows in self._alike:
            known = self._known[rows.start].astype(np.float64)
            fought += weights[:, rows].sum(1, dtype=np.float64)[:, None, None] * np.outer(known, known)
            scored += (weights[:, rows] @ self._scores[rows])[:, :, None] * known
        if self._rest.stop > self._rest.start:
            there = self._known[self._rest].astype(np.float32)
            for query, weight in enumerate(weights[:, self._rest, None]):
                fought[query] += (there * weight).T @ there
                scored[query] += (self._scores[self._rest] * weight).T @ there
        total = np.maximum(fought.max((1, 2), keepdims=True), 1e-30)
        return fought / total, scored / total


class SwRankingPredictor:
    """`sigmoid(logit_a - logit_b)` is RouteLLM's win rate of a over b. The common level of the logits, which ratings
    leave open, is set so that the mean quality is the weighted mean score."""

    slow = True  #: milliseconds: every training prompt is compared

    def __init__(self, artefact: Artefact) -> None:
        """Raises ConfigError where the file does not fit."""
        self._sharpness = np.float32(np.log(_settings(artefact).base))
        self._embedding = embedding.of(artefact)
        self._means = log_odds(means(artefact))
        self._parts: list[tuple[Battles, Floats]] = []
        for group in groups(artefact):
            shape = len(group.scores), self._embedding.dimensions
            points = artefact.array(f"{group.prefix}points", np.float16, shape)
            battles = Battles(group)
            self._parts.append((battles, points[battles.order].astype(np.float32)))

    def only(self, models: npt.NDArray[np.int64]) -> "SwRankingPredictor":
        """The same, asked for these models alone."""
        out = copy(self)
        out._parts = [part for part in self._parts if np.isin(part[0].models, models).any()]
        return out

    def logits(self, queries: Sequence[Sequence[Segment]]) -> Floats:
        points = self._embedding(queries)
        out = np.tile(self._means, (len(points), 1))
        for first in range(0, len(points), BLOCK):
            block = slice(first, first + BLOCK)
            for battles, known in self._parts:
                out[block, battles.models] = battles.ranked(self._weights(points[block] @ known.T))
        return out

    def tokens(self, segments: Sequence[Segment]) -> int:
        return self._embedding.tokens(segments)

    def _weights(self, likeness: Floats) -> Floats:
        """[queries, prompts], at most 1: RouteLLM's less a common factor. Overwrites `likeness`."""
        likeness *= self._sharpness / np.maximum(likeness.max(1, keepdims=True), np.float32(1e-3))
        likeness -= self._sharpness
        return np.asarray(np.exp(likeness, out=likeness))


def ratings(battles: Doubles, scored: Doubles) -> Doubles:
    """Bradley-Terry's maximum likelihood by Newton's method, centred: [queries, models].

    `battles[q, a, b]`: weight of the battles of a and b; `scored[q, a, b]`: a's score over them.
    """
    models = scored.shape[1]
    off = 1 - np.eye(models)
    fought = np.broadcast_to(battles, scored.shape) * off
    wins = (0.5 * (battles + scored - scored.transpose(0, 2, 1)) * off).sum(2)
    at = np.zeros(wins.shape)
    level = np.full((models, models), 1 / models)  # keeps the mean at 0, which battles leave open
    for _ in range(NEWTONS):
        rate = 0.5 * (1 + np.tanh(0.5 * (at[:, :, None] - at[:, None])))
        slope = wins - (fought * rate).sum(2) - RIDGE * at
        curved = fought * rate * (1 - rate)
        hessian = -curved + np.eye(models) * (curved.sum(2) + RIDGE)[:, :, None] + level
        step = np.linalg.solve(hessian, slope[:, :, None])[:, :, 0]
        at = at + np.clip(step, -2, 2)
    return np.asarray(at - at.mean(1, keepdims=True))


def _levelled(rated: Doubles, means: Doubles) -> Floats:
    """Ratings moved together until their mean quality is that of `means` [queries, models]."""
    wanted = np.clip(means.mean(1, keepdims=True), 1e-4, 1 - 1e-4)
    level = np.log(wanted / (1 - wanted))
    for _ in range(NEWTONS):
        quality = 0.5 * (1 + np.tanh(0.5 * (rated + level)))
        slope = np.maximum((quality * (1 - quality)).mean(1, keepdims=True), 1e-3)
        level = level - np.clip((quality.mean(1, keepdims=True) - wanted) / slope, -2, 2)
    return np.asarray(rated + level, np.float32)


def _settings(artefact: Artefact) -> SwRankingSettings:
    found = artefact.options_as(SwRankingSettings)
    found.check(f"{artefact.path}: options")
    return found
