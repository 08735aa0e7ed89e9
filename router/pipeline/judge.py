"""Asks a member of the pool, within a time limit, for the verdict that a judged head scores by.

Where the judge does not answer in time, the head scores by what it knows alone. Knows no HTTP and no policy.
"""

import asyncio
import logging
import time
from collections.abc import Sequence

from router.config import Member
from router.errors import ConfigError, EngineFailed, EngineLost, RouterError
from router.heads.base import JudgedHead
from router.ipc.messages import Done, Handoff
from router.native.call import Call
from router.observe.metrics import Metrics
from router.pool.base import Failure, PoolMember, Work
from router.types import Scores, Segment

log = logging.getLogger("headgate.pipeline")


class _Reply(Call):
    """One that is waited for."""

    def __init__(self) -> None:
        self.atypical = True  # a verdict is short
        self.parts: list[bytes] = []
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def chunk(self, data: bytes) -> None:
        if not self.parts:
            self.go("answering")
        self.parts.append(data)

    def done(self, done: Done) -> None:
        if not self.end.done():
            self.end.set_result(None)

    def handoff(self, handoff: Handoff) -> None:
        self.fail(Failure(EngineFailed("the verdict was handed on, and nobody takes it")))

    def fail(self, failure: Failure) -> None:
        if not self.end.done():
            self.end.set_exception(failure.error)


async def ask(member: PoolMember, body: bytes, limit_s: float) -> bytes:
    """The member's answer. Raises `RouterError`, and TimeoutError after `limit_s`; the question is then taken back."""
    reply = _Reply()
    work = Work(kind="chat", body=body, prompt_tokens=len(body) // 4, deadline_s=limit_s)
    member.submit(work, reply)
    reply.go("waiting")
    try:
        async with asyncio.timeout(limit_s):
            await reply.end
    except (TimeoutError, asyncio.CancelledError):
        member.abort(reply)
        raise
    return b"".join(reply.parts)


async def score(
    head: JudgedHead, member: PoolMember, segments: Sequence[Segment], limit_s: float, metrics: Metrics
) -> Scores:
    """By the member's verdict; by what the head knows alone where it is known, late or cannot be had. Raises
    `EngineLost` where the judge was lost by this question: the conversation in it may do the same to another engine."""
    question = head.question(segments)
    if question is None:
        metrics.judged("known", 0.0)
        return head.score(segments)
    begun = time.perf_counter()
    try:
        scores = head.score_by(segments, await ask(member, question, limit_s))
        outcome = "answered"
    except EngineLost:
        metrics.judged("failed", time.perf_counter() - begun)
        raise
    except TimeoutError:
        scores, outcome = head.score(segments), "late"
    except (RouterError, ValueError) as error:
        log.debug("no verdict: %s", error)
        scores, outcome = head.score(segments), "failed" if isinstance(error, RouterError) else "unreadable"
    metrics.judged(outcome, time.perf_counter() - begun)
    return scores


def judge_of(head: object, wanted: str, pool: Sequence[Member]) -> int | None:
    """Which member is asked, by the config's `judge`, else by the name that the head tells; None where the head wants
    no verdict. Raises ConfigError where there is no such member."""
    if not isinstance(head, JudgedHead):
        return None
    name = wanted or head.judge
    for i, member in enumerate(pool):
        if name and name in (member.name, member.model, last_part(member.model)):
            return i
    names = ", ".join(member.name for member in pool)
    raise ConfigError(f"routing.judge: the checkpoint asks a judge; expected one of {names}; got {name!r}")


def last_part(model: str) -> str:
    """Of a path or a hub name."""
    return model.rstrip("/").rpartition("/")[2]
