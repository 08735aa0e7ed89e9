"""Calls under way in one engine host, and their ends: what one receiver raises must not keep the others from being
told, nor take the connection along, and with it every other request.

Knows no frames.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from router.errors import EngineFailed, EngineLost
from router.native.call import Call
from router.native.lane import Lane
from router.pool.base import Failure, Receiver

log = logging.getLogger("headgate.pool")


class Caller(Protocol):
    """Who a call is made to."""

    lane: Lane

    def abort(self, id: int) -> None: ...


class EngineCall(Call):
    """One request in an engine host. While it streams, its chunks go straight to `chunk`."""

    __slots__ = ("_member", "chunk", "receiver", "typical")

    def __init__(self, member: Caller, id: int, receiver: Receiver) -> None:
        super().__init__(member.lane, id)
        self._member = member
        self.receiver = receiver
        self.typical = True
        self.chunk: Callable[[bytes], None] = receiver.chunk  # type: ignore[assignment]

    def stream_to(self, chunk: Callable[[bytes], None]) -> None:
        self.chunk, self.started = chunk, True

    def abort(self) -> None:
        self._member.abort(self.id)


def fail_call(call: EngineCall, failure: Failure, member: str) -> None:
    """Tell the receiver of `failure`; that is its end, whatever it raises."""
    try:
        call.receiver.fail(failure)
    except Exception:
        log.exception("request %d of %r: its receiver failed at an error", call.id, member)


def fail_broken(call: EngineCall, member: str, at: str) -> None:
    """End a call whose receiver has just raised, in a bug of ours. `at`: when."""
    log.exception("request %d of %r: its receiver failed at %s", call.id, member, at)
    fail_call(call, Failure(EngineFailed("the answer could not be passed on")), member)


def suspect(calls: Mapping[int, EngineCall], why: str) -> dict[int, Failure]:
    """What is told to a request that alone waited for its first token as the engine was lost: it may be what the engine
    was lost by, and another engine would be lost by it too."""
    waiting = [id for id, call in calls.items() if not call.started]
    if len(waiting) != 1:
        return {}
    why += ", and no other request waited for its first token there; it is not tried on another engine"
    return {waiting[0]: Failure(EngineLost(why), lost=True)}
