"""The calls under way in one engine host, their chunks and their ends: what one of them raises must not keep the others
from being told, nor take the connection along, and with it every other request.

Knows messages, no frames.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import cast

from router.errors import EngineFailed, EngineLost, error_status
from router.ipc.messages import Chunks, Done, Fail, Handoff
from router.ipc.spec import ADAPTER_REFUSED
from router.pool.base import Call, Failure, Work
from router.pool.breaker import Breaker
from router.pool.claims import plausible
from router.pool.failing import Failing
from router.pool.failure import failure_of, is_members_fault
from router.pool.laned import Laned
from router.pool.load import CUT, LoadTracker, without_length

log = logging.getLogger("headgate.pool")


def fail_call(call: Call, failure: Failure, member: str) -> None:
    """Tell `call` of `failure`; that is its end, whatever it raises."""
    try:
        call.fail(failure)
    except Exception:
        log.exception("request %d of %r: its receiver failed at an error", call.id, member)


def fail_broken(call: Call, member: str, at: str) -> None:
    """End a call that has just raised, in a bug of ours. `at`: when."""
    log.exception("request %d of %r: its receiver failed at %s", call.id, member, at)
    fail_call(call, Failure(EngineFailed("the answer could not be passed on")), member)


def suspect(calls: Mapping[int, Call], why: str) -> dict[int, Failure]:
    """What is told to a request that alone waited for its first token as the engine was lost: it may be what the engine
    was lost by, and another engine would be lost by it too."""
    waiting = [id for id, call in calls.items() if not call.started]
    if len(waiting) != 1:
        return {}
    why += ", and no other request waited for its first token there; it is not tried on another engine"
    return {waiting[0]: Failure(EngineLost(why), lost=True)}


class Calls:
    """The calls of one member, by id, as its lane holds them."""

    def __init__(self, member: Laned, load: LoadTracker, breaker: Breaker, abort: Callable[[Call], None]) -> None:
        """`abort` ends a call whose receiver has raised, and tells the host."""
        self._member = member
        self._load = load
        self._breaker = breaker
        self._abort = abort
        self._calls = cast(dict[int, Call], member.lane.calls)
        self._failing: Failing[tuple[Call, Failure]] = Failing(lambda failed: fail_call(*failed, self._member.name))

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: Call, work: Work) -> None:
        """It was submitted under its id."""
        self._calls[call.id] = call
        self._load.submitted(work.prompt_tokens, call.id, work.matched, *work.length)
        if self._member.lane.probed:
            self._breaker.submitted(time.monotonic())

    def discard(self, call: Call) -> bool:
        """It ends without an answer. False: it has ended already."""
        if self._calls.get(call.id) is not call:
            return False
        del self._calls[call.id]
        self._load.ended()
        return True

    def chunks(self, chunks: Chunks) -> None:
        calls = self._calls
        for id, data in chunks.items:
            call = calls.get(id)
            if call is not None:  # else aborted, and the host has not heard of it yet
                try:
                    call.chunk(data)
                except Exception:
                    self.receiver_broke(call)

    def done(self, done: Done) -> None:
        call = self._calls.pop(done.id, None)
        if call is None:
            return
        done = plausible(done)
        usage = done.usage
        if call.atypical:
            usage = without_length(usage)
        self._load.answered(usage, done.timings, done.id, done.finish_reason in CUT)
        self._load.ended()
        if not self._member.lane.trusted:
            self._breaker.succeeded()
        try:
            call.done(done)
        except Exception:
            fail_broken(call, self._member.name, "the end")

    def fail(self, fail: Fail) -> None:
        call = self._calls.pop(fail.id, None)
        if call is None:
            return
        self._load.ended()
        status = error_status(fail.status)
        if is_members_fault(status) and fail.code != ADAPTER_REFUSED:
            self._breaker.failed(time.monotonic())
        try:
            failure = failure_of(status, fail.body, fail.code, retryable=fail.retryable)
        except Exception:  # its body is whatever the engine sent
            log.exception("request %d of %r: its error could not be read", call.id, self._member.name)
            failed = EngineFailed(f"engine {self._member.name!r} failed with status {status}")
            failure = Failure(failed, retryable=fail.retryable)
        fail_call(call, failure, self._member.name)

    def handoff(self, handoff: Handoff) -> None:
        call = self._calls.pop(handoff.id, None)
        if call is None:
            return
        self._load.ended()
        if not self._member.lane.trusted:
            self._breaker.succeeded()
        try:
            call.handoff(handoff)
        except Exception:
            fail_broken(call, self._member.name, "the end")

    def receiver_broke(self, call: Call) -> None:
        """Called where it is caught."""
        self._abort(call)
        fail_broken(call, self._member.name, "a chunk")

    def _fail_all(self, failure: Failure, others: Mapping[int, Failure] = {}) -> None:
        """Fail all calls, many of them in later turns of the loop; those of `others` with a failure of their own. Those
        whose answer has not begun come first: another engine may take them."""
        calls = sorted(self._calls.items(), key=lambda numbered: numbered[1].started)
        self._calls.clear()
        for _ in calls:
            self._load.ended()
        self._failing.add((call, others.get(id, failure)) for id, call in calls)

    def lost(self, why: str) -> None:
        """The engine was lost, as `why` says."""
        self._fail_all(Failure(EngineFailed(why), retryable=True, lost=True), suspect(self._calls, why))

    def stopped(self) -> None:
        """The engine was stopped: none is left."""
        self._fail_all(Failure(EngineFailed("the engine was stopped"), retryable=True))
        self._failing.finish()
