"""One request as the connection of its engine sees it, and how the frames of one read reach the calls they are for.

Knows frames, calls and their phases; nothing of HTTP, scores or policy. Called from one event loop's thread.
"""

from collections.abc import Callable
from typing import Literal, TypeVar

from router.errors import RouterError
from router.native.lane import Lane
from router.types import Decision

_Call = TypeVar("_Call")

Phase = Literal["new", "queued", "scoring", "waiting", "answering", "finished", "failed", "cancelled"]
PHASES: tuple[Phase, ...]  #: csrc/phases.hpp has the table of which may follow which

class Receiver:
    """What gets one answer: `start`, `chunk`*, then exactly one of `done` and `fail`, which may come without a `start`.

    Callbacks, not tasks: a token costs no context switch. A subclass overrides these and `done` (`pipeline.sink`);
    native code calls C methods (call.pxd), whose defaults call these.
    """

    def start(self, decision: Decision) -> None:
        """The first chunk is about to come; from here on `decision.model` is the one that answers."""

    def chunk(self, data: bytes) -> None:
        """Body bytes: whole SSE events (`data: ...\\n\\n`, the closing `[DONE]` included), or JSON."""

    def fail(self, error: RouterError) -> None:
        """The answer ended in an error, before (`start` was not called) or after its first chunk."""

class Call:
    """One request that a pool member owes an answer; what is called, and when: `pool.base.Call`.

    Engines keep it in `Lane.calls` under its id. Native ones take chunks and ends as views of what was read, those in
    Python as `bytes` and messages.
    """

    lane: Lane | None  #: of the engine that has it; None before, and at a URL
    id: int  #: unique on the lane's connection
    atypical: bool  #: its answer's length tells nothing of how long the member's answers are
    @property
    def phase(self) -> Phase: ...
    @property
    def started(self) -> bool:
        """Its answer has begun, and not ended."""

    @property
    def ended(self) -> bool: ...
    def go(self, phase: Phase) -> None:
        """Enter `phase`. Raises RuntimeError where it may not follow the present one."""

    def chunk(self, data: bytes) -> None: ...

def pass_on(lane: Lane, data: bytes, broke: Callable[[_Call], None]) -> int:
    """Give the Chunks and Done frames at the start of `data` to the lane's calls, its Load frames to its load. The
    bytes taken: up to the end, or to the first frame that is none of these, not whole, or an end that somebody has to
    hear of as a message. `broke` is told of calls that raised. What is sent meanwhile, by whomever, leaves as
    `SendBatch` says."""
