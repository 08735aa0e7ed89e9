"""Metrics: what a scrape says is what was counted, in Prometheus's own reading."""

import time
from array import array

import pytest
from prometheus_client.parser import text_string_to_metric_families

from router.observe.member_gauges import MemberGauges
from router.observe.metrics import Histogram, Metrics
from router.types import Usage

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(metrics: Metrics) -> Samples:
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def test_counters() -> None:
    metrics = Metrics(process=False)
    for status in (200, 200, 429):
        metrics.request("/v1/completions", "small", status, 0.02)
    metrics.error("rate_limit_error")
    metrics.decided("small", "utility", 2e-5)
    metrics.tokens("small", Usage(10, 3, 4))
    metrics.tokens("small", Usage(1, 1, 0))
    samples = scrape(metrics)
    about = {"route": "/v1/completions", "model": "small"}
    assert value(samples, "headgate_requests_total", **about, status="200") == 2
    assert value(samples, "headgate_requests_total", **about, status="429") == 1
    assert value(samples, "headgate_errors_total", type="rate_limit_error") == 1
    assert value(samples, "headgate_decisions_total", model="small", reason="utility") == 1
    assert value(samples, "headgate_tokens_total", model="small", type="prompt") == 11
    assert value(samples, "headgate_tokens_total", model="small", type="completion") == 4
    assert value(samples, "headgate_tokens_total", model="small", type="cached") == 4


def test_histograms_are_cumulative() -> None:
    metrics = Metrics(process=False)
    for seconds in (1e-5, 2e-5, 2e-3, 5.0):
        metrics.overhead(seconds)
    samples = scrape(metrics)
    for bound, count in (("1e-05", 1), ("2.5e-05", 2), ("0.001", 2), ("0.0025", 3), ("1.0", 3), ("+Inf", 4)):
        assert value(samples, "headgate_overhead_seconds_bucket", le=bound) == count
    assert value(samples, "headgate_overhead_seconds_count") == 4
    assert value(samples, "headgate_overhead_seconds_sum") == pytest.approx(5.00203)


def test_histograms_with_a_label() -> None:
    metrics = Metrics(process=False)
    metrics.first_token("small", 0.2)
    metrics.first_token("large", 0.7)
    metrics.output_token("small", 0.004)
    samples = scrape(metrics)
    assert value(samples, "headgate_time_to_first_token_seconds_bucket", model="small", le="0.25") == 1
    assert value(samples, "headgate_time_to_first_token_seconds_bucket", model="large", le="0.25") == 0
    assert value(samples, "headgate_time_per_output_token_seconds_sum", model="small") == 0.004


def test_a_value_on_a_bound_belongs_to_it() -> None:
    histogram = Histogram((1.0, 2.0))
    histogram.observe(1.0)
    assert histogram.buckets() == [("1.0", 1.0), ("2.0", 1.0), ("+Inf", 1.0)]


def test_what_native_code_counts_in_the_buffers_and_what_is_observed_here_is_one_histogram() -> None:
    """Of two requests one takes the common way, natively, the other the ordinary one."""
    histogram = Histogram(array("d", [1.0, 2.0]))
    histogram.counts[1] += 1
    histogram.total[0] += 1.5
    histogram.observe(4.0)
    merged = Histogram(array("d", [1.0, 2.0]))
    merged.observe(0.5)
    merged.add(histogram)
    assert histogram.buckets() == [("1.0", 0.0), ("2.0", 1.0), ("+Inf", 2.0)]
    assert histogram.sum() == 5.5
    assert merged.buckets() == [("1.0", 1.0), ("2.0", 2.0), ("+Inf", 3.0)]
    assert merged.sum() == 6.0


def test_members_are_asked_at_each_scrape() -> None:
    metrics = Metrics(process=False)
    running = 1

    def members() -> tuple[MemberGauges, ...]:
        return (
            MemberGauges(
                model='odd "name"',
                ready=True,
                breaker_open=False,
                running=running,
                waiting=2,
                kv_use=0.5,
                prefix_hit=0.25,
                in_flight=3,
                restarts=4,
            ),
        )

    metrics.watch(members)
    assert value(scrape(metrics), "headgate_member_running", model='odd "name"') == 1
    running = 9
    samples = scrape(metrics)
    assert value(samples, "headgate_member_running", model='odd "name"') == 9
    assert value(samples, "headgate_member_ready", model='odd "name"') == 1
    assert value(samples, "headgate_member_kv_use_ratio", model='odd "name"') == 0.5
    assert value(samples, "headgate_member_restarts_total", model='odd "name"') == 4
    assert value(samples, "headgate_requests_in_flight") == 3


def test_every_name_is_ours_or_the_process() -> None:
    metrics = Metrics()
    metrics.request("/health", "", 200, 0.1)
    names = {name for name, _ in scrape(metrics)}
    assert {name for name in names if not name.startswith(("headgate_", "process_"))} == set()
    assert "process_cpu_seconds_total" in names


def test_what_a_request_costs() -> None:
    """All updates of one request: some 2 us; the bound leaves room for a busy machine."""
    metrics = Metrics(process=False)
    usage = Usage(10, 3, 4)
    rounds = 20_000
    best = float("inf")
    for _ in range(5):
        begun = time.process_time()
        for _ in range(rounds):
            metrics.decided("small", "utility", 1e-5)
            metrics.overhead(2e-5)
            metrics.first_token("small", 0.1)
            metrics.tokens("small", usage)
            metrics.output_token("small", 0.01)
            metrics.request("/v1/chat/completions", "small", 200, 0.5)
        best = min(best, (time.process_time() - begun) / rounds)
    assert best < 10e-6
    print(f"{best * 1e6:.2f} us a request")
