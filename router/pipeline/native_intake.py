"""Which pools have native steps (`pipeline.intake`), and how these decide. Knows no HTTP."""

import logging
import secrets
from collections.abc import Sequence

from router.config import Server
from router.heads.methods.mf import MfHead
from router.native.fleet import Fleet
from router.native.request import Requests
from router.pipeline.decider import Decider
from router.pipeline.ids import next_number
from router.pipeline.intake import Intake
from router.pipeline.request import Request
from router.pool import PoolMember
from router.pool.engine import EngineMember
from router.pool.replicas import lanes_of

log = logging.getLogger("headgate.pipeline")


def fleet_of(pool: Sequence[PoolMember]) -> Fleet | None:
    """`pool`: one member a model. None where one is of a kind that shows no lane."""
    lanes = lanes_of(pool)
    return None if lanes is None else Fleet(lanes, names_of(pool), secrets.randbits(64))


def names_of(pool: Sequence[PoolMember]) -> list[str]:
    """Of its models."""
    return [member.state().name for member in pool]


def intake_of(requests: Requests, decider: Decider, fleet: Fleet | None, server: Server) -> Intake | None:
    """None without a fleet. Requests whose choice is a URL are declined, they alone; all are in a pool of URLs, which
    an engine may join later."""
    if fleet is None:
        return None
    intake = Intake(requests, Request, fleet, next_number, decider.next_id, server.limits, server.io_uring)
    if server.io_uring and not intake.batch.io_uring:
        log.info("the system lets us have no io_uring: each client's tokens are a system call of their own")
    follow(intake, decider)
    return intake


def hold(intake: Intake, decider: Decider, fleet: Fleet, pool: Sequence[PoolMember], edition: int) -> None:
    """The pool, of one member a model, is another one from now on."""
    fleet.hold(lanes_of(pool) or (), names_of(pool))
    intake.hold(fleet, edition)
    follow(intake, decider)


def follow(intake: Intake, decider: Decider) -> None:
    """Decide as `decider` does from now on. Nothing is taken where a score may take milliseconds, the config has rules,
    requests are planned in several legs, or no member takes frames."""
    scoring = decider.scoring
    by_python = scoring.head is None or scoring.slow or decider.rules is not None or decider.planned
    if by_python or not intake.framed:
        intake.close()
    else:
        head = scoring.head.scorer if isinstance(scoring.head, MfHead) else scoring.head.score
        intake.decide_by(head, scoring.turns, decider.names.known, decider.names.settings)


def hear_engines(pool: Sequence[PoolMember], decider: Decider, intake: Intake | None) -> None:
    """Have each engine of `pool` tell at its starts what it can do: that it is a pooling model may not be known before,
    and names mean something else by it."""

    def told(name: str, capabilities: frozenset[str]) -> None:
        if decider.told(name, capabilities) and intake is not None:
            follow(intake, decider)

    for member in pool:
        if isinstance(member, EngineMember):
            member.on_described = told
            if capabilities := member.state().capabilities:  # it has started before
                told(member.model, capabilities)
