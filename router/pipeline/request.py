"""One accepted request: from its scores to its only end. Retries once, elsewhere, while nothing has been streamed.

    scoring --decide--> submitted --first chunk--> streaming --done / fail--> ended
                           |  ^                                  ^
                           |  +-- another member, at most once   |
                           +------------- fail ------------------+        cancel and deadline end it from anywhere

Knows no HTTP. All of it runs on the event loop's thread.
"""

import asyncio
import logging
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

import msgspec

from router.errors import DeadlineExceeded, EngineFailed, EngineLost, RouterError
from router.gate.permit import Permit
from router.ipc.messages import Done, Handoff
from router.pipeline.attempt import Attempt
from router.pipeline.leg import stream_to
from router.pipeline.record import MOST_KEPT_BODY_BYTES, Life
from router.pipeline.sink import Sink
from router.policy import Settings
from router.pool.base import Call, Failure, PoolMember, Receiver, Work
from router.types import Decision, Query, Scores

log = logging.getLogger("headgate.pipeline")

_OUR_FAULT = "internal error; the server's log says more"


class _Nobody:
    """A `Sink` after the end."""

    def start(self, decision: Decision) -> None: ...

    def chunk(self, data: bytes) -> None: ...

    def done(self, done: Done) -> None: ...

    def fail(self, error: RouterError) -> None: ...


_NOBODY = _Nobody()


class Desk(Protocol):
    """What a request needs of the pipeline."""

    pool: tuple[PoolMember, ...]
    keeps_bodies: bool  #: until the end, for the journal

    def choose(self, request: "Request") -> Decision:
        """Decide for `request` on the pool as it is now. Raises `RouterError`."""
        ...

    def choose_again(self, request: "Request", failure: Failure) -> Decision | None:
        """Another member for a request that failed, or None."""
        ...

    def ended(self, request: "Request", life: Life) -> None:
        """`request` is over; called once."""
        ...

    def acknowledge(self, act: Callable[[], None]) -> None:
        """Call `act`, which tells the receiver that its request is over: now, or once its record is written."""
        ...


