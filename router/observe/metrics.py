"""Counters and histograms as plain integers, turned into Prometheus families only when scraped.

prometheus-client's own objects cost several microseconds an update; these cost a dictionary look-up. Counts lie in
buffers, which native code counts in (`*_of`). Knows no request.
"""

import asyncio
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from math import inf
from time import monotonic
from typing import Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from router.observe.batch_families import BatchFigures, batch_families
from router.observe.engine_metrics import EngineMetrics
from router.observe.leg_counts import LegCounts
from router.observe.member_gauges import PREFIX, MemberGauges, member_families
from router.observe.record import Record
from router.types import API_PATHS, STORED_PATH, Kind, Usage

#: Making the page takes milliseconds, and any client may ask for it: one page serves all who ask within this time.
PAGE_KEPT_S = 1.0
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Names of the routes, as `frontend.routes.Route` has them.
_ROUTES: dict[Kind, str] = {**API_PATHS, "stored": STORED_PATH + "{id}"}
#: `Record.task` of the lines of batches.
BATCH = "batch"
_TOKENS = ("prompt", "completion", "cached")

OVERHEAD_BOUNDS_S = array("d", [1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 0.1, 1.0])
LATENCY_BOUNDS_S = array("d", [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0])
TOKEN_BOUNDS_S = array("d", [0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0])


class JournalCounts(Protocol):
    """Of the journal, since the start."""

    late: int

    @property
    def queued_bytes(self) -> int: ...

    @property
    def taken_bytes(self) -> int: ...

    @property
    def written(self) -> int: ...

    @property
    def dropped(self) -> int: ...


class FeedbackCounts(Protocol):
    """Of the answers that can be rated."""

    forgotten: int

    @property
    def open_ids(self) -> int: ...


