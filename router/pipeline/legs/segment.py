"""One leg of a request that may have several: what its engine says goes to the request's course, not to its client."""

from typing import Protocol

from router.ipc.messages import Done, Handoff
from router.native.call import Call
from router.pipeline.leg import Leg
from router.pool.base import Failure, PoolMember

#: Of a draft that is not told before it is judged; a longer one is told.
MOST_HELD_BYTES = 1 << 20


class Listener(Protocol):
    """The course of a request."""

    def chunk(self, segment: "Segment", data: bytes) -> None: ...

    def done(self, segment: "Segment", done: Done) -> None: ...

    def handoff(self, segment: "Segment", handoff: Handoff) -> None: ...

    def fail(self, segment: "Segment", failure: Failure) -> None: ...


class Segment(Call):
    """A `pool.base.Call`, for as long as its engine has it."""

    def __init__(self, listener: Listener, leg: Leg, holder: PoolMember, *, hold: bool) -> None:
        self.listener = listener
        self.leg = leg
        self.holder = holder
        self.held: list[bytes] | None = [] if hold else None  #: not told yet; None: all is told as it comes
        self.held_bytes = 0

    def hold(self, data: bytes) -> bool:
        """Whether there was room."""
        assert self.held is not None
        self.held.append(data)
        self.held_bytes += len(data)
        return self.held_bytes <= MOST_HELD_BYTES

    def chunk(self, data: bytes) -> None:
        if not self.started:
            self.go("answering")
        self.listener.chunk(self, data)

    def done(self, done: Done) -> None:
        self.listener.done(self, done)

    def handoff(self, handoff: Handoff) -> None:
        self.listener.handoff(self, handoff)

    def fail(self, failure: Failure) -> None:
        self.listener.fail(self, failure)
