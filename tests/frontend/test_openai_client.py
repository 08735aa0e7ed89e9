"""The `openai` client against the frontend: what users run."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable

import openai
import pytest

from router.dialects.forms import read_travelling
from router.errors import EngineFailed, ModelNotFound, Overloaded
from tests.frontend.conftest import DECISION, DONE, House, Request, ScriptedService, event

CHAT = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"small","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"four"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
)
MESSAGES = [{"role": "user", "content": "2 + 2?"}]


@pytest.fixture
async def client(house: House, service: ScriptedService) -> AsyncIterator[openai.AsyncOpenAI]:
    frontend = await house.start(service, api_keys=("sk-test",))
    base_url = f"http://127.0.0.1:{frontend.port}/v1"
    async with openai.AsyncOpenAI(base_url=base_url, api_key="sk-test", max_retries=0) as client:
        yield client


async def test_chat(client: openai.AsyncOpenAI, service: ScriptedService) -> None:
    service.script = lambda request: request.reply(CHAT)
    raw = await client.chat.completions.with_raw_response.create(model="auto", messages=MESSAGES)
    assert raw.headers["x-headgate-model"] == "small"
    assert raw.parse().choices[0].message.content == "four"


async def test_stream(client: openai.AsyncOpenAI, service: ScriptedService) -> None:
    def script(request: Request) -> None:
        request.sink.start(DECISION)
        for text in ("a", "b"):
            request.sink.chunk(event(text))
        request.sink.chunk(b"data: [DONE]\n\n")
        request.sink.done(DONE)

    service.script = script
    stream = await client.chat.completions.create(model="auto", messages=MESSAGES, stream=True)
    assert [chunk.choices[0].delta.content async for chunk in stream] == ["a", "b"]


async def test_a_broken_stream_raises(client: openai.AsyncOpenAI, service: ScriptedService) -> None:
    def script(request: Request) -> None:
        request.sink.start(DECISION)
        request.sink.chunk(event("a"))
        request.sink.fail(EngineFailed("the engine died"))

    service.script = script
    stream = await client.chat.completions.create(model="auto", messages=MESSAGES, stream=True)
    seen = []
    with pytest.raises(openai.APIError, match="the engine died"):
        async for chunk in stream:
            seen.append(chunk.choices[0].delta.content)  # noqa: PERF401 - what was seen before the error counts
    assert seen == ["a"]


async def test_a_broken_response_ends_with_an_error_event(client: openai.AsyncOpenAI, service: ScriptedService) -> None:
    def script(request: Request) -> None:
        request.sink.start(DECISION)
        request.sink.chunk(
            b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"a"}\n\n'
        )
        request.sink.fail(EngineFailed("the engine died"))

    service.script = script
    stream = await client.responses.create(model="auto", input="2 + 2?", stream=True)
    events = [event async for event in stream]
    assert [event.type for event in events] == ["response.output_text.delta", "error"]
    assert events[-1].message == "the engine died"


async def test_errors_by_class(client: openai.AsyncOpenAI, service: ScriptedService) -> None:
    service.refusal = ModelNotFound("no model 'x'", param="model")
    with pytest.raises(openai.NotFoundError, match="no model 'x'"):
        await client.chat.completions.create(model="x", messages=MESSAGES)
    service.refusal = Overloaded("busy")
    with pytest.raises(openai.RateLimitError, match="busy"):
        await client.chat.completions.create(model="auto", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError, match="`messages` is empty"):
        await client.chat.completions.create(model="auto", messages=[])
    with pytest.raises(openai.AuthenticationError, match="not one of this server's"):
        await client.with_options(api_key="wrong").models.list()


async def test_models(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["auto", "headgate/auto", "small"]
    assert (await client.models.retrieve("headgate/auto")).id == "headgate/auto"


async def test_a_client_that_closes_its_stream_cancels(
    client: openai.AsyncOpenAI, service: ScriptedService, until: Callable[[Callable[[], bool]], Awaitable[None]]
) -> None:
    def script(request: Request) -> None:
        request.sink.start(DECISION)
        request.sink.chunk(event("a"))

    service.script = script
    stream = await client.chat.completions.create(model="auto", messages=MESSAGES, stream=True)
    async for _ in stream:
        break
    await stream.close()
    request = await service.asked()
    await until(lambda: request.cancelled)


async def test_embeddings_in_base64_as_the_client_asks_for_them(
    client: openai.AsyncOpenAI, service: ScriptedService
) -> None:
    answer = {
        "object": "list",
        "model": "emb",
        "data": [{"object": "embedding", "index": 0, "embedding": "AAAAPwAAgL8="}],
    }
    body = json.dumps(answer | {"usage": {"prompt_tokens": 3, "total_tokens": 3}}).encode()
    service.script = lambda request: request.reply(body)
    told = await client.embeddings.create(model="emb", input=["hello"])
    assert told.data[0].embedding == [0.5, -1.0]
    assert json.loads(service.requests[0].body)["encoding_format"] == "base64"


async def test_a_transcription_names_its_model_in_a_form(client: openai.AsyncOpenAI, service: ScriptedService) -> None:
    service.script = lambda request: request.reply(b'{"text":"hello","usage":{"type":"duration","seconds":1}}')
    audio = bytes(range(256)) * 300
    told = await client.audio.transcriptions.create(model="whisper", file=("a.wav", audio), language="en")
    assert told.text == "hello"
    (request,) = service.requests
    assert (request.query.kind, request.query.model) == ("transcriptions", "whisper")
    named = read_travelling(request.body).naming("ours")
    assert (named.model, audio in named.body, b"whisper" in named.body) == ("ours", True, False)
