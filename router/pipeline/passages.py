"""The common request's way (`router.native.express`) through one pool: where it may be used, and what becomes of a
request that leaves it. Knows no HTTP.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from router.heads.mf import MfHead
from router.native.express import Express, Passage
from router.pipeline.decider import Decider
from router.pipeline.record import attempt_of
from router.pipeline.request import Request
from router.pool import PoolMember
from router.pool.calls import EngineCall
from router.pool.engine import EngineMember
from router.pool.openai import OpenAIMember

if TYPE_CHECKING:
    from router.pipeline.router import Router

log = logging.getLogger("headgate.pipeline")


def express_of(
    router: "Router", decider: Decider, pool: Sequence[PoolMember], requests: set[Request | Passage]
) -> Express | None:
    """None where no member takes frames, or one is of a kind that shows no lane. Requests whose choice is a URL go the
    ordinary way; they alone."""
    members = [member for member in pool if isinstance(member, EngineMember | OpenAIMember)]
    if len(members) < len(pool) or not any(isinstance(member, EngineMember) for member in members):
        return None
    express = Express(
        router.gate.slots,
        requests,
        [member.lane for member in members],
        [member.name for member in members],
        decider.next_id,
        decider.id_prefix,
        router.config.server.limits,
        router.config.server.io_uring,
    )
    if router.config.server.io_uring and not express.outbox.io_uring:
        log.info("the system lets us have no io_uring: each client's tokens are a system call of their own")
    follow(express, decider)
    return express


def follow(express: Express, decider: Decider) -> None:
    """Decide as `decider` does from now on. Nothing goes this way where a score may take milliseconds."""
    scoring = decider.scoring
    if scoring.head is None or scoring.slow:
        express.close()
    else:
        head = scoring.head.scorer if isinstance(scoring.head, MfHead) else scoring.head.score
        express.decide_by(head, scoring.turns, decider.names.known, decider.names.settings)


def resumed(router: "Router", passage: Passage, request: Request) -> Request:
    """`request`, which has just been made, in the place of `passage`."""
    member = router.pool[passage.member]
    assert isinstance(member, EngineMember)
    call = EngineCall(member, passage.id, request)
    if member.lane.calls.get(passage.id) is passage:  # else it has ended there
        member.lane.calls[passage.id] = call
    attempt = attempt_of(passage)
    request.attempts.append(attempt)
    request.received_s, request.first_s = passage.received_s, passage.first_s if passage.started else None
    request.resume(call, attempt.decision, started=passage.started)
    return request
