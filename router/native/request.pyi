"""The native steps of one request, from its hand-over to its end, and all requests of one router.

`pipeline.request.Request` is the subclass that does the rest in Python. `csrc/phases.hpp` says which phase may follow
which. Called from the event loop's thread.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from router.errors import RouterError
from router.native.call import Call, Phase, Receiver
from router.native.policy import Numbers
from router.native.slots import Slots
from router.native.steps import Steps

class _Permit(Protocol):
    def drop_body(self) -> None: ...
    def settle(self) -> None: ...

MOST_KEPT_ANSWER_BYTES: int
MOST_KEPT_BODY_BYTES: int  #: longer bodies are kept by no journal: its lines are held in memory until they are written

class _Course(Protocol):
    def close(self) -> None: ...

class Requests:
    """Those in flight, and those that ended since the ledger asked last."""

    slots: Slots
    desk: object
    steps: Steps
    request_prefix: bytes
    decision_prefix: bytes
    holds_ends: bool  #: an answer's last byte waits for its record
    keeps_pace: bool  #: `SendBatch.before` writes records down; else every answer that `holds_ends` is ended in Python
    keeps_bodies: bool  #: for the journal: until the end, those of up to 256 KiB
    #: What streams were told, and their bodies, where an engine that has them can go on with a text: up to
    #: `MOST_KEPT_ANSWER_BYTES` of each, and a bound of all. For another engine, should theirs be lost.
    keeps_answers: bool
    kept_bytes: int  #: of those
    wake: Callable[[], None]  #: called when a request has ended and none before it since the last `take_ended`
    def __init__(self, slots: Slots, desk: object, request_prefix: str, decision_prefix: str) -> None:
        """`slots`: those of the gate. `desk`: what `pipeline.request` needs of the pipeline. Ids are a prefix,
        of which up to 40 bytes are taken, and a number; of decisions a `-` stands between."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[BaseRequest]:
        """Over those that are in flight now, whatever ends meanwhile."""

    def add(self, request: BaseRequest) -> None: ...
    def take_ended(self) -> list[BaseRequest]: ...

class BaseRequest(Call):
    """One request. What native code began has `numbers`; what it has only sometimes is made when first read."""

    requests: Requests
    native: bool  #: every step of it so far was native
    stream: bool
    member: int  #: that has it, or had it last; -1: none
    edition: int  #: of the pool in whose order that is
    body: bytes  #: empty once no retry needs it and no journal keeps it
    kept: bytes | None  #: all that was told of a stream so far; None: it is not kept
    course: _Course | None  #: of a request of several legs; told of the end by `close`
    key_id: str
    session_id: str  #: empty where the client names none; so is `traceparent`
    traceparent: bytes
    told_id: str  #: of one that native code began: as it is echoed
    decision_id: str  #: likewise
    asked: bytes  #: likewise: the `model` that was asked for, empty for none
    numbers: Numbers | None  #: of its first decision
    received_s: float  #: of `time.perf_counter`
    overhead_s: float  #: of one that native code began: to its hand-over
    ended_s: float  #: of `time.perf_counter`
    finished: bool  #: it ended well; what follows is then known
    usage: tuple[int, int, int]  #: prompt, completion, cached tokens
    timings: tuple[float, float]  #: seconds to the first token and in all, by the engine's clock
    finish_reason: str | None
    permit: _Permit | None  #: None where its slot was taken natively
    error: RouterError | None  #: that it ended in
    lost: bool | None  #: an engine was lost together with it
    timer: object
    holder: object  #: the member that it was handed to in Python; None before
    def __init__(
        self, requests: Requests, receiver: Receiver, body: bytes, stream: bool, received_s: float
    ) -> None: ...
    @property
    def first_s(self) -> float | None:
        """From its receipt to the first bytes of its answer."""

    def handed_over(self, member: int) -> None:
        """`member` has it now."""

    def leave(self, cause: int) -> None:
        """Its next steps are in Python, because of `cause` (`router.native.steps`). Harmless when called again."""

    def end(self, phase: Phase) -> Receiver:
        """It failed, or was cancelled: settles its permit, puts it before the ledger. The receiver, to be told."""

    def done(self, done: object) -> None: ...

class Receivers:
    """Makes the receivers of the answers to requests that native code began (request.pxd)."""
