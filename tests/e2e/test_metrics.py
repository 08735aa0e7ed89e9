"""vLLM's own metrics of a real engine, which are recorded at a scrape: they say what vLLM's would have said."""

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from router.ipc.messages import Control, Done
from tests.conftest import WORK_S

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

SUM = [{"role": "user", "content": "What is 12 + 30?"}]
ALL = {"ignore_eos": True}


@pytest.fixture(scope="module")
def hosts(pair, start_host):
    return {
        "on": start_host(pair / "small", name="one", warm_up=True),
        "off": start_host(pair / "small", name="two", metrics=False),
        "own": start_host(pair / "small", name="three", stream_interval=2),
    }


@pytest.fixture
async def join(hosts, join_host):
    joined = []

    async def one(name):
        joined.append(await join_host(hosts[name]))
        return joined[-1]

    yield one
    for client in joined:
        client.channel.close()
    await asyncio.sleep(0)


async def page_of(client):
    client.channel.send(Control("metrics"))
    answer = await asyncio.wait_for(client.controls.get(), WORK_S)
    assert answer.op == "metrics"
    return answer.argument


async def figures(client):
    """Value by name of every sample that stands once, and the labels that all of them have."""
    families = list(text_string_to_metric_families(await page_of(client)))
    samples = [sample for family in families for sample in family.samples if not sample.name.endswith("_bucket")]
    assert len({family.name for family in families}) == len(families)
    assert all(sample.name.startswith("vllm:") for sample in samples)
    by_reason = {
        f"{sample.name} {sample.labels['finished_reason']}": sample.value
        for sample in samples
        if "finished_reason" in sample.labels
    }
    alike = {tuple(sample.labels[label] for label in ("member", "engine", "model_name"))
             for sample in samples if sample.name == "vllm:num_requests_running"}  # fmt: skip
    return {sample.name: sample.value for sample in samples} | by_reason, alike


@pytest.mark.parametrize("engine", ["on", "own"])
async def test_requests_on_both_ways_are_counted_as_vllm_counts_them(join, engine):
    client = await join(engine)
    name = {"on": "one", "own": "three"}[engine]
    before, alike = await figures(client)
    assert before["vllm:generation_tokens_total"] == 0  # the warm-up is nobody's
    assert alike == {(name, "0", name)}
    asked = [
        ("chat", {"messages": SUM, "max_tokens": 50, "stream": True, **ALL}),  # the fast way
        ("chat", {"messages": SUM, "max_tokens": 30, **ALL}),
        ("completions", {"prompt": "Hi", "max_tokens": 10, "echo": False, **ALL}),  # vLLM's serving classes
        ("chat", {"messages": SUM, "max_tokens": 20, "n": 2, "temperature": 1.0, **ALL}),
        ("chat", {"messages": SUM, "max_tokens": 40, "stop": ["4", "2"]}),
    ]
    ends = [(await client.ask(kind, body))[1] for kind, body in asked]
    assert all(isinstance(end, Done) for end in ends)
    after, _ = await figures(client)

    def more(name):
        return after[name] - before[name]

    generated = sum(end.usage.completion_tokens for end in ends)
    finished = len(asked) + 1
    assert more("vllm:request_success_total length") + more("vllm:request_success_total stop") == finished
    assert more("vllm:request_success_total stop") == sum(end.finish_reason == "stop" for end in ends)
    assert more("vllm:generation_tokens_total") == pytest.approx(generated, abs=2)  # what follows a stop text
    # One gap less than tokens in each sequence.
    gaps = more("vllm:inter_token_latency_seconds_count")
    assert gaps == more("vllm:generation_tokens_total") - finished
    assert more("vllm:time_to_first_token_seconds_count") == finished
    assert more("vllm:e2e_request_latency_seconds_count") == finished
    assert more("vllm:e2e_request_latency_seconds_sum") > more("vllm:request_decode_time_seconds_sum") > 0
    assert more("vllm:request_decode_time_seconds_sum") == pytest.approx(more("vllm:inter_token_latency_seconds_sum"))
    assert more("vllm:request_params_n_sum") == finished
    assert more("vllm:prompt_tokens_total") == more("vllm:request_prompt_tokens_sum") > 0
    tokens = more("vllm:iteration_tokens_total_sum")
    assert tokens == more("vllm:generation_tokens_total") + more("vllm:request_prefill_kv_computed_tokens_sum")
    assert more("vllm:iteration_tokens_total_count") >= 50
    assert more("vllm:prefix_cache_queries_total") > 0
    assert after["vllm:cache_config_info"] == 1
    if engine == "on":  # vLLM's own tells the last step's, and that a stop text ends an answer makes none
        assert after["vllm:num_requests_running"] == after["vllm:kv_cache_usage_perc"] == 0


async def test_a_host_whose_spec_wants_no_metrics_has_none(join):
    client = await join("off")
    assert await page_of(client) == ""


async def test_a_running_request_is_seen_running_and_holding_its_cache(join):
    client = await join("on")
    id = client.submit("chat", {"messages": SUM, "stream": True, "max_tokens": 490, **ALL})
    await client.next(id)
    seen = []
    while not isinstance(await client.next(id), Done):
        if len(seen) < 3:
            seen.append((await figures(client))[0])
    assert any(now["vllm:num_requests_running"] == 1 and now["vllm:kv_cache_usage_perc"] > 0 for now in seen)