class Histogram:
    """Counts per bucket and the sum of what was observed. `bounds` are upper bounds, ascending, without infinity.

    Native code counts in the buffers `counts` and `total`. What is observed here is kept beside them and added when
    asked for: to change an item of a buffer from Python takes as long as all else of `observe`.
    """

    __slots__ = ("_bounds", "_counts", "_total", "bounds", "counts", "total")

    def __init__(self, bounds: "array[float]") -> None:
        self.bounds, self._bounds = bounds, tuple(bounds)
        self.counts = array("q", [0] * (len(bounds) + 1))
        self._counts = [0] * (len(bounds) + 1)
        self.total = array("d", [0.0])
        self._total = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def add(self, other: "Histogram") -> None:
        """Of the same bounds."""
        for i, count in enumerate(other.all_counts()):
            self._counts[i] += count
        self._total += other.sum()

    def all_counts(self) -> list[int]:
        return [here + there for here, there in zip(self._counts, self.counts, strict=True)]

    def sum(self) -> float:
        return self._total + self.total[0]

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus wants them."""
        names = [*map(str, self._bounds), "+Inf"]
        return [(name, float(count)) for name, count in zip(names, accumulate(self.all_counts()), strict=True)]


class Labelled:
    """A histogram for each value of one label."""

    __slots__ = ("_bounds", "children")

    def __init__(self, bounds: "array[float]") -> None:
        self._bounds = bounds
        self.children: dict[str, Histogram] = {}

    def child(self, label: str) -> Histogram:
        child = self.children.get(label)
        if child is None:
            child = self.children[label] = Histogram(self._bounds)
        return child

    def observe(self, label: str, value: float) -> None:
        self.child(label).observe(value)


class Metrics(Collector):
    """All of one process's metrics. Called from the event loop's thread only."""

    def __init__(self, *, process: bool = True) -> None:
        self.connections = 0  #: open client connections
        self._requests: dict[tuple[str, str, int], Histogram] = {}  #: of seconds, by route, model, status
        self._errors: dict[str, int] = {}
        self._refusals: dict[str, int] = {}
        self.queue_seconds = Histogram(LATENCY_BOUNDS_S)  #: of requests that waited for a slot, whatever came of it
        self._queue_length: Callable[[], int] = int
        self._decisions: dict[tuple[str, str], array[int]] = {}  # of one count
        self._tokens: dict[str, array[int]] = {}
        self.decision_seconds = Histogram(OVERHEAD_BOUNDS_S)
        self.overhead_seconds = Histogram(OVERHEAD_BOUNDS_S)
        self._judgements: dict[str, int] = {}
        self.legs = LegCounts()
        self._judge_seconds = Histogram(LATENCY_BOUNDS_S)
        self._first_token = Labelled(LATENCY_BOUNDS_S)
        self._output_token = Labelled(TOKEN_BOUNDS_S)
        self._members: Callable[[], Iterable[MemberGauges]] = tuple
        self._journal: JournalCounts | None = None
        self._steps: Callable[[], Iterable[tuple[str, str, str, int]]] = tuple
        self._open: FeedbackCounts | None = None
        self._feedback: dict[str, int] = {}
        self._batches: Callable[[], BatchFigures] | None = None
        self._prices: Callable[[], Iterable[Metric]] = tuple
        self._engines: EngineMetrics | None = None
        self._making: asyncio.Task[bytes] | None = None
        self._page = b""
        self._page_made_s = -inf
        self._registry = CollectorRegistry()
        self._registry.register(self)
        if process:
            ProcessCollector(registry=self._registry)

    def watch(self, members: Callable[[], Iterable[MemberGauges]]) -> None:
        """`members` is asked at each scrape."""
        self._members = members

    def watch_engines(self, engines: EngineMetrics) -> None:
        """`engines` are asked for their own metrics when the whole page is."""
        self._engines = engines

    def watch_journal(self, counts: "JournalCounts") -> None:
        self._journal = counts

    def watch_steps(self, rows: Callable[[], Iterable[tuple[str, str, str, int]]]) -> None:
        """`rows` is asked at each scrape: step, whether it was native, why not, how many requests."""
        self._steps = rows

    def watch_queue(self, length: Callable[[], int]) -> None:
        """`length` is asked at each scrape: requests that wait for a slot."""
        self._queue_length = length

    def watch_batches(self, figures: Callable[[], BatchFigures]) -> None:
        """`figures` is asked at each scrape."""
        self._batches = figures

    def watch_prices(self, families: Callable[[], Iterable[Metric]]) -> None:
        """`families` is asked at each scrape."""
        self._prices = families

    def watch_feedback(self, counts: "FeedbackCounts") -> None:
        self._open = counts

    def feedback(self, result: str) -> None:
        """A client's word on an answer: written, or the code of the error that it was given."""
        self._feedback[result] = self._feedback.get(result, 0) + 1

    def request(self, route: str, model: str, status: int, seconds: float) -> None:
        """A request was answered, or ended without an answer; `seconds` from its last byte in to its end."""
        self.requests_of(route, model, status).observe(seconds)

    def ended(self, record: Record) -> None:
        """An accepted request has ended; native ends are counted natively (`native/meters.pyx`)."""
        model = record.model
        route = _ROUTES[record.kind] if record.task != BATCH else "/v1/batches"  # nobody waits for these
        self.request(route, model, record.status, record.total_s)
        if record.error:
            self.error(record.error)
        if record.stream and record.ttft_s is not None:
            self.first_token(model, record.ttft_s)
        if record.end == "finish":
            self.tokens(model, Usage(record.prompt_tokens, record.completion_tokens, record.cached_tokens))
            if record.tpot_s is not None:
                self.output_token(model, record.tpot_s)
        self.legs.ended(record)

    def error(self, type: str) -> None:
        self._errors[type] = self._errors.get(type, 0) + 1

    def refused(self, reason: str) -> None:
        """The gate did not let a request in: `key`, `in_flight`, `queue_time`, `pending_bytes` or `closed`."""
        self._refusals[reason] = self._refusals.get(reason, 0) + 1

    def decided(self, model: str, reason: str, seconds: float) -> None:
        """A decision was made, in `seconds`: scoring and policy."""
        self.decisions_of(model, reason)[0] += 1
        self.decision_seconds.observe(seconds)

    def judged(self, result: str, seconds: float) -> None:
        """A judge was wanted: answered, late, unreadable, failed; or known, and not asked."""
        self._judgements[result] = self._judgements.get(result, 0) + 1
        if result != "known":
            self._judge_seconds.observe(seconds)

    def overhead(self, seconds: float) -> None:
        """From a request's last byte in to its hand-over to an engine."""
        self.overhead_seconds.observe(seconds)

    def first_token(self, model: str, seconds: float) -> None:
        self._first_token.observe(model, seconds)

    def output_token(self, model: str, seconds: float) -> None:
        """Mean time per output token of one answer, the first excluded."""
        self._output_token.observe(model, seconds)

    def tokens(self, model: str, usage: Usage) -> None:
        counts = self.tokens_of(model)
        for i, count in enumerate((usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)):
            counts[i] += count

    # The buffers themselves

    def requests_of(self, route: str, model: str, status: int) -> Histogram:
        histogram = self._requests.get((route, model, status))
        if histogram is None:
            histogram = self._requests[route, model, status] = Histogram(LATENCY_BOUNDS_S)
        return histogram

    def decisions_of(self, model: str, reason: str) -> "array[int]":
        """One count."""
        count = self._decisions.get((model, reason))
        if count is None:
            count = self._decisions[model, reason] = array("q", [0])
        return count

    def tokens_of(self, model: str) -> "array[int]":
        """Prompt, completion, cached."""
        counts = self._tokens.get(model)
        if counts is None:
            counts = self._tokens[model] = array("q", [0] * len(_TOKENS))
        return counts

    def first_token_of(self, model: str) -> Histogram:
        return self._first_token.child(model)

    def output_token_of(self, model: str) -> Histogram:
        return self._output_token.child(model)

    def page(self) -> bytes:
        """The scrape, at most `PAGE_KEPT_S` old."""
        now = monotonic()
        if now - self._page_made_s >= PAGE_KEPT_S:
            self._page, self._page_made_s = self.render(), now
        return self._page

    def whole_page(self) -> "bytes | asyncio.Task[bytes]":
        """As `page`, with the engines' families, which take a while; whoever asks meanwhile gets the same one."""
        if self._engines is None or monotonic() - self._page_made_s < PAGE_KEPT_S:
            return self.page()
        if self._making is None:
            self._making = asyncio.get_running_loop().create_task(self._make_whole(self._engines))
        return self._making

    async def _make_whole(self, engines: EngineMetrics) -> bytes:
        try:
            of_engines = await engines.page()
            self._page, self._page_made_s = self.render() + of_engines, monotonic()
            return self._page
        finally:
            self._making = None

    def render(self) -> bytes:
        """The scrape as of now, in Prometheus's text format."""
        return bytes(generate_latest(self._registry))

    def collect(self) -> Iterator[Metric]:
        members = tuple(self._members())
        requests = {key: sum(histogram.all_counts()) for key, histogram in self._requests.items()}
        decisions = {key: count[0] for key, count in self._decisions.items()}
        yield _counter("requests", "Requests answered.", ("route", "model", "status"), requests)
        yield _counter("errors", "Requests that ended in an error.", ("type",), self._errors)
        yield _counter("refusals", "Requests that the gate did not let in.", ("reason",), self._refusals)
        yield _gauge("queue_length", "Requests that wait for a slot.", self._queue_length())
        yield _histogram("queue_seconds", "How long requests waited for a slot, in vain or not.", self.queue_seconds)
        yield _counter("decisions", "Routing decisions.", ("model", "reason"), decisions)
        tokens = {
            (model, kind): n for model, counts in self._tokens.items() for kind, n in zip(_TOKENS, counts, strict=True)
        }
        yield _counter("tokens", "Tokens of finished answers.", ("model", "type"), tokens)
        steps = {(step, native, why): n for step, native, why, n in self._steps()}
        about = "Requests by the steps they took natively, or at which they left the native ones."
        yield _counter("steps", about, ("step", "native", "why"), steps)
        yield _histogram("decision_seconds", "Scoring and policy.", self.decision_seconds)
        yield from self.legs.families()
        if self._judgements:
            yield _counter("judgements", "Verdicts wanted of a judge.", ("result",), self._judgements)
            yield _histogram("judge_seconds", "From a judge's question to its verdict.", self._judge_seconds)
        yield _histogram("overhead_seconds", "Last byte in to hand-over to an engine.", self.overhead_seconds)
        yield _labelled("time_to_first_token_seconds", "Of streamed answers.", "model", self._first_token)
        yield _labelled("time_per_output_token_seconds", "Mean of an answer.", "model", self._output_token)
        if self._journal is not None:
            yield from _journal_families(self._journal)
        if self._open is not None:
            yield from _feedback_families(self._open, self._feedback)
        if self._batches is not None:
            yield from batch_families(self._batches())
        yield _labelled("request_seconds", "Last byte in to last byte out.", "route", self._seconds_by_route())
        if self._engines is not None:
            about = "Scrapes whose page lacks the engine's own metrics: no answer in time, or a spoilt one."
            yield _counter("engine_metrics_left_out", about, ("model",), self._engines.left_out)
        yield _gauge("connections", "Open client connections.", self.connections)
        yield _gauge("requests_in_flight", "Accepted and unfinished.", sum(member.in_flight for member in members))
        yield from member_families(members)
        yield from self._prices()

    def _seconds_by_route(self) -> Labelled:
        merged = Labelled(LATENCY_BOUNDS_S)
        for (route, _, _), histogram in self._requests.items():
            merged.child(route).add(histogram)
        return merged


