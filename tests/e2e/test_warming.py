"""Prompts that are only read, by scripted engines over vLLM's own classes."""

import asyncio
import json

import pytest

from router.ipc.messages import Submit
from router.types import Usage
from router.watched import Continued

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def lab():
    pytest.importorskip("vllm")
    from tests.e2e import seam_engine

    return seam_engine


def warm(lab, **more):
    return {"kind": "chat", "body": lab.body("chat", stream=True, temperature=0.7, stop="x", n=3), "warm": True} | more


async def test_a_prompt_is_read_with_its_text_and_nothing_is_answered(lab):
    engine, heard = lab.Engine("qwen", "large"), lab.Heard()
    before = Continued(look=" is")
    await lab.start(engine, heard, **warm(lab, continue_text="The sum", continued=before))
    asked = engine.asked()
    assert asked.prompt_token_ids[-len(lab.ids_of(engine, "The sum")) :] == lab.ids_of(engine, "The sum")
    sampling = asked.sampling_params
    assert (sampling.max_tokens, sampling.n, sampling.stop, sampling.detokenize) == (1, 1, [], False)
    engine.say([5], "length")
    assert (heard.data, heard.ends) == (b"", 1)
    assert (heard.usage, heard.reason) == (Usage(len(asked.prompt_token_ids), 0, 0), "length")
    assert engine.way.warming == set()


async def test_a_prompt_that_nobody_needs_any_more_is_aborted(lab):
    engine, heard = lab.Engine("qwen", "large"), lab.Heard()
    stop = await lab.start(engine, heard, **warm(lab))
    stop()
    await asyncio.sleep(0)
    assert engine.aborted == [engine.last]
    assert (heard.ends, engine.way.warming) == (0, set())


async def test_more_prompts_than_are_read_at_once_are_refused_and_the_rest_read(lab):
    from router.host.adapter.warming import MOST_WARMING

    engine = lab.Engine("gpt2", "large")
    heard = [lab.Heard() for _ in range(MOST_WARMING + 1)]
    for each in heard:
        await lab.start(engine, each, **warm(lab))
    refused = heard[-1].failure
    assert (refused.status, refused.code) == (429, "warm_limit")
    assert len(engine.requests) == MOST_WARMING
    engine.say([5], "length")
    again = lab.Heard()
    await lab.start(engine, again, **warm(lab))
    assert (again.failure, len(engine.requests)) == (None, MOST_WARMING + 1)


async def test_a_prompt_that_fills_the_context_is_refused(lab):
    engine, heard = lab.Engine("gpt2", "large", context=5), lab.Heard()
    await lab.start(engine, heard, **warm(lab))
    assert heard.failure.code == "context_length_exceeded"
    assert "leave no room in this model's context of 5" in json.loads(heard.failure.body)["error"]["message"]
    assert (engine.requests, engine.way.warming) == ({}, set())


async def test_an_engine_that_dies_ends_it(lab):
    engine, heard = lab.Engine("gpt2", "large"), lab.Heard()
    stop = await lab.start(engine, heard, **warm(lab))
    stop.__self__.put(RuntimeError("dead"))
    assert (heard.failure.status, heard.failure.code) == (502, "engine_failed")
    assert engine.way.warming == set()


async def test_what_vllm_refuses_is_told(lab, monkeypatch):
    engine, heard = lab.Engine("gpt2", "large"), lab.Heard()

    async def refuse(*given, **more):
        raise ValueError("no such thing")

    monkeypatch.setattr(engine, "add_request", refuse)
    await lab.start(engine, heard, **warm(lab))
    assert (heard.failure.status, heard.failure.code) == (400, "not_warmed")
    assert json.loads(heard.failure.body)["error"]["message"] == "ValueError: no such thing"
    assert engine.way.warming == set()


async def test_what_only_vllms_classes_read_is_not_warmed(lab):
    engine = lab.Engine("gpt2", "large")
    body = lab.body("chat", logprobs=True)
    assert engine.way.start(Submit(id=1, kind="chat", body=body, warm=True), lab.Heard()) is None
