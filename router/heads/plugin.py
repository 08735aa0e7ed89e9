"""Heads of other distributions: found by entry point, and checked against the protocol. Knows no method."""

import math
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points

import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import Artefact
from router.errors import ConfigError, RouterError
from router.heads.base import Claim, Head, Placement
from router.native.spec import TurnWeights
from router.types import Scores, Segment

#: An entry point is a `Maker` under the name that files ask for.
ENTRY_POINTS = "headgate.heads"

Maker = Callable[[Artefact, Sequence[Claim]], Head]
_PROMISED = ("turns", "placements", "score", "score_many")


def names() -> set[str]:
    return {point.name for point in entry_points(group=ENTRY_POINTS)}


def find(name: str) -> Maker | None:
    """The maker of that name, or None. Raises ConfigError where it is there but cannot be imported."""
    for point in entry_points(group=ENTRY_POINTS, name=name):
        return _checking(point)
    return None


def _checking(point: EntryPoint) -> Maker:
    try:
        maker: Maker = point.load()
    except Exception as error:  # whatever another's module does as it is imported
        raise ConfigError(f"router {point.name}: the plug-in {point.value} cannot be imported: {error}") from error
    return lambda artefact, claims: CheckedHead(maker(artefact, claims), point, len(claims))


class CheckedHead:
    """Another's head, refused at once where it is none, and with an error where it says nonsense of a query."""

    def __init__(self, head: Head, point: EntryPoint, members: int) -> None:
        """Raises ConfigError."""
        self._head, self._members = head, members
        self._who = f"router {point.name}: the plug-in {point.value}"
        missing = [name for name in _PROMISED if not hasattr(head, name)]
        if missing:
            raise ConfigError(f"{self._who}: expected a Head, got {type(head).__name__} without {', '.join(missing)}")
        self.slow = bool(getattr(head, "slow", False))
        self.typical: tuple[str, ...] = getattr(head, "typical", ("",))
        try:
            self.score((("", 1.0),))
            self.score_many(["", "a"])
        except RouterError as error:
            raise ConfigError(str(error)) from error

    @property
    def turns(self) -> TurnWeights:
        return self._head.turns

    @property
    def placements(self) -> tuple[Placement, ...]:
        return self._head.placements

    def score(self, segments: Sequence[Segment]) -> Scores:
        scores = self._head.score(segments)
        if not isinstance(scores, Scores) or len(scores.quality) != self._members:
            raise RouterError(f"{self._who}: score: expected Scores of {self._members} qualities, got {scores!r:.200}")
        if not all(0 <= quality <= 1 for quality in scores.quality):
            raise RouterError(f"{self._who}: score: expected qualities from 0 to 1, got {scores.quality}")
        for name, told in (("output_tokens", scores.output_tokens), ("output_log_sd", scores.output_log_sd)):
            if told and not (len(told) == self._members and all(0 <= one < math.inf for one in told)):
                raise RouterError(f"{self._who}: score: expected {name} of {self._members} members, from 0, got {told}")
        return scores

    def score_many(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        quality = np.asarray(self._head.score_many(texts), np.float32)
        if quality.shape != (len(texts), self._members):
            raise RouterError(
                f"{self._who}: score_many: expected shape [{len(texts)}, {self._members}], got {list(quality.shape)}"
            )
        if not ((quality >= 0) & (quality <= 1)).all():
            raise RouterError(f"{self._who}: score_many: expected qualities from 0 to 1, got others")
        return quality
