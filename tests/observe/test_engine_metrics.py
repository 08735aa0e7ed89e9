"""The engines' own metrics: merged as Prometheus wants them, in time, whatever an engine sends."""

import asyncio
import logging
from collections.abc import Awaitable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from router.observe.engine_metrics import EngineMetrics
from router.observe.metrics import Metrics

RUNNING = '# HELP vllm:running Now.\n# TYPE vllm:running gauge\nvllm:running{engine="0",member="NAME"} 2.0\n'
TIMES = """# HELP vllm:ttft_seconds Of \\n all, {odd} "words".
# TYPE vllm:ttft_seconds histogram
vllm:ttft_seconds_bucket{engine="0",le="+Inf",member="NAME"} 3.0
vllm:ttft_seconds_count{engine="0",member="NAME"} 3.0
vllm:ttft_seconds_sum{engine="0",member="NAME"} 1.5e-05
"""


async def told(text: str) -> str:
    return text


async def never() -> str:
    await asyncio.Event().wait()
    return ""


async def lost() -> str:
    raise asyncio.CancelledError


async def broken() -> str:
    raise RuntimeError("it broke")


def engines(**answers: Awaitable[str]) -> EngineMetrics:
    return EngineMetrics(lambda: answers, timeout_s=0.05)


async def test_two_engines_share_a_familys_help_and_type_and_are_told_apart_by_member() -> None:
    small, large = (TIMES.replace("NAME", name) for name in ("small", "large"))
    page = (await engines(small=told(RUNNING.replace("NAME", "small") + small), large=told(large)).page()).decode()
    assert page.count("# HELP vllm:ttft_seconds ") == page.count("# TYPE vllm:ttft_seconds ") == 1
    families = {family.name: family for family in text_string_to_metric_families(page)}
    assert list(families) == ["vllm:running", "vllm:ttft_seconds"]
    sums = [sample for sample in families["vllm:ttft_seconds"].samples if sample.name.endswith("_sum")]
    assert [(sample.labels["member"], sample.value) for sample in sums] == [("small", 1.5e-05), ("large", 1.5e-05)]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (never, "it did not answer within 0.05 s"),
        (lost, "it was lost"),
        (broken, "it broke"),
        (lambda: told("no page"), "expected a family first, got 'no page'"),
        (lambda: told("# HELP a b\na 1\n"), "expected the name of a family and its type"),
        (lambda: told(RUNNING + "vllm:other 1\n"), "expected a sample of vllm:running, got 'vllm:other 1'"),
        (lambda: told(RUNNING + 'vllm:running{a="\n"} 1\n'), "expected a sample of vllm:running"),
        (lambda: told(RUNNING.replace("2.0", "two")), "expected a sample of vllm:running"),
        (lambda: told(RUNNING.replace("2.0", "1_0")), "expected a sample of vllm:running"),
        (lambda: told(RUNNING.replace("gauge", "gouge")), "expected the name of a family and its type"),
        (lambda: told(RUNNING.replace("NAME", "x" * 20_000)), "expected a sample of vllm:running"),
        (lambda: told(RUNNING.replace("gauge", "counter")), "vllm:running is a counter here and a gauge elsewhere"),
    ],
    ids=[
        "silent",
        "lost",
        "broken",
        "no page",
        "no type",
        "other family",
        "a line cut",
        "no number",
        "no number for Prometheus",
        "no type of Prometheus's",
        "a line of 20 kB",
        "other type",
    ],
)
async def test_an_engine_that_gives_no_good_page_in_time_is_left_out_counted_and_told(
    answer, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    both = engines(good=told(RUNNING.replace("NAME", "good")), bad=answer())
    with caplog.at_level(logging.WARNING):
        page = (await both.page()).decode()
    assert page.count('member="good"') == 1
    assert both.left_out == {"bad": 1}
    assert f"metrics of engine 'bad' are left out of the page, 1 times by now: {why}" in caplog.text


@pytest.mark.parametrize("value", ["2", "-1.5e+300", "1e-05", "NaN", "+Inf", "-Inf", "0.0", "12345678901234567890.0"])
async def test_a_sample_may_have_any_value_that_prometheus_reads(value: str) -> None:
    assert (await engines(one=told(RUNNING.replace("2.0", value))).page()).decode() == RUNNING.replace("2.0", value)


async def test_a_family_of_very_many_samples_is_read_in_many_turns_of_the_loop() -> None:
    head, sample = RUNNING[: RUNNING.index("vllm:running{")], 'vllm:running{engine="%d",member="NAME"} 2.0\n'
    page = head + "".join(sample % i for i in range(20_000))
    making = asyncio.ensure_future(engines(one=told(page)).page())
    turns = 0
    while not making.done():
        await asyncio.sleep(0)
        turns += 1
    assert (await making).decode() == page
    assert turns > 70


async def test_the_whole_page_has_our_families_the_engines_and_the_count_of_those_left_out() -> None:
    asked = 0

    def ask() -> dict[str, Awaitable[str]]:
        nonlocal asked
        asked += 1
        return {"small": told(RUNNING.replace("NAME", "small")), "dead": never()}

    metrics = Metrics(process=False)
    metrics.watch_engines(EngineMetrics(ask, timeout_s=0.01))
    making = metrics.whole_page()
    assert metrics.whole_page() is making  # who asks meanwhile gets the same
    page = await making
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }
    assert samples["vllm:running", (("engine", "0"), ("member", "small"))] == 2
    assert samples["headgate_connections", ()] == 0
    assert samples["headgate_engine_metrics_left_out_total", (("model", "dead"),)] == 1
    assert metrics.whole_page() == page  # kept
    assert asked == 1