class Request:
    """A `Ticket` for the door and a `Receiver` for the member."""

    __slots__ = (
        "_call",
        "_desk",
        "_sink",
        "_timer",
        "_traceparent",
        "attempts",
        "body",
        "decision",
        "ended",
        "first_s",
        "lost",
        "permit",
        "query",
        "received_s",
        "retried",
        "scores",
        "settings",
        "started",
    )

    def __init__(
        self,
        desk: Desk,
        query: Query,
        settings: Settings,
        body: bytes,
        sink: Sink,
        traceparent: str,
        permit: Permit,
    ) -> None:
        """`permit`, which counts the body as long as a retry may need it, is settled at the end."""
        self._desk = desk
        self._sink = sink
        self._traceparent = traceparent
        self._call: Call | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.query = query
        self.settings = settings
        self.attempts: list[Attempt] = []  #: the last one is under way
        self.received_s = query.received_s or perf_counter()
        self.first_s: float | None = None  #: from its receipt to the first bytes of its answer
        self.body = body
        self.permit = permit
        self.scores: Scores | None = None
        self.decision: Decision | None = None
        self.retried = False
        self.lost = False  #: an engine was lost together with it
        self.started = False
        self.ended = False

    def begin(self, scores: Scores) -> None:
        """Decide and hand over. Raises `RouterError` when that fails; the request has then not begun."""
        self.scores = scores
        decision = self.decision = self._desk.choose(self)
        try:
            self._hand_over(decision)
        except RouterError as error:
            if not self._retry(Failure(error, retryable=True)):
                raise
        if self.query.deadline_s is not None:
            self.keep_deadline()

    def keep_deadline(self) -> None:
        """From now on: end in an error at the query's deadline, whatever is waited for by then."""
        deadline_s = self.query.deadline_s
        if deadline_s is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(deadline_s, self._expire)

    def resume(self, call: Call, decision: Decision, *, started: bool) -> None:
        """Go on with what was decided and handed over elsewhere."""
        self._call, self.decision, self.started = call, decision, started
        if started:
            stream_to(call, self._sink)

    def scored(self, future: "asyncio.Future[Scores]") -> None:
        """Begin with scores made elsewhere."""
        if self.ended:
            return
        try:
            self.begin(future.result())
        except RouterError as error:
            self.refuse(error)
        except Exception:
            log.exception("request %s could not be scored", self.query.request_id)
            self.refuse(RouterError(_OUR_FAULT))

    def refuse(self, error: RouterError) -> None:
        """End in an error that arose before or outside the member."""
        if not self.ended:
            self._abort()
            self._tell_failure(error)

    # Ticket

    def cancel(self, why: RouterError | None = None) -> None:
        if not self.ended:
            self._abort()
            self._end(error=why)

    # Receiver

    def chunk(self, data: bytes) -> None:
        """The first chunk; later ones go from the member to the sink directly."""
        if self.ended:
            return
        if not self.started and not self._start():
            return
        assert self._call is not None
        stream_to(self._call, self._sink)
        self._sink.chunk(data)

    def done(self, done: Done) -> None:
        if self.ended:
            return
        try:
            if self.started or self._start():
                self._tell_done(done)
        except Exception:
            log.exception("request %s: its receiver failed at the end", self.query.request_id)
            self.refuse(RouterError(_OUR_FAULT))

    def handoff(self, handoff: Handoff) -> None:
        self.refuse(EngineFailed(f"the answer was stopped ({handoff.why}), and nothing continues it"))

    def fail(self, failure: Failure) -> None:
        if self.ended:
            return
        if failure.lost and self.lost and not isinstance(failure.error, EngineLost):
            why = f"{failure.error}, as the one before it was with this request; it is not tried again"
            failure = Failure(EngineLost(why), lost=True)
        self.lost = self.lost or failure.lost
        if self.started or not self._retry(failure):
            self._tell_failure(failure.error)

    def _start(self) -> bool:
        """False when the sink cancelled."""
        assert self.decision is not None
        self.started = True
        self.first_s = perf_counter() - self.received_s
        if not self._desk.keeps_bodies or self.permit.held_bytes > MOST_KEPT_BODY_BYTES:
            self._let_go_of_body()
        # No retry will read them: thousands of turns take ten times as long an answer's memory as the body counted for.
        self.query = msgspec.structs.replace(self.query, turns=())
        self._sink.start(self.decision)
        return not self.ended

    def _retry(self, failure: Failure) -> bool:
        """Whether another member has it now."""
        if self.attempts:
            self.attempts[-1].failed(failure.error, lost=failure.lost)
        if self.retried:
            return False
        try:
            decision = self._desk.choose_again(self, failure)
            if decision is None:
                return False
            self.retried = self.attempts[-2].retried = True
            self._hand_over(decision)
        except RouterError as error:
            self.attempts[-1].failed(error)
            log.debug("request %s cannot be retried: %s", self.query.request_id, error)
            return False
        except Exception:  # of a head, for example: the request still has to be told how it failed
            log.exception("request %s could not be retried", self.query.request_id)
            return False
        return True

    def _hand_over(self, decision: Decision) -> None:
        query, scores = self.query, self.scores
        assert scores is not None
        receiver: Receiver = self
        work = Work(
            kind=query.kind,
            body=self.body,
            stream=query.stream,
            request_id=query.request_id,
            prompt_tokens=scores.prompt_tokens,
            deadline_s=query.deadline_s or 0.0,
            traceparent=self._traceparent,
        )
        self._call = self._desk.pool[decision.member].submit(work, receiver)
        self.decision = decision

    def _expire(self) -> None:
        self.refuse(DeadlineExceeded(f"the answer was not complete within {self.query.deadline_s:.3g} s"))

    def _abort(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            try:
                call.abort()
            except Exception:
                log.exception("request %s could not be aborted", self.query.request_id)

    def _end(self, done: Done | None = None, error: RouterError | None = None) -> Sink:
        """The sink, to be told. Sink, request and call hold one another: they part here, not in the cycle collector."""
        sink, self._sink = self._sink, _NOBODY
        self.ended = True
        self._call = None
        self.permit.settle()
        life = self._life(done, error)
        self.body = b""
        if self._timer is not None:
            self._timer.cancel()
        self._desk.ended(self, life)
        return sink

    def _life(self, done: Done | None, error: RouterError | None) -> Life:
        return Life(
            query=self.query,
            attempts=self.attempts,
            received_s=self.received_s,
            ended_s=perf_counter(),
            queue_s=self.permit.waited_s,
            first_s=self.first_s,
            done=done,
            error=error,
            body=self.body if self._desk.keeps_bodies else b"",
        )

    def _let_go_of_body(self) -> None:
        self.permit.drop_body()
        self.body = b""

    def _tell_done(self, done: Done) -> None:
        sink = self._end(done)
        self._desk.acknowledge(lambda: sink.done(done))

    def _tell_failure(self, error: RouterError) -> None:
        sink = self._end(error=error)

        def tell() -> None:
            try:
                sink.fail(error)
            except Exception:
                log.exception("request %s: its receiver failed at an error", self.query.request_id)

        self._desk.acknowledge(tell)