def _counter(
    name: str,
    text: str,
    labels: Sequence[str],
    values: dict[tuple[str, str, str], int]
    | dict[tuple[str, str, int], int]
    | dict[tuple[str, str], int]
    | dict[str, int],
) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text, labels=labels)
    for key, count in values.items():
        family.add_metric([key] if isinstance(key, str) else [str(part) for part in key], count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, text)
    family.add_metric([], histogram.buckets(), histogram.sum())
    return family


def _labelled(name: str, text: str, label: str, labelled: Labelled) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, text, labels=[label])
    for value, histogram in labelled.children.items():
        family.add_metric([value], histogram.buckets(), histogram.sum())
    return family


def _journal_families(counts: JournalCounts) -> Iterator[Metric]:
    about = (
        ("journal_records", "Lines written to the journal.", counts.written),
        ("journal_dropped", "Lines that the journal could not take.", counts.dropped),
        ("journal_late", "Answers that left before their record was written.", counts.late),
    )
    for name, text, count in about:
        family = CounterMetricFamily(PREFIX + name, text)
        family.add_metric([], count)
        yield family
    yield _gauge("journal_queued_bytes", "Bytes that wait for the disk.", counts.queued_bytes - counts.taken_bytes)


def _feedback_families(counts: FeedbackCounts, results: dict[str, int]) -> Iterator[Metric]:
    yield _counter("feedback", "What clients said of answers, and what became of it.", ("result",), results)
    yield _gauge("feedback_open_ids", "Answers that can be rated.", counts.open_ids)
    forgotten = CounterMetricFamily(PREFIX + "feedback_forgotten", "Answers that cannot be rated any more.")
    forgotten.add_metric([], counts.forgotten)
    yield forgotten


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, text, value=value)
