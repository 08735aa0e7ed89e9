"""What a course needs of its request and of the pipeline."""

from typing import Protocol

from router.ipc.messages import Done
from router.observe.record import Why
from router.pipeline.leg import Leg
from router.pipeline.legs.planner import Planner
from router.policy import Settings
from router.pool.base import Failure, PoolMember, Work
from router.pool.laned import Laned
from router.pool.replicas import engines_of
from router.types import Decision, Query, Scores


class Asked(Protocol):
    """A request (`pipeline.request`)."""

    legs: list[Leg]
    holder: PoolMember | None
    known_scores: Scores | None
    known_decision: Decision | None
    lost: bool | None
    stream: bool
    edition: int
    query: Query
    settings: Settings

    @property
    def started(self) -> bool: ...

    @property
    def ended(self) -> bool: ...

    @property
    def kept(self) -> bytes | None: ...

    def scores(self) -> Scores | None:
        """For the pool that there is by now; None where they cannot be had."""
        ...

    def work(self, matched: float, member: int = -1) -> Work: ...

    def leave(self, cause: int) -> None: ...

    def chunk(self, data: bytes) -> None: ...

    def done(self, done: Done) -> None: ...

    def fail(self, failure: Failure) -> None: ...


class Chooser(Protocol):
    """Implemented by `legs.choosing`."""

    planner: Planner | None

    def able(self) -> list[bool]:
        """By model, whether it can go on with another engine's text."""
        ...

    def rest(self, request: Asked, run: frozenset[str]) -> Decision | None:
        """A decision as things are now, for models beside those of the names `run`; None: no other can serve."""
        ...

    def next(self, request: Asked, member: int, why: Why) -> Decision | None:
        """The decision for the model at index `member`, for a leg of its own; None: it cannot serve."""
        ...

    def elsewhere(self, request: Asked, lost: PoolMember | None) -> Decision | None:
        """The decision for an engine that goes on with what `lost` told; None: there is none that may."""
        ...

    def hand_over(self, decision: Decision) -> tuple[PoolMember, float]: ...

    def counted(self, what: str, model: str, to: str = "") -> None:
        """For the metrics."""
        ...


def continues(member: PoolMember) -> bool:
    """Whether all engines of a model can go on with another's text."""
    return all("continue" in each.verbs if isinstance(each, Laned) else False for each in engines_of(member))
