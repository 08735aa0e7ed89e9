"""Similarity-weighted ranking: per query, a Bradley-Terry fit of the models over all training prompts' battles, each
weighed by how like the query its prompt is.

Source: RouteLLM (Ong et al., 2024, section 4.1.1): w_i = 10^(1 + S_i / max S), here of another base. A prompt on which
models a and b scored s_a and s_b is a battle that a wins by (1 + s_a - s_b) / 2: a tie counts half, as there. So the
matrix of wins is linear in scores, two models have a closed form, and more take a few Newton steps.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from router.errors import ConfigError
from router.heads import embedding
from router.heads.artefact import Artefact
from router.heads.labelled import Group, groups, log_odds, means
from router.types import Segment

NEWTONS = 6
RIDGE = 1e-4  #: of a battle's weight: ratings stay finite where a model never loses
BLOCK = 256  #: queries at once: bounds the memory of a batch

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    base: float = 1e6  #: RouteLLM's is 10, over another embedding; larger: the nearest count for more

    def check(self, where: str) -> None:
        """Raises ConfigError."""
        if not 1 < self.base < 1e30:
            raise ConfigError(f"{where}: base: expected a number above 1, got {self.base:g}")


class SwRankingPredictor:
    """`sigmoid(logit_a - logit_b)` is RouteLLM's win rate of a over b. The common level of the logits, which ratings
    leave open, is set so that the mean quality is the weighted mean score."""

    slow = True  #: milliseconds: every training prompt is compared

    def __init__(self, artefact: Artefact) -> None:
        """Raises ConfigError where the file does not fit."""
        self._base = _settings(artefact).base
        self._embedding = embedding.of(artefact)
        self._rest = log_odds(means(artefact))
        width = self._embedding.dimensions
        self._parts = [
            (group, artefact.array(f"{group.prefix}points", np.float16, (len(group.scores), width)).astype(np.float32))
            for group in groups(artefact)
        ]

    def logits(self, queries: Sequence[Sequence[Segment]]) -> Floats:
        points = self._embedding(queries)
        out = np.tile(self._rest, (len(points), 1))
        for first in range(0, len(points), BLOCK):
            block = slice(first, first + BLOCK)
            for group, known in self._parts:
                weights = self._weights(points[block] @ known.T)
                out[block, group.models] = ranked(group, weights)
        return out

    def tokens(self, segments: Sequence[Segment]) -> int:
        return self._embedding.tokens(segments)

    def _weights(self, likeness: Floats) -> Floats:
        """[queries, prompts], at most 1: RouteLLM's less a common factor."""
        most = np.maximum(likeness.max(1, keepdims=True), np.float32(1e-3))
        return np.asarray(np.exp(np.float32(np.log(self._base)) * (likeness / most - 1)), np.float32)


def ranked(group: Group, weights: Floats) -> Floats:
    """Log odds [queries, the group's models], of prompts that weigh `weights` [queries, prompts]."""
    if group.complete:
        total = weights.sum(1, keepdims=True, dtype=np.float64)
        means = (weights @ group.scores) / total
        if means.shape[1] == 2:
            gap = np.asarray(log_odds((1 + means[:, 0] - means[:, 1]) / 2), np.float64)
            return _levelled(np.stack([gap / 2, -gap / 2], 1), means)
        return _levelled(ratings(np.ones((1, means.shape[1], 1)), means[:, :, None] + 0 * means[:, None]), means)
    battles, scored = _pairs(group, weights)
    own = np.maximum(np.einsum("qaa->qa", battles), 1e-9)
    return _levelled(ratings(battles, scored), np.einsum("qaa->qa", scored) / own)


def _pairs(group: Group, weights: Floats) -> tuple[Doubles, Doubles]:
    """Weight of the prompts that a and b both answered, and a's score over them: [queries, models, models]."""
    known = group.known.astype(np.float32)
    battles = np.stack([(known * w[:, None]).T @ known for w in weights]).astype(np.float64)
    scored = np.stack([(group.scores * w[:, None]).T @ known for w in weights]).astype(np.float64)
    total = battles.max((1, 2), keepdims=True)
    return battles / total, scored / total


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


def _settings(artefact: Artefact) -> Settings:
    try:
        found = msgspec.convert(artefact.meta.options, Settings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{artefact.path}: options: {error}") from error
    found.check(f"{artefact.path}: options")
    return found
