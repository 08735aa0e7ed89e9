"""Passes vLLM's statistics to our load meter. vLLM calls it in the host's process after each step of the engine."""

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
