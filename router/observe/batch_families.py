"""The batches on the metrics page."""

from collections.abc import Iterator, Mapping

import msgspec
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from router.observe.member_gauges import PREFIX


class BatchFigures(msgspec.Struct, frozen=True, kw_only=True):
    """At the moment of a scrape. Counts of lines are those since the start."""

    batches: Mapping[str, int]  #: that there are, by status
    completed: int
    failed: int
    put_back: int  #: lines that made room for other requests
    running: int
    files: int
    used_bytes: int  #: of all files and results


def batch_families(figures: BatchFigures) -> Iterator[Metric]:
    lines = CounterMetricFamily(PREFIX + "batch_lines", "Lines with a result on disk.", labels=["result"])
    lines.add_metric(["completed"], figures.completed)
    lines.add_metric(["failed"], figures.failed)
    yield lines
    put_back = CounterMetricFamily(PREFIX + "batch_put_back", "Lines that made room for other requests.")
    put_back.add_metric([], figures.put_back)
    yield put_back
    batches = GaugeMetricFamily(PREFIX + "batches", "Batches by status.", labels=["status"])
    for status, count in figures.batches.items():
        batches.add_metric([status], count)
    yield batches
    gauges = (
        ("batch_running", "Lines that run now.", figures.running),
        ("batch_files", "Files of batches and of their results.", figures.files),
        ("batch_used_bytes", "Bytes of these, of uploads and of results so far.", figures.used_bytes),
    )
    for name, text, value in gauges:
        yield GaugeMetricFamily(PREFIX + name, text, value=value)
