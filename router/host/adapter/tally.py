"""Feeds vLLM's own Prometheus metrics at a scrape, not at each token.

vLLM's logger takes 0.1 ms a step and 5 us a token. `Tally` stands in its place: figures of a step are added to lists
and sums, and what vLLM would have recorded step by step is recorded at once when somebody asks, or when the lists are
long.
Names, labels, buckets and meanings stay vLLM's, since its logger is what finally records.
"""

import copy
from typing import Any

import numpy as np
from vllm.v1.engine.output_processor import OutputProcessor
from vllm.v1.metrics.stats import IterationStats

#: Gaps between tokens, and ended requests, that are kept before they are recorded without a scrape.
_MOST_GAPS = 16_384
_MOST_ENDED = 1_024
#: Statistics of features that few engines use: a step that has one of them is recorded as vLLM does.
_RARE = (
    "connector_prefix_cache_stats", "kv_cache_eviction_events", "spec_decoding_stats", "kv_connector_stats",
    "ec_connector_stats", "running_lora_adapters", "waiting_lora_adapters", "perf_stats",
)  # fmt: skip


class Bulk:
    """A child of a Prometheus histogram whose observations are counted many at once."""

    __slots__ = ("_child", "values")

    def __init__(self, child: Any) -> None:
        self._child = child
        self.values: list[float] = []

    def observe(self, value: float) -> None:
        self.values.append(value)

    def fold(self) -> None:
        """Count what was observed, as `Histogram.observe` would: in the first bucket whose bound is not below it."""
        if not self.values:
            return
        values, self.values = np.asarray(self.values, dtype=np.float64), []
        places = np.searchsorted(self._child._upper_bounds, values)
        for bucket, count in zip(self._child._buckets, np.bincount(places).tolist(), strict=False):
            if count:
                bucket.inc(count)
        self._child._sum.inc(float(values.sum()))


class Tally:
    """In the place of vLLM's `PrometheusStatLogger`, which `logger` is. Called from the event loop's thread only."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._several = len(logger.engine_indexes) > 1
        self._bulks = _in_bulk(logger)
        self._stats = IterationStats()
        self._steps: list[float] = []  #: tokens of each step
        self._counted = self._carried = 0  #: tokens of the step under way: not its own, and those of earlier `_stats`
        self._had_outputs = False
        self._scheduled: dict[int, Any] = {}  #: the latest, by engine
        self._looked_up: dict[int, tuple[int, int]] = {}  #: prefix cache: queries, hits since the last flush, by engine

    def step(self) -> Any:
        """What outputs of the step under way are to be counted in: vLLM's `IterationStats`."""
        self._had_outputs = True
        return self._stats

    def record(
        self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None, engine_idx: int = 0
    ) -> None:
        """vLLM's call at the end of a step of one engine."""
        if mm_cache_stats is not None and mm_cache_stats.queries:
            self._logger.record(None, None, mm_cache_stats, engine_idx)
        if iteration_stats is not None:
            self._logger.record(None, iteration_stats, None, engine_idx)
        if scheduler_stats is not None:
            self._schedule(scheduler_stats, engine_idx)
        if self._had_outputs:
            self._had_outputs = False
            total = _tokens(self._stats)
            self._steps.append(self._carried + total - self._counted)
            self._counted, self._carried = total, 0
        stats = self._stats
        long = len(stats.inter_token_latencies_iter) > _MOST_GAPS or len(stats.finished_requests) > _MOST_ENDED
        if long or self._several or len(self._steps) > _MOST_GAPS:
            self._flush_steps(engine_idx)

    def flush(self, *, idle: bool = False) -> None:
        """Bring vLLM's metrics up to date. `idle`: no request is under way, which the scheduler's last statistics may
        not know: an abort makes no step."""
        self._flush_steps(self._logger.engine_indexes[0])
        for engine_idx, stats in list(self._scheduled.items()):
            if idle:
                stats.num_running_reqs = stats.num_waiting_reqs = stats.num_skipped_waiting_reqs = 0
                stats.kv_cache_usage = 0.0
            self._flush_scheduled(engine_idx)

    def discard(self) -> None:
        """Forget what was not recorded yet: of requests that were nobody's."""
        self._stats, self._steps = IterationStats(), []
        self._counted = self._carried = 0
        self._looked_up.clear()

    def __getattr__(self, name: str) -> Any:
        """All else that vLLM calls: log, log_engine_initialized, record_sleep_state and what comes."""
        return getattr(self._logger, name)

    def _schedule(self, stats: Any, engine_idx: int) -> None:
        if any(getattr(stats, name, None) for name in _RARE):
            self._flush_scheduled(engine_idx)
            self._logger.record(stats, None, None, engine_idx)
            return
        self._scheduled[engine_idx] = stats
        queries, hits = self._looked_up.get(engine_idx, (0, 0))
        prefix = stats.prefix_cache_stats
        self._looked_up[engine_idx] = queries + prefix.queries, hits + prefix.hits

    def _flush_scheduled(self, engine_idx: int) -> None:
        stats = copy.copy(self._scheduled.get(engine_idx))
        if stats is None:
            return
        stats.prefix_cache_stats = copy.copy(stats.prefix_cache_stats)
        queries, hits = self._looked_up.pop(engine_idx, (0, 0))
        stats.prefix_cache_stats.queries, stats.prefix_cache_stats.hits = queries, hits
        self._logger.record(stats, None, None, engine_idx)

    def _flush_steps(self, engine_idx: int) -> None:
        stats, self._stats = self._stats, IterationStats()
        self._carried += _tokens(stats) - self._counted
        self._counted = 0
        steps, self._steps = self._steps, []
        gaps, stats.inter_token_latencies_iter = stats.inter_token_latencies_iter, []
        self._logger.histogram_inter_token_latency[engine_idx].values += gaps
        self._logger.record(None, stats, None, engine_idx)
        per_step = self._logger.histogram_iteration_tokens[engine_idx]
        per_step.values.pop()  # of all steps together, as vLLM took them for one
        per_step.values += steps
        for bulk in self._bulks:
            bulk.fold()


