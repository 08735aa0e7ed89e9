"""Scores a request without holding up the event loop: on another thread, or by a judge's verdict."""

import asyncio
import time
from collections.abc import Callable, Sequence

from router.observe.metrics import Metrics
from router.pipeline.decider import Decider
from router.pipeline.judge import score as score_by_judge
from router.pipeline.request import Request
from router.pipeline.ruling import scored
from router.pipeline.threads import Threads
from router.pool import PoolMember
from router.types import Decision, Query, Scores


async def _judged(decider: Decider, judge: PoolMember, query: Query, body: bytes, metrics: Metrics) -> Scores:
    limit_s = decider.routing.judge_timeout_s
    scores = await score_by_judge(decider.scoring.head, judge, query, limit_s, metrics)
    return scored(decider.rules, query, body, scores)


def score_elsewhere(
    request: Request,
    decider: Decider,
    threads: Threads,
    pool: Sequence[PoolMember],
    metrics: Metrics,
    decided: Callable[[Decision, float], None],
) -> None:
    """`decided` is told the decision, and when the scoring began (`time.perf_counter`)."""
    judge = decider.judge
    if request.phase != "scoring":  # it may be scored again, for a pool that has changed
        request.go("scoring")
    begun = time.perf_counter()

    def told(future: "asyncio.Future[Scores]") -> None:
        request.scored(future)
        if request.decision is not None:
            decided(request.decision, begun)

    query, body = request.query, request.body
    unjudged = request.settings.rule == "pinned" or decider.reads_long(body)
    if judge is None or unjudged or decider.forbids(judge, query, body):
        future = threads.run(lambda query: decider.score(query, body), query)
    else:
        future = asyncio.ensure_future(_judged(decider, pool[judge], query, body, metrics))
    future.add_done_callback(told)
