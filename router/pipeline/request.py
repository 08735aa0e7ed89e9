"""One accepted request: from its scores to its only end. Tried once more, elsewhere, while nothing has been streamed.

    new -> (queued) -> (scoring) -> (queued) -> waiting --first chunk--> answering --> finished, failed or cancelled
            a slot                   room        |   ^
                                                 +---+ another member, at most once

Native code may have begun it (`pipeline.intake`), and passes on its chunks and its good end (`native.request`). What it
needs in Python is then made when first read. Knows no HTTP. All of it runs on the event loop's thread.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from time import perf_counter
from typing import Protocol, cast

import msgspec

from router.dialects.decode import AUTO, decode
from router.errors import OUR_FAULT, DeadlineExceeded, EngineFailed, EngineLost, RouterError
from router.gate.permit import Permit
from router.ipc.messages import Done, Handoff
from router.native import steps
from router.native.call import Receiver
from router.native.request import BaseRequest, Requests
from router.pipeline.leg import Leg
from router.pipeline.legs.choosing import Choosing
from router.pipeline.legs.course import Course
from router.pipeline.sink import Sink
from router.policy import Settings
from router.pool.base import Failure, Length, PoolMember, Work
from router.types import Decision, Query, Scores, Timings, Usage

log = logging.getLogger("headgate.pipeline")


class Desk(Protocol):
    """What a request needs of the pipeline."""

    pool: tuple[PoolMember, ...]
    edition: int  #: of the pool: another number after each change of its members

    @property
    def legs(self) -> Choosing:
        """What makes several legs of a request."""
        ...

    def settings_of(self, query: Query) -> Settings:
        """How to decide for it. Raises `RouterError`."""
        ...

    def choose(self, request: "Request") -> Decision | None:
        """Decide for `request` on the pool as it is now; None: it waits for room there. Raises `RouterError`."""
        ...

    def choose_again(self, request: "Request", failure: Failure) -> Decision | None:
        """Another member for a request that failed, or None."""
        ...

    def scores_for(self, request: "Request") -> Scores | None:
        """For the pool that there is by now; None where it cannot be decided once more."""
        ...

    def begin_again(self, request: "Request") -> None:
        """The pool is another since `request` was to be scored: score it for the one there is. Raises `RouterError`."""
        ...

    def hand_over(self, decision: Decision) -> tuple[PoolMember, float]:
        """The engine that the last decision chose, and the share of the prompt that it was sent before."""
        ...

    def acknowledge(self, act: Callable[[], None]) -> None:
        """Call `act`, which tells the receiver that its request is over: now, or once its record is written."""
        ...


class Request(BaseRequest):
    """A `Ticket` for whoever submitted it, and a `Call` for the member."""

    __slots__ = ()  # fields are those of the native base: more would cost each request a dictionary

    desk: Desk
    query: Query  #: without turns once its body is gone, or where the Python decoder refuses the body
    settings: Settings
    decision: Decision | None  #: the last one
    legs: list[Leg]  #: the last one is under way
    known_query: Query | None
    known_settings: Settings | None
    known_scores: Scores | None
    known_decision: Decision | None
    known_legs: list[Leg] | None
    permit: Permit | None
    timer: asyncio.TimerHandle | None
    holder: PoolMember | None
    course: Course | None  #: of a request of several legs

    def __init__(
        self,
        requests: Requests,
        query: Query,
        settings: Settings,
        body: bytes,
        sink: Sink,
        traceparent: str,
        permit: Permit,
    ) -> None:
        """`permit`, which counts the body as long as a retry may need it, is settled at the end."""
        super().__init__(requests, cast(Receiver, sink), body, query.stream, query.received_s or perf_counter())
        self.known_query, self.known_settings, self.known_legs = query, settings, []
        self.permit = permit
        self.traceparent = traceparent.encode()
        self.edition = cast(Desk, requests.desk).edition

    # Of a request that native code began, when first read

    def read_query(self) -> Query:
        if self.body and not self.ended and (not self.started or self.kept is not None):
            try:
                query = decode("chat", self.body, self.told_id, self.key_id)
                return query if not self.session_id else msgspec.structs.replace(query, session_id=self.session_id)
            except RouterError:
                pass
        return Query(
            kind="chat",
            model=self.asked.decode() or AUTO,
            turns=(),
            stream=self.stream,
            request_id=self.told_id,
            key_id=self.key_id,
            session_id=self.session_id,
        )

    def find_settings(self) -> Settings:
        if self.query.turns:
            with contextlib.suppress(RouterError):  # a reload may have taken away the name it asked for
                return self.desk.settings_of(self.query)
        return Settings(rule="pinned", pinned=self.member)  # it cannot be decided again

    def first_leg(self) -> list[Leg]:
        assert self.decision is not None
        leg = Leg(self.decision)
        leg.begun_s = self.received_s + self.overhead_s
        return [leg]

    @property
    def held_by(self) -> PoolMember | None:
        """The member that has it, or had it last: of this pool, or of one before."""
        if self.holder is None and self.lane is not None:
            return cast(PoolMember, self.lane.owner)
        return self.holder

    @property
    def message(self) -> Done:
        """How it finished."""
        return Done(
            id=self.id, usage=Usage(*self.usage), finish_reason=self.finish_reason or "", timings=Timings(*self.timings)
        )

    # Its steps

    def begin(self, scores: Scores) -> None:
        """Decide and hand over, or wait for room. Raises `RouterError` when that fails; the request has then not
        begun."""
        self.known_scores = scores
        decision = self.desk.choose(self)
        if decision is None:
            self.keep_deadline()
            return
        self.known_decision = decision
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
        if deadline_s is not None and self.timer is None:
            self.timer = asyncio.get_running_loop().call_later(deadline_s, self._expire)

    def scored(self, future: "asyncio.Future[Scores]") -> None:
        """Begin with scores made elsewhere."""
        failed = None if future.cancelled() else future.exception()
        if self.ended:
            return
        if failed is not None:  # not raised once more: its frames would hold the future, and that it
            self._refuse_by(failed)
            return
        try:
            if self.edition == self.desk.edition:
                self.begin(future.result())
            else:
                self.desk.begin_again(self)
        except Exception as error:
            self._refuse_by(error)

    def refuse(self, error: RouterError) -> None:
        """End in an error that arose before or outside the member."""
        if not self.ended:
            self.leave(steps.REFUSED)
            self._abort()
            self._tell_failure(error)

    # Ticket

    def cancel(self, why: RouterError | None = None) -> None:
        if not self.ended:
            self.leave(steps.CLIENT_GONE if why is None else steps.CUT)
            self._abort()
            self.error = why
            self.end("cancelled" if why is None else "failed")

    # Call

    def handoff(self, handoff: Handoff) -> None:
        self.leave(steps.FAILED)
        self.refuse(EngineFailed(f"the answer was stopped ({handoff.why}), and nothing continues it"))

    def fail(self, failure: Failure) -> None:
        if self.ended:
            return
        if failure.lost and self.lost and not isinstance(failure.error, EngineLost):
            why = f"{failure.error}, as the one before it was with this request; it is not tried again"
            failure = Failure(EngineLost(why), lost=True)
        self.lost = self.lost or failure.lost
        self.leave(steps.FAILED)
        if self.started or (self.course is not None and self.course.written):
            self.legs[-1].failed(failure.error, lost=failure.lost)
            if self._go_on(failure):
                return
        if self.started or not self._retry(failure):
            self._tell_failure(failure.error)

    def forget_turns(self) -> None:
        """No retry will read them: thousands of turns take ten times the memory that the body counted for."""
        self.known_query = msgspec.structs.replace(self.query, turns=())

    def tell_later(self, sink: Sink) -> None:
        """That it finished, once its record is written."""

        def tell() -> None:
            try:
                sink.done(self.message)
            except Exception:
                self.receiver_broke()

        self.desk.acknowledge(tell)

    def receiver_broke(self) -> None:
        """Called where it is caught."""
        log.exception("request %s: its receiver failed at the end", self.query.request_id)

    def scores(self) -> Scores | None:
        """For the pool that there is by now."""
        return self.desk.scores_for(self)

    def work(self, matched: float, member: int = -1) -> Work:
        """From its prompt on. `matched`: see `Work`; `member`: who takes it; below 0: its length is not foreseen."""
        query, scores = self.query, self.known_scores
        assert scores is not None
        return Work(
            kind=query.kind,
            body=self.body,
            stream=query.stream,
            request_id=query.request_id,
            prompt_tokens=scores.prompt_tokens,
            matched=matched,
            length=Length() if member < 0 else Length.of(scores, member, query.choices),
            deadline_s=query.deadline_s or 0.0,
            traceparent=self.traceparent.decode(),
            adapter=query.adapter,
            priority=query.priority,
        )

    # Within

    def _go_on(self, failure: Failure) -> bool:
        """Whether another engine makes the rest of it."""
        try:
            if self.course is None:
                self.course = self.desk.legs.rescue(self, failure)
            return self.course is not None and self.course.go_on_elsewhere(failure, self.held_by)
        except Exception:  # of a head, for example: the request still has to be told how it failed
            log.exception("request %s could not be continued", self.query.request_id)
            return False

    def _retry(self, failure: Failure) -> bool:
        """Whether another member has it now."""
        try:
            legs = self.legs
            if legs:
                legs[-1].failed(failure.error, lost=failure.lost)
            if len(legs) > 1:
                return False
            decision = self.desk.choose_again(self, failure)
            if decision is None:
                return False
            legs[-2].retried = True
            self._hand_over(decision)
        except RouterError as error:
            self.legs[-1].failed(error)
            log.debug("request %s cannot be retried: %s", self.query.request_id, error)
            return False
        except Exception:  # of a head, for example: the request still has to be told how it failed
            log.exception("request %s could not be retried", self.query.request_id)
            return False
        return True

    def _hand_over(self, decision: Decision) -> None:
        self.holder, matched = self.desk.hand_over(decision)
        if self.course is None:
            self.holder.submit(self.work(matched, decision.member), self)
        else:
            self.course.submit(decision, self.holder, self.work(matched, decision.member))
        self.handed_over(decision.member)
        self.known_decision = decision

    def _refuse_by(self, error: BaseException) -> None:
        """What scoring or deciding raised."""
        if not isinstance(error, RouterError):
            log.error("request %s could not be scored", self.query.request_id, exc_info=error)
            error = RouterError(OUR_FAULT)
        self.refuse(error)

    def _expire(self) -> None:
        if self.course is not None and self.course.late():
            return
        self.refuse(DeadlineExceeded(f"the answer was not complete within {self.query.deadline_s:.3g} s"))

    def _abort(self) -> None:
        if self.phase not in ("waiting", "answering"):
            return
        try:
            if self.course is not None:
                self.course.abort()
            elif (holder := self.held_by) is not None:
                holder.abort(self)
        except Exception:
            log.exception("request %s could not be aborted", self.query.request_id)

    def _tell_failure(self, error: RouterError) -> None:
        self.error = error.with_traceback(None)  # its frames hold us: we would wait for the cycle collector
        sink = self.end("failed")

        def tell() -> None:
            try:
                sink.fail(error)
            except Exception:
                log.exception("request %s: its receiver failed at an error", self.query.request_id)

        self.desk.acknowledge(tell)
