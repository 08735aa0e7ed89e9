"""Nearest neighbours: a model's quality is its mean score on the training prompts most like the query.

The index is USearch's HNSW graph (Malkov and Yashunin, 2016), used where it lies in the mapped file.
"""

from collections.abc import Sequence
from copy import copy
from threading import Lock
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import Artefact
from router.errors import ConfigError
from router.heads import graph
from router.heads.methods import embedding
from router.heads.methods.labelled import Group, groups, log_odds, means
from router.types import Segment

MOST = 1 << 16  #: of each setting
Floats = npt.NDArray[np.float32]


class KnnSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How neighbours vote."""

    neighbours: int = 100
    sharpness: float = 6.0  #: a neighbour weighs exp(sharpness * (its cosine - the nearest one's)); 0: all alike
    prior: float = 5.0  #: neighbours' worth of the model's overall mean
    effort: int = 160  #: candidates that a search keeps: more finds truer neighbours, slower

    def check(self, where: str) -> None:
        """Raises ConfigError."""
        counts = 1 <= self.neighbours <= MOST and 1 <= self.effort <= MOST
        if not (counts and 0 <= self.sharpness <= MOST and 0 < self.prior <= MOST):
            raise ConfigError(
                f"{where}: expected neighbours and effort from 1, sharpness from 0 and a prior above 0, each up to "
                f"{MOST}, got {self}"
            )


class KnnPredictor:
    """`q_m = (sum_i w_i s_im + prior * mean_m) / (sum_i w_i + prior)` over the neighbours i that model m answered."""

    def __init__(self, artefact: Artefact) -> None:
        """Raises ConfigError where the file does not fit, or `usearch` is not installed."""
        self._settings = settings_of(artefact)
        self._embedding = embedding.of(artefact)
        self._means = means(artefact)
        self._parts = [(group, _index(artefact, group, self._settings)) for group in groups(artefact)]
        self._lock = Lock()  # a search uses buffers that belong to the index

    def logits(self, queries: Sequence[Sequence[Segment]]) -> Floats:
        points = self._embedding(queries)
        quality = np.tile(self._means, (len(points), 1))
        for group, index in self._parts if len(points) else ():
            count = min(self._settings.neighbours, len(group.scores))
            with self._lock:
                found = index.search(points, count, threads=1)
            keys, nearness = found.keys.reshape(len(points), -1), -found.distances.reshape(len(points), -1)
            quality[:, group.models] = self._vote(group, keys.astype(np.int64), nearness)
        return log_odds(quality)

    def only(self, models: npt.NDArray[np.int64]) -> "KnnPredictor":
        """The same, asked for these models alone."""
        out = copy(self)
        out._parts = [part for part in self._parts if np.isin(part[0].models, models).any()]
        return out

    def tokens(self, segments: Sequence[Segment]) -> int:
        return self._embedding.tokens(segments)

    def _vote(self, group: Group, keys: npt.NDArray[np.int64], nearness: Floats) -> Floats:
        """[queries, the group's models] of neighbours [queries, count], the nearest first."""
        weight = np.exp(self._settings.sharpness * (nearness - nearness[:, :1]))
        known = group.known[keys]
        total = np.einsum("qn,qnm->qm", weight, known) + self._settings.prior
        hits = np.einsum("qn,qnm->qm", weight, group.scores[keys])
        return np.asarray((hits + self._settings.prior * self._means[group.models]) / total, np.float32)


def settings_of(artefact: Artefact) -> KnnSettings:
    """Raises ConfigError."""
    found = artefact.options_as(KnnSettings)
    found.check(f"{artefact.path}: options")
    return found


def usearch() -> Any:
    """The library's module of indices. Raises ConfigError where it is not installed."""
    try:
        import usearch.index
    except ModuleNotFoundError as error:
        raise ConfigError(f"a knn router needs {error.name}: pip install 'headgate-router[knn]'") from error
    return usearch.index


def _kinds() -> tuple[Any, Any]:
    """How `router.learn` makes the graphs: halves, and the inner product."""
    module = usearch()
    return module.ScalarKind.F16, module.MetricKind.IP


def _index(artefact: Artefact, group: Group, settings: KnnSettings) -> Any:
    """The group's graph, where it lies."""
    name = f"{group.prefix}index"
    stored = artefact.array(name, np.uint8, (None,))
    effort = max(settings.effort, settings.neighbours)
    dimensions = artefact.arrays["table"].shape[1]
    try:
        graph.check(stored, len(group.scores), dimensions)
        index = usearch().Index.restore(stored.data, view=True, expansion_search=effort)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"{artefact.path}: {name}: expected an index of usearch: {error}") from error
    kinds = (index.dtype, index.metric_kind)
    if len(index) != len(group.scores) or index.ndim != dimensions or kinds != _kinds():
        raise ConfigError(
            f"{artefact.path}: {name}: expected {len(group.scores)} prompts of {dimensions} dimensions, of halves and "
            f"their inner product, got {len(index)} of {index.ndim}, {kinds}"
        )
    return index
