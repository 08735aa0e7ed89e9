"""The path without HTTP: typed chunks, whole answers, decisions, early ends."""

import asyncio
import gc
from typing import Any

import pytest

from router import Router
from router.config import Config, Member, Routing
from router.errors import BadRequest, DeadlineExceeded, EngineFailed, NoEngine, Overloaded
from router.ipc.messages import Done
from router.pipeline import library as chat_module
from router.pipeline.decider import Decider
from router.pool.base import Failure
from tests.conftest import until

EVENTS = (
    b'data: {"model":"large","choices":[{"index":0,"delta":{"role":"x","content":"4"},"finish_reason":null}]}\n\n'
    b'data: {"model":"large","choices":[{"index":0,"delta":{"content":"2"},"finish_reason":null}]}\n\n',
    b'data: {"model":"large","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":null}}\n\n'
    b"data: [DONE]\n\n",
)


async def call_of(member: Any) -> Any:
    await until(lambda: member.calls)
    return member.calls[-1]


async def collect(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


async def test_chunks_are_typed(two: Any) -> None:
    pool = two()
    stream = pool.router.chat([{"role": "user", "content": "6 * 7?"}], max_tokens=5, temperature=0.0)
    assert stream.decision is None
    reading = asyncio.create_task(collect(stream))
    call = await call_of(pool.large)
    for data in EVENTS:
        call.chunk(data)
    call.receiver.done(Done(id=1))
    chunks = await reading
    assert "".join(chunk.text for chunk in chunks) == "42"
    assert [chunk.finish_reason for chunk in chunks] == [None, None, "stop", None]
    assert chunks[-1].usage.completion_tokens == 2
    assert chunks[0].raw.startswith(b'{"model":"large"')
    assert stream.decision.model == "large"
    assert b'"temperature":0.0' in call.work.body
    assert b'"stream":true' in call.work.body
    assert pool.router.in_flight() == 0


async def test_a_whole_answer(two: Any) -> None:
    pool = two()
    asking = asyncio.create_task(pool.router.complete("6 * 7?", model="small"))
    call = await call_of(pool.small)
    call.chunk(
        b'{"choices":[{"index":0,"message":{"content":"42"},"finish_reason":"stop"}],'
        b'"usage":{"prompt_tokens":9,"completion_tokens":2}}'
    )
    call.receiver.done(Done(id=1))
    answer = await asking
    assert (answer.text, answer.finish_reason, answer.usage.prompt_tokens) == ("42", "stop", 9)
    assert answer.decision.reason == "pinned"


async def test_errors_are_raised(two: Any) -> None:
    pool = two()
    asking = asyncio.create_task(pool.router.complete("x", model="small"))
    (await call_of(pool.small)).receiver.fail(Failure(EngineFailed("it died")))
    with pytest.raises(EngineFailed, match="it died"):
        await asking
    stream = pool.router.chat("x", model="small")
    reading = asyncio.create_task(collect(stream))
    await asyncio.sleep(0)
    call = pool.small.calls[-1]
    call.chunk(EVENTS[0])
    call.receiver.fail(Failure(EngineFailed("in the middle")))
    with pytest.raises(EngineFailed, match="in the middle"):
        await reading


@pytest.mark.parametrize("body", [b"", b"nonsense", b"{}", b'{"choices": "x"}'])
async def test_an_answer_that_is_none(two: Any, body: bytes) -> None:
    pool = two()
    asking = asyncio.create_task(pool.router.complete("x", model="small"))
    call = await call_of(pool.small)
    call.chunk(body)
    call.receiver.done(Done(id=1))
    with pytest.raises(EngineFailed, match="answer"):
        await asking


@pytest.mark.parametrize("way", ["break", "aclose", "cancel"])
async def test_leaving_early_aborts_the_generation(two: Any, way: str) -> None:
    pool = two()

    async def first() -> None:
        stream = pool.router.chat("x")
        async for _ in stream:
            if way == "aclose":
                await stream.aclose()
            if way != "cancel":
                break
        del stream
        gc.collect()

    reading = asyncio.create_task(first())
    call = await call_of(pool.large)
    call.chunk(EVENTS[0])
    await asyncio.sleep(0)
    if way == "cancel":
        await asyncio.sleep(0)
        reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert call.aborted == 1
    assert pool.router.in_flight() == 0


async def test_a_caller_that_does_not_read_is_cut(two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_module, "MAX_UNREAD_BYTES", 1000)
    pool = two()
    stream = pool.router.chat("x")
    reading = asyncio.create_task(anext(stream))
    call = await call_of(pool.large)
    call.chunk(EVENTS[0])
    await reading
    for _ in range(20):
        call.chunk(EVENTS[0])
        if call.aborted:
            break
    assert call.aborted == 1
    with pytest.raises(Overloaded, match="were not read"):
        await collect(stream)


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        (["text"], r"messages\[0\]"),
        ([{"role": "user", "content": "a"}, {"content": "b"}], r"messages\[1\].role"),
        ([{"role": "user", "content": "a\ud83d"}], "messages"),
        ([{"role": "user", "content": object()}], "messages"),
    ],
)
def test_what_is_no_conversation(two: Any, messages: Any, param: str) -> None:
    with pytest.raises(BadRequest) as error:
        two().router.decide(messages)
    assert error.value.param == param.replace("\\", "")


@pytest.mark.parametrize("type", ["image_url", "image", "image_embeds"])
def test_what_a_conversation_needs_is_seen(two: Any, type: str) -> None:
    pool = two()
    image = {
        "role": "user",
        "content": [{"type": "text", "text": "what is it?"}, {"type": type, type: {}}],
    }
    with pytest.raises(BadRequest, match="no model of the pool can do"):
        pool.router.decide([image])
    pool.small.fields["capabilities"] |= {"vision"}
    assert pool.router.decide([image]).model == "small"
    assert pool.router._decider.scoring.asked[-1].turns[0].text == "what is it?"


def test_decisions_without_engines(kit: Any) -> None:
    pool = (Member(name="small", model="x"), Member(name="large", model="y", usd_per_hour=9.0))
    config = Config(pool=pool, routing=Routing(price=0.0))
    router = Router(config, start=False, scoring=kit.Scoring(0.4, 0.8))
    decision = router.decide("6 * 7?")
    assert (decision.model, decision.reason, decision.runner_up) == ("large", "utility", "small")
    assert router.decide([{"role": "user", "content": "6 * 7?"}], model="small").model == "small"
    assert router.members() == ()
    assert [card.id for card in router.models()] == ["auto", "small", "large"]
    with pytest.raises(NoEngine, match="only decides"):
        router.submit(kit.query(), b"{}", kit.Sink())


async def test_entering_a_router_that_is_not_to_start(kit: Any) -> None:
    config = Config(pool=(Member(name="small", model="x"),))
    async with Router(config, start=False, scoring=kit.Scoring(0.4)) as router:
        assert router.decide("x").model == "small"


def test_a_decider_alone(kit: Any) -> None:
    config = Config(pool=(Member(name="a", model="x"), Member(name="b", model="y")), routing=Routing(threshold=0.9))
    decider = Decider(config, kit.Scoring(0.4, 0.8))
    assert decider.decide("x").model == "a"
    assert decider.decide("x", model="router-mf-0.5").model == "b"
    assert decider.decide("x", model="router-mf-0.5").threshold == 0.5


async def test_an_answer_may_have_a_deadline(two: Any) -> None:
    pool = two()
    with pytest.raises(DeadlineExceeded, match=r"not complete within 0\.05 s"):
        await pool.router.complete("x", deadline_s=0.05)
    assert pool.large.calls[0].aborted == 1
