"""A request as an engine's connection sees it, and how the frames of one read reach the calls that they are for.

Knows frames and calls; nothing of HTTP, scores or policy. Called from one event loop's thread.
"""

from collections.abc import Callable
from typing import TypeVar

from router.errors import RouterError
from router.native.lane import Lane

_Call = TypeVar("_Call", bound="Call")

class Receiver:
    """What gets the bytes of one answer. The native path calls its C methods (call.pxd), whose defaults call these."""

    def chunk(self, data: bytes) -> None: ...
    def fail(self, error: RouterError) -> None:
        """The answer ends in an error."""

class Receivers:
    """Makes the receivers of the native path's answers (call.pxd)."""

class Call:
    """One request that an engine owes an answer, kept in `Lane.calls` under its id. The base of all such; native ones
    take chunks and ends as views of what was read, those in Python as `bytes` and as messages."""

    lane: Lane
    id: int  #: unique on the lane's connection
    started: bool  #: its answer has begun
    straight: Receiver | None  #: gets the chunks natively, in place of `chunk`
    def __init__(self, lane: Lane | None = None, id: int = 0) -> None: ...
    def chunk(self, data: bytes) -> None:
        """The next bytes of the answer. To be overridden; a subclass may have a slot of this name."""

def pass_on(lane: Lane, data: bytes, broke: Callable[[_Call], None]) -> int:
    """Give the Chunks and Done frames at the start of `data` to the lane's calls, its Load frames to its load. The
    bytes taken: up to the end, or to the first frame that is none of these, not whole, or an end that its call wants
    as a message. `broke` is told of calls that raised. What is sent meanwhile, by whomever, leaves as `Outbox` says."""
