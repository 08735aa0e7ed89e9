"""Scores a request without holding up the event loop: on another thread, or by a judge's verdict."""

import asyncio
import time
from collections.abc import Callable, Sequence

from router.observe.metrics import Metrics
from router.pipeline.decider import Decider
from router.pipeline.judge import score as score_by_judge
from router.pipeline.request import Request
from router.pipeline.threads import Threads
from router.pool import PoolMember
from router.types import Decision, Scores


def score_elsewhere(
    request: Request,
    decider: Decider,
    threads: Threads,
    pool: Sequence[PoolMember],
    metrics: Metrics,
    decided: Callable[[Decision, float], None],
) -> None:
    """`decided` is told the decision, and when the scoring began (`time.perf_counter`)."""
    scoring, judge = decider.scoring, decider.judge
    if request.phase != "scoring":  # it may be scored again, for a pool that has changed
        request.go("scoring")
    begun = time.perf_counter()

    def scored(future: "asyncio.Future[Scores]") -> None:
        request.scored(future)
        if request.decision is not None:
            decided(request.decision, begun)

    if judge is None or request.settings.rule == "pinned":
        future = threads.run(scoring.score, request.query)
    else:
        limit_s = decider.routing.judge_timeout_s
        future = asyncio.ensure_future(score_by_judge(scoring.head, pool[judge], request.query, limit_s, metrics))
    future.add_done_callback(scored)
