"""What a head is to the pipeline, and how a member of the pool says which model it is."""

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from router.native.spec import TurnWeights
from router.types import Scores, Segment


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a member says of itself. `name` and `model` are tried when neither `like` nor `strength` is given."""

    name: str
    model: str = ""  #: path or hub id of the weights
    like: str = ""  #: a model of the checkpoint
    strength: float | None = None  #: MMLU-Pro accuracy, 0..1


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Where a member was put, and why: shown by `headgate validate`."""

    name: str
    by: Literal["like", "strength", "name", "size", "default"]
    reference: str = ""  #: the checkpoint's model, for `like` and `name`
    strength: float | None = None  #: given, or estimated from the size


class Head(Protocol):
    """Segments to quality per member, in the pool's order. Safe from many threads."""

    @property
    def turns(self) -> TurnWeights:
        """How the conversation is to be weighed."""
        ...

    @property
    def placements(self) -> tuple[Placement, ...]: ...

    def score(self, segments: Sequence[Segment]) -> Scores: ...
