"""Asks a member of the pool, within a time limit, for the verdict that a judged head scores by.

Where the judge does not answer in time, the head scores by what it knows alone. Knows no HTTP and no policy.
"""

import logging
import time
from collections.abc import Sequence

from router.config import Member
from router.errors import ConfigError, EngineLost, RouterError
from router.features.conversation import segments
from router.heads.base import Head, JudgedHead
from router.observe.metrics import Metrics
from router.pipeline.calls import ask
from router.pool.base import PoolMember
from router.types import Query, Scores

log = logging.getLogger("headgate.pipeline")


async def score(head: Head, member: PoolMember, query: Query, limit_s: float, metrics: Metrics) -> Scores:
    """By the member's verdict, which nobody waits for longer than `limit_s` and the query's deadline; by what the head
    knows alone where it is known, late or cannot be had. Raises `EngineLost` where the judge was lost by this question:
    the conversation in it may do the same to another engine."""
    assert isinstance(head, JudgedHead)
    limit_s = min(limit_s, query.deadline_s or limit_s)
    texts = segments(query.turns, head.turns)
    question = head.question(texts)
    if question is None:
        metrics.judged("known", 0.0)
        return head.score(texts)
    begun = time.perf_counter()
    try:
        scores = head.score_by(texts, await ask(member, question, limit_s))
        outcome = "answered"
    except EngineLost:
        metrics.judged("failed", time.perf_counter() - begun)
        raise
    except TimeoutError:
        scores, outcome = head.score(texts), "late"
    except (RouterError, ValueError) as error:
        log.debug("no verdict: %s", error)
        scores, outcome = head.score(texts), "failed" if isinstance(error, RouterError) else "unreadable"
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
