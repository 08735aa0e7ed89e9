"""The OpenAI member against an upstream that answers, streams, refuses, stalls and breaks off."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from router.config import Member, Supervision
from router.errors import ContextTooLong, EngineStartError, NoEngine, Overloaded, UpstreamError
from router.pool.base import Work
from router.pool.openai import OpenAIMember
from tests.conftest import until

EVENT = b'data: {"id":"1","model":"org/their-name","choices":[{"delta":{"content":"%d"},"finish_reason":null}]}\n\n'
LAST = (
    b'data: {"id":"1","model":"org/their-name","choices":[{"delta":{},"finish_reason":"length"}]}\n\n'
    b'data: {"model":"org/their-name","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,'
    b'"prompt_tokens_details":{"cached_tokens":2}}}\n\ndata: [DONE]\n\n'
)


class Upstream:
    """An OpenAI-compatible server that does what `user` says."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self.peers: set[Any] = set()
        self.cancelled = 0
        self.healthy = True
        self.url = ""

    async def models(self, request: web.Request) -> web.Response:
        if not self.healthy:
            return web.json_response({"error": {"message": "loading"}}, status=503)
        return web.json_response({"data": [{"id": "org/their-name", "max_model_len": 4096}]})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(request.headers)
        self.peers.add(request.transport.get_extra_info("peername"))
        what = body.get("user", "whole")
        try:
            return await getattr(self, what)(request)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def whole(self, request: web.Request) -> web.Response:
        usage = {"prompt_tokens": 7, "completion_tokens": 3}
        choice = {"message": {"content": "4"}, "finish_reason": "stop"}
        return web.json_response({"model": "org/their-name", "choices": [choice], "usage": usage})

    async def _stream(self, request: web.Request, pieces: list[bytes]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0.005)
        return response

    async def stream(self, request: web.Request) -> web.StreamResponse:
        text = b"".join(EVENT % i for i in range(5)) + LAST
        return await self._stream(request, [text[i : i + 37] for i in range(0, len(text), 37)])

    async def broken(self, request: web.Request) -> web.StreamResponse:
        response = await self._stream(request, [EVENT % 0])
        request.transport.abort()
        return response

    async def short(self, request: web.Request) -> web.StreamResponse:
        return await self._stream(request, [EVENT % 0])

    async def stall(self, request: web.Request) -> web.StreamResponse:
        response = await self._stream(request, [EVENT % 0])
        await asyncio.sleep(600)
        return response

    async def status_500(self, request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "it broke", "code": "x"}}, status=500)

    async def status_429(self, request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "slow down"}}, status=429)

    async def status_400(self, request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "bad tool", "code": "bad_tool"}}, status=400)

    async def too_long(self, request: web.Request) -> web.Response:
        message = "This model's maximum context length is 4096 tokens. However, you requested 9000 tokens"
        return web.json_response({"error": {"message": message, "code": 400}}, status=400)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    server = Upstream()
    app = web.Application()
    app.router.add_get("/v1/models", server.models)
    app.router.add_post("/v1/chat/completions", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    server.url = f"http://{host}:{port}/v1"
    yield server
    await runner.cleanup()


@pytest.fixture
async def member(upstream: Upstream) -> AsyncIterator[OpenAIMember]:
    settings = Member(name="ours", kind="openai", url=upstream.url, model="org/their-name", api_key="secret")
    supervision = Supervision(ping_s=0.05, breaker_failures=3, breaker_open_s=60.0)
    made = OpenAIMember(settings, supervision, gpu_share=1.0)
    await made.start()
    yield made
    await made.stop()


def work(what: str = "whole", **fields: Any) -> Work:
    body = json.dumps({"model": "auto", "messages": [], "user": what, "seed": 7}).encode()
    return Work(kind="chat", body=body, request_id="r1", prompt_tokens=5, **fields)


async def test_a_whole_answer(member: OpenAIMember, upstream: Upstream, heard: Any) -> None:
    receiver = heard()
    member.submit(work(), receiver)
    end = await receiver.end()
    answer = json.loads(receiver.chunks[0])
    assert answer["model"] == "ours"
    assert answer["choices"][0]["message"]["content"] == "4"
    assert (end.usage.prompt_tokens, end.usage.completion_tokens) == (7, 3)
    assert upstream.bodies == [{"model": "org/their-name", "messages": [], "user": "whole", "seed": 7}]
    assert upstream.headers[0]["authorization"] == "Bearer secret"
    assert upstream.headers[0]["x-request-id"] == "r1"
    assert member.state().context_tokens == 4096
    assert member.status().in_flight == 0


async def test_a_verdicts_length_is_not_learnt(member: OpenAIMember, heard: Any) -> None:
    before = member.state().mean_output_tokens
    for typical, told in ((False, True), (True, False)):
        receiver = heard()
        receiver.atypical = not typical
        member.submit(work(), receiver)
        assert (await receiver.end()).usage.completion_tokens == 3
        assert (member.state().mean_output_tokens == before) is told


async def test_a_stream_passes_in_whole_events(member: OpenAIMember, heard: Any) -> None:
    receiver = heard()
    member.submit(work("stream", stream=True), receiver)
    end = await receiver.end()
    assert all(chunk.endswith(b"\n\n") for chunk in receiver.chunks)
    events = b"".join(receiver.chunks).decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    parsed = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert [event["choices"][0]["delta"]["content"] for event in parsed[:5]] == list("01234")
    assert {event["model"] for event in parsed} == {"ours"}
    assert (end.usage.completion_tokens, end.usage.cached_tokens, end.finish_reason) == (3, 2, "length")
    assert end.timings.first_token_s < end.timings.total_s


async def test_connections_are_reused(upstream: Upstream, heard: Any) -> None:
    """No probe at the same time: it would have a connection of its own."""
    settings = Member(name="ours", kind="openai", url=upstream.url, model="org/their-name")
    member = OpenAIMember(settings, Supervision(ping_s=600.0), gpu_share=1.0)
    await member.start()
    for _ in range(5):
        receiver = heard()
        member.submit(work(), receiver)
        await receiver.end()
    await member.stop()
    assert len(upstream.peers) == 1


@pytest.mark.parametrize("what", ["broken", "short"])
async def test_a_stream_that_breaks_off_is_an_error(member: OpenAIMember, heard: Any, what: str) -> None:
    receiver = heard()
    member.submit(work(what, stream=True), receiver)
    failure = await receiver.end()
    assert receiver.chunks
    assert failure.error.status == 502
    assert "model 'ours' failed" in failure.error.message


@pytest.mark.parametrize(
    ("what", "kind", "retryable", "context"),
    [
        ("status_500", UpstreamError, True, False),
        ("status_429", Overloaded, True, False),
        ("status_400", UpstreamError, False, False),
        ("too_long", ContextTooLong, True, True),
    ],
)
async def test_refusals(
    member: OpenAIMember, heard: Any, what: str, kind: type, retryable: bool, context: bool
) -> None:
    receiver = heard()
    member.submit(work(what), receiver)
    failure = await receiver.end()
    assert isinstance(failure.error, kind)
    assert (failure.retryable, failure.context) == (retryable, context)


async def test_abort_closes_the_upstreams_connection(member: OpenAIMember, upstream: Upstream, heard: Any) -> None:
    receiver = heard()
    member.submit(work("stall", stream=True), receiver)
    await until(lambda: receiver.chunks)
    member.abort(receiver)
    member.abort(receiver)
    await until(lambda: upstream.cancelled)
    assert receiver.ends == []
    assert member.status().in_flight == 0


async def test_an_answer_later_than_its_deadline_is_a_timeout_of_the_request(member: OpenAIMember, heard: Any) -> None:
    receiver = heard()
    member.submit(work("stall", stream=True, deadline_s=0.1), receiver)
    failure = await receiver.end()
    assert failure.error.status == 504
    assert failure.error.message == "the answer was not complete within 0.1 s"


async def test_the_breaker_opens_on_faults_and_not_on_clients_errors(member: OpenAIMember, heard: Any) -> None:
    for what, open in (("status_400", False), ("status_500", True)):
        for _ in range(3):
            receiver = heard()
            member.submit(work(what), receiver)
            await receiver.end()
        assert member.state().breaker_open is open


async def test_two_thousand_requests_at_once_do_not_open_the_breaker(member: OpenAIMember, heard: Any) -> None:
    receivers = [heard() for _ in range(2048)]
    for receiver in receivers:
        member.submit(work(), receiver)
    for receiver in receivers:
        await receiver.end()
    assert {type(receiver.ends[0]).__name__ for receiver in receivers} == {"Done"}
    assert not member.state().breaker_open


async def test_an_upstream_that_goes_away_and_comes_back(member: OpenAIMember, upstream: Upstream, heard: Any) -> None:
    upstream.healthy = False
    await until(lambda: member.phase == "restarting")
    assert member.status().last_error == "loading"
    with pytest.raises(NoEngine, match="not available now"):
        member.submit(work(), heard())
    upstream.healthy = True
    await until(lambda: member.phase == "ready")


async def test_stop_fails_what_runs(member: OpenAIMember, heard: Any) -> None:
    receiver = heard()
    member.submit(work("stall", stream=True), receiver)
    await until(lambda: receiver.chunks)
    await member.stop()
    assert "was stopped" in receiver.ends[0].error.message


async def test_an_url_where_nothing_listens_is_named() -> None:
    with socket.socket() as held:  # ours, and deaf, for as long as it is asked
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        made = OpenAIMember(Member(name="gone", kind="openai", url=url), Supervision(), gpu_share=1.0)
        with pytest.raises(EngineStartError, match=f"'gone' failed to start: {url}/v1/models"):
            await made.start()
    await made.stop()


async def test_an_upstream_that_is_loading_is_waited_for(upstream: Upstream) -> None:
    upstream.healthy = False
    settings = Member(name="ours", kind="openai", url=upstream.url, model="org/their-name")
    made = OpenAIMember(settings, Supervision(), gpu_share=1.0)
    starting = asyncio.create_task(made.start())
    await asyncio.sleep(0.1)
    assert made.phase == "starting"
    upstream.healthy = True
    await starting
    assert made.phase == "ready"
    await made.stop()
    upstream.healthy = False
    impatient = OpenAIMember(settings, Supervision(start_timeout_s=0.1), gpu_share=1.0)
    with pytest.raises(EngineStartError, match="'ours' failed to start: loading"):
        await impatient.start()


async def test_a_server_that_knows_us_by_no_name_is_asked_for_its_first_model(upstream: Upstream, heard: Any) -> None:
    made = OpenAIMember(Member(name="ours", kind="openai", url=upstream.url), Supervision(), gpu_share=1.0)
    await made.start()
    receiver = heard()
    made.submit(work(), receiver)
    await receiver.end()
    assert upstream.bodies[0]["model"] == "org/their-name"
    assert json.loads(receiver.chunks[0])["model"] == "ours"
    await made.stop()
