"""Several routers as one: the weighted mean of their log odds. Knows its parts as heads only, so any method may be one.

A part's metadata is in the options, its arrays in the same file under `0.`, `1.`, ...
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import Artefact, Metadata
from router.errors import ConfigError
from router.heads.base import Claim, Head, JudgedHead
from router.heads.curves import curves_of
from router.heads.methods.judged import JudgedPlacedHead
from router.heads.methods.labelled import log_odds
from router.heads.placed import PlacedHead
from router.types import Segment

Floats = npt.NDArray[np.float32]
Make = Callable[[Artefact, Sequence[Claim]], Head]


class EnsembleSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`parts`: what each part's own file would say of it; they are of the same models, in the same order."""

    parts: tuple[Metadata, ...]
    weights: tuple[float, ...]


class EnsemblePredictor:
    """`logit q_m = sum_p weight_p logit q_pm`."""

    def __init__(self, artefact: Artefact, make: Make) -> None:
        """`make`: the head of a part. Raises ConfigError where the file does not fit."""
        found = settings_of(artefact)
        self._weights = found.weights
        self._parts = [_part(artefact, i, meta, make) for i, meta in enumerate(found.parts)]
        self.slow = any(getattr(part, "slow", False) for part in self._parts)
        self.typical = max((getattr(part, "typical", ("",)) for part in self._parts), key=len)
        heard = zip(self._parts, found.weights, strict=True)
        self.judged = next((part for part, weight in heard if weight and isinstance(part, JudgedHead)), None)

    def logits(self, queries: Sequence[Sequence[Segment]]) -> Floats:
        total = np.zeros((len(queries), len(self._parts[0].placements)), np.float32)
        for weight, head in zip(self._weights, self._parts, strict=True):
            if weight:
                total += np.float32(weight) * log_odds(_quality(head, queries))
        return total

    @property
    def judge(self) -> str:
        return self._asking().judge

    def question(self, segments: Sequence[Segment]) -> bytes | None:
        return self._asking().question(segments)

    def logits_by(self, segments: Sequence[Segment], answer: bytes) -> Floats:
        """[1, models], where the judged part has its judge's answer. Raises ValueError where that holds no verdict."""
        total = np.zeros((1, len(self._parts[0].placements)), np.float32)
        for weight, head in zip(self._weights, self._parts, strict=True):
            if head is self.judged:
                total += np.float32(weight) * log_odds(np.array([head.score_by(segments, answer).quality], np.float32))
            elif weight:
                total += np.float32(weight) * log_odds(_quality(head, [segments]))
        return total

    def tokens(self, segments: Sequence[Segment]) -> int:
        return self._parts[0].score(segments).prompt_tokens

    def _asking(self) -> JudgedHead:
        assert self.judged is not None  # else nobody makes a judged head of it
        return self.judged


def ensemble(artefact: Artefact, claims: Sequence[Claim], make: Make) -> Head:
    """Raises ConfigError where the file does not fit."""
    predictor = EnsemblePredictor(artefact, make)
    placed = PlacedHead(artefact.meta, predictor, claims, curves_of(artefact))
    return placed if predictor.judged is None else JudgedPlacedHead(placed, predictor)


def settings_of(artefact: Artefact) -> EnsembleSettings:
    """Raises ConfigError."""
    where = f"{artefact.path}: options"
    found = artefact.options_as(EnsembleSettings)
    names = [model.name for model in artefact.meta.models]
    if not found.parts or len(found.weights) != len(found.parts) or min(found.weights) < 0 or not sum(found.weights):
        raise ConfigError(f"{where}: expected parts, and a weight of at least 0 for each, some above 0")
    for i, part in enumerate(found.parts):
        if [model.name for model in part.models] != names:
            raise ConfigError(f"{where}: parts[{i}].models: expected {', '.join(names)}")
        if part.router == artefact.meta.router:
            raise ConfigError(f"{where}: parts[{i}]: expected another method than {part.router}")
    return found


def packed(parts: Sequence[Artefact]) -> dict[str, npt.NDArray[Any]]:
    """The parts' arrays as those of one file."""
    return {f"{i}.{name}": array for i, part in enumerate(parts) for name, array in part.arrays.items()}


def _part(artefact: Artefact, number: int, meta: Metadata, make: Make) -> Head:
    prefix = f"{number}."
    arrays: Mapping[str, npt.NDArray[Any]] = {
        name.removeprefix(prefix): array for name, array in artefact.arrays.items() if name.startswith(prefix)
    }
    part = Artefact(meta=meta, arrays=arrays, path=f"{artefact.path} [{number}: {meta.router}]")
    return make(part, [Claim(name=model.name, like=model.name) for model in meta.models])


def _quality(head: Head, queries: Sequence[Sequence[Segment]]) -> Floats:
    """[queries, models]; in one batch where every query is one text."""
    if all(len(segments) == 1 and segments[0][1] > 0 for segments in queries):
        return head.score_many([segments[0][0] for segments in queries])
    return np.array([head.score(segments).quality for segments in queries], np.float32)