def tally_of(engine: Any) -> Tally | None:
    """Put a tally in the place of the engine's Prometheus logger. None, and no change, where this vLLM is otherwise
    than expected or has no such logger. Call before the first request."""
    loggers: list[Any] = getattr(engine.logger_manager, "stat_loggers", None) or []
    for i, logger in enumerate(loggers):
        if "Prometheus" in type(logger).__name__ and _fits(logger):
            tally = loggers[i] = Tally(logger)
            return tally
    return None


def _fits(logger: Any) -> bool:
    """Whether all that is used here is there."""
    counted = ("inter_token_latencies_iter", "finished_requests", "num_generation_tokens", "prompt_token_stats")
    called = ("_update_stats_from_output", "_update_stats_from_finished")
    needed = ("histogram_inter_token_latency", "histogram_iteration_tokens")
    children = [child for name in needed for child in getattr(logger, name, {None: None}).values()]
    return (
        hasattr(logger, "engine_indexes")
        and all(hasattr(IterationStats(), name) for name in counted)
        and all(hasattr(OutputProcessor, name) for name in called)
        and all(_takes_bulk(child) for child in children)
    )


def _takes_bulk(child: Any) -> bool:
    return all(hasattr(child, name) for name in ("_buckets", "_upper_bounds", "_sum"))


def _in_bulk(logger: Any) -> list[Bulk]:
    """Replace the logger's histograms, which stand in dictionaries by engine."""
    bulks = []
    for name, children in vars(logger).items():
        if not name.startswith("histogram_") or not isinstance(children, dict):
            continue
        for engine_idx, child in children.items():
            if _takes_bulk(child):
                children[engine_idx] = bulk = Bulk(child)
                bulks.append(bulk)
    return bulks


def _tokens(stats: Any) -> int:
    """Computed and generated, as vLLM counts the tokens of a step."""
    count: int = stats.prompt_token_stats.computed + stats.num_generation_tokens
    return count
