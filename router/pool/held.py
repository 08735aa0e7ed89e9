"""Requests that wait for a member to wake. Ends none for its deadline, which is the request's own to keep."""

import time

import msgspec

from router.errors import NoEngine, Overloaded, RouterError
from router.pool.base import Call, Failure, PoolMember, Work
from router.pool.calls import fail_call

_MOST = 1_024  #: of one member


class Held:
    """Of one member, the oldest first."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Work, Call, float]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, work: Work, call: Call, name: str) -> None:
        """Raises `Overloaded`."""
        if len(self._waiting) >= _MOST:
            raise Overloaded(f"{_MOST} requests wait for {name!r} to wake", retry_after_s=1.0)
        self._waiting.append((work, call, time.monotonic()))

    def discard(self, call: Call) -> bool:
        """It is not waited for any more. False: it does not wait here."""
        left = [each for each in self._waiting if each[1] is not call]
        gone = len(left) < len(self._waiting)
        self._waiting = left
        return gone

    def hand_over(self, member: PoolMember) -> None:
        """All to the member, which is awake. What it refuses goes elsewhere."""
        waiting, self._waiting = self._waiting, []
        for work, call, since_s in waiting:
            try:
                member.submit(_shortened(work, time.monotonic() - since_s), call)
            except RouterError as error:
                fail_call(call, Failure(error, retryable=True), member.status().name)

    def fail(self, name: str, why: str) -> None:
        """All: elsewhere, where somebody else can."""
        waiting, self._waiting = self._waiting, []
        for _, call, _ in waiting:
            fail_call(call, Failure(NoEngine(f"model {name!r} {why}", retry_after_s=5.0), retryable=True), name)


def _shortened(work: Work, waited_s: float) -> Work:
    """The engine counts the deadline from its receipt."""
    if not work.deadline_s:
        return work
    return msgspec.structs.replace(work, deadline_s=max(0.001, work.deadline_s - waited_s))
