"""The ends of calls under way in one engine host: what one of them raises must not keep the others from being told, nor
take the connection along, and with it every other request.

Knows no frames.
"""

import logging
from collections.abc import Mapping

from router.errors import EngineFailed, EngineLost
from router.pool.base import Call, Failure

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
