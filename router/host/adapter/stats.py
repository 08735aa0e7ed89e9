"""vLLM's stat logger interface to our load meter. Called in the host's process after each step of the engine."""

import time
from collections.abc import Callable
from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase

from router.host.load import LoadMeter


class LoadLogger(StatLoggerBase):  # type: ignore[misc]
    """vLLM calls its fields unstable, so whatever is missing counts as nothing."""

    def __init__(self, meter: LoadMeter, changed: Callable[[], None], engine_index: int) -> None:
        self._meter = meter
        self._changed = changed
        self._engine = engine_index

    def record(self, scheduler_stats: Any, iteration_stats: Any, *args: Any, **kwargs: Any) -> None:
        if scheduler_stats is not None:
            self._scheduled(scheduler_stats)
        if iteration_stats is not None:
            self._iterated(iteration_stats)
        self._changed()

    def log_engine_initialized(self) -> None:
        pass

    def record_sleep_state(self, *args: Any, **kwargs: Any) -> None:
        pass

    def _scheduled(self, stats: Any) -> None:
        waiting = stats.num_waiting_reqs + getattr(stats, "num_skipped_waiting_reqs", 0)
        self._meter.scheduled(self._engine, stats.num_running_reqs, waiting, stats.kv_cache_usage)
        prefix = getattr(stats, "prefix_cache_stats", None)
        if prefix is not None and prefix.queries:
            self._meter.looked_up(prefix.queries, prefix.hits)

    def _iterated(self, stats: Any) -> None:
        meter = self._meter
        meter.generated(time.monotonic(), stats.num_generation_tokens, stats.inter_token_latencies_iter)
        if stats.num_preempted_reqs:
            meter.preempted(stats.num_preempted_reqs)
        for request in stats.finished_requests:
            tokens = request.num_prompt_tokens - getattr(request, "num_cached_tokens", 0)
            meter.prefilled(tokens, request.prefill_time)
