"""Streams that break, clients that vanish or stop reading, and the drain."""

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable

import pytest

from router.errors import EngineFailed, NoEngine, UpstreamError
from router.frontend.server import Frontend
from tests.conftest import patience
from tests.frontend.conftest import DECISION, DONE, Client, House, ScriptedService, chat, event, get, post

Until = Callable[[Callable[[], bool]], Awaitable[None]]
FAULT = EngineFailed("the engine died")
OPENAI = {"error": {"message": "the engine died", "type": "engine_error", "param": None, "code": "engine_failed"}}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_before_the_start_is_a_plain_error(
    house: House, service: ScriptedService, stream: bool
) -> None:
    client = await house.connect(await house.start(service))
    client.send(chat(stream=stream))
    (await service.asked()).sink.fail(FAULT)
    response = await client.response()
    assert response.status == 502
    assert response.headers["content-type"] == "application/json"
    assert json.loads(response.body) == OPENAI


async def test_a_failure_after_the_start_of_json_is_a_plain_error(house: House, service: ScriptedService) -> None:
    client = await house.connect(await house.start(service))
    client.send(chat())
    request = await service.asked()
    request.sink.start(DECISION)
    request.sink.chunk(b'{"id":')
    request.sink.fail(FAULT)
    response = await client.response()
    assert response.status == 502
    assert response.headers["x-headgate-model"] == "small"
    assert json.loads(response.body) == OPENAI


BODIES: dict[str, dict[str, object]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9},
}
RESPONSES = {"type": "error", "code": "engine_failed", "message": "the engine died", "param": None}
ANTHROPIC = {"type": "error", "error": {"type": "api_error", "message": "the engine died"}}


def events(*lines: str) -> bytes:
    return "".join(line + "\n\n" for line in lines).encode()


ENDINGS = {
    "/v1/chat/completions": events("data: " + json.dumps(OPENAI, separators=(",", ":")), "data: [DONE]"),
    "/v1/completions": events("data: " + json.dumps(OPENAI, separators=(",", ":")), "data: [DONE]"),
    "/v1/responses": events("event: error\ndata: " + json.dumps(RESPONSES, separators=(",", ":")), "data: [DONE]"),
    "/v1/messages": events("event: error\ndata: " + json.dumps(ANTHROPIC, separators=(",", ":"))),
}


@pytest.mark.parametrize("path", BODIES)
async def test_a_failure_in_a_stream_is_an_event_of_its_dialect(
    house: House, service: ScriptedService, path: str
) -> None:
    client = await house.connect(await house.start(service))
    client.send(post(path, BODIES[path] | {"stream": True}))
    request = await service.asked()
    request.sink.start(DECISION)
    request.sink.chunk(event("a"))
    request.sink.fail(FAULT)
    request.sink.fail(FAULT)  # only the first end counts
    request.sink.chunk(event("late"))
    request.sink.done(DONE)
    response = await client.response()
    assert response.status == 200
    assert response.body == event("a") + ENDINGS[path]
    client.send(get("/health"))
    assert (await client.response()).status == 200, "the chunked body was ended properly"


async def test_an_engines_own_error_passes_in_the_stream_on_one_line(house: House, service: ScriptedService) -> None:
    client = await house.connect(await house.start(service))
    client.send(chat(stream=True))
    request = await service.asked()
    request.sink.start(DECISION)
    request.sink.fail(UpstreamError(400, b'{"error":\r\n {"message":"m"}}', "m"))
    assert (await client.response()).body == b'data: {"error":   {"message":"m"}}\n\ndata: [DONE]\n\n'


async def test_an_upstream_error_that_is_no_json_is_wrapped(house: House, service: ScriptedService) -> None:
    client = await house.connect(await house.start(service))
    client.send(chat())
    (await service.asked()).sink.fail(UpstreamError(502, b"<html>bad gateway</html>", "upstream answered 502"))
    response = await client.response()
    assert response.error["message"] == "upstream answered 502"


async def test_an_end_without_an_answer_is_an_error(house: House, service: ScriptedService) -> None:
    client = await house.connect(await house.start(service))
    client.send(chat(stream=True))
    (await service.asked()).sink.done(DONE)
    assert (await client.response()).status == 502


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_a_client_that_leaves_is_cancelled_at_once(
    house: House, service: ScriptedService, until: Until, stream: bool, how: str
) -> None:
    frontend = await house.start(service)
    client = await house.connect(frontend)
    client.send(chat(stream=stream))
    request = await service.asked()
    request.sink.start(DECISION)
    request.sink.chunk(event("a"))
    if how == "reset":
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.writer.transport.abort()
    else:
        await client.close()
    await until(lambda: request.cancelled)
    await until(lambda: frontend.connections == 0)
    request.sink.chunk(event("late"))
    request.sink.done(DONE)
    assert 'status="499"} 1.0' in frontend.metrics.render().decode()


LEAVING = ["fin", "reset"]


async def _leave(client: Client, how: str) -> None:
    if how == "fin":
        client.writer.write_eof()
    else:
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.writer.transport.abort()


@pytest.mark.parametrize("how", LEAVING)
async def test_a_client_that_leaves_is_noticed_while_it_is_not_read_for_all_it_has_sent_ahead(
    house: House, service: ScriptedService, until: Until, how: str
) -> None:
    frontend = await house.start(service, write_timeout_s=0.4)
    client = await house.connect(frontend)
    client.send(chat(stream=True))
    request = await service.asked()
    request.sink.start(DECISION)
    request.sink.chunk(event("a"))
    client.send(get("/health") * 1000)
    (connection,) = frontend._public.connections
    await until(lambda: connection in frontend._public.held)
    await until(lambda: not client.writer.transport.get_write_buffer_size())
    await _leave(client, how)
    await until(lambda: request.cancelled)
    await until(lambda: frontend.connections == 0)
    assert 'status="499"} 1.0' in frontend.metrics.render().decode()


@pytest.mark.parametrize("how", LEAVING)
async def test_a_client_that_leaves_is_noticed_while_it_does_not_read(
    house: House, service: ScriptedService, until: Until, how: str
) -> None:
    frontend = await house.start(service, write_timeout_s=4, stream_buffer_bytes=50_000_000)
    deaf = await _deaf_client(house, frontend)
    deaf.send(chat(stream=True))
    request = await service.asked()
    request.sink.start(DECISION)
    (connection,) = frontend._public.connections
    for _ in range(1000):
        request.sink.chunk(event("x" * 10_000))
        await asyncio.sleep(0)
        if connection.stalled:
            break
    assert connection.stalled
    await _leave(deaf, how)
    await until(lambda: request.cancelled)
    assert "slow_client" not in frontend.metrics.render().decode()
    await until(lambda: frontend.connections == 0)  # at the latest when nothing was taken for `write_timeout_s`


async def test_waiting_requests_of_a_client_that_left_never_run(
    house: House, service: ScriptedService, until: Until
) -> None:
    frontend = await house.start(service)
    client = await house.connect(frontend)
    client.send(chat() + chat())
    request = await service.asked()
    await client.close()
    await until(lambda: request.cancelled)
    await until(lambda: frontend.connections == 0)
    assert len(service.requests) == 1


async def _deaf_client(house: House, frontend: Frontend) -> Client:
    """A connection with small buffers, whose reader does not read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", frontend.port))
    client = Client(*await asyncio.open_connection(sock=sock, limit=1024))
    house.clients.append(client)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    return client


async def test_a_client_that_stops_reading_loses_its_own_stream(house: House, service: ScriptedService) -> None:
    """Its stream is kept up to the bound, then cancelled; another stream of the same server never notices."""
    frontend = await house.start(service, stream_buffer_bytes=200_000)
    deaf = await _deaf_client(house, frontend)
    deaf.send(chat(stream=True))
    stuck = await service.asked(1)
    good = await house.connect(frontend)
    good.send(chat(stream=True))
    fine = await service.asked(2)
    sent = 0
    for request in (stuck, fine):
        request.sink.start(DECISION)
        request.sink.chunk(event("y"))
    await good.head()
    assert await good.chunk() == event("y")
    while not stuck.cancelled and sent < 50_000_000:
        stuck.sink.chunk(event("x" * 10_000))
        fine.sink.chunk(event("y"))
        sent += 10_000
        assert await good.chunk() == event("y")
    assert stuck.cancelled
    assert 200_000 < sent < 8_000_000  # the bound, and what the kernel's buffers take
    stuck.sink.chunk(event("late"))
    assert "slow_client" in frontend.metrics.render().decode()
    fine.sink.done(DONE)
    assert await good.chunk() == b""


async def test_a_client_that_takes_nothing_is_cut_after_a_while(
    house: House, service: ScriptedService, until: Until
) -> None:
    frontend = await house.start(service, write_timeout_s=0.2)
    deaf = await _deaf_client(house, frontend)
    deaf.send(chat())
    request = await service.asked()
    begun = time.monotonic()
    request.reply(b'"%b"' % (b"x" * 20_000_000))
    assert frontend.connections == 1
    await until(lambda: frontend.connections == 0)
    assert time.monotonic() - begun >= 0.2


async def test_a_slow_reader_of_a_large_answer_gets_it_all(house: House, service: ScriptedService) -> None:
    house.clock.stop()
    frontend = await house.start(service, write_timeout_s=0.5, stream_buffer_bytes=1000)
    client = await house.connect(frontend)
    client.send(chat())
    body = b'"%b"' % (b"x" * 20_000_000)
    (await service.asked()).reply(body)
    await client.head()
    got = b""
    while len(got) < len(body):
        async with patience():
            got += await client.reader.read(1 << 20)
        await asyncio.sleep(0.02)
        house.clock.move(0.05)  # twice the time-out in all
    assert got == body


async def test_an_answer_beyond_the_bound_is_refused(house: House, service: ScriptedService) -> None:
    client = await house.connect(await house.start(service, answer_bytes=10_000))
    client.send(chat())
    request = await service.asked()
    request.sink.start(DECISION)
    request.sink.chunk(b"x" * 10_001)
    assert (await client.response()).status == 502
    assert request.cancelled


async def test_drain_lets_running_answers_finish(house: House, service: ScriptedService) -> None:
    frontend = await house.start(service)
    idle, client, ready = [await house.connect(frontend) for _ in range(3)]
    client.send(chat(stream=True) + get("/version"))
    request = await service.asked()
    request.sink.start(DECISION)
    request.sink.chunk(event("a"))
    assert (await client.head())[0] == 200
    ready.send(get("/version") + get("/ready")[:-2])
    assert (await ready.response()).status == 200, "so the rest was read too"
    draining = asyncio.ensure_future(frontend.drain())
    assert await idle.closed()
    ready.send(b"\r\n")
    response = await ready.response()
    assert (response.status, response.headers["connection"]) == (503, "close")
    assert json.loads(response.body)["status"] == "draining"
    with pytest.raises(ConnectionError):
        await house.connect(frontend)
    admin = await house.connect(frontend, admin=True)
    admin.send(get("/ready").replace(b"Host: h", b"Host: localhost"))
    assert (await admin.response()).status == 503
    assert not draining.done()
    request.sink.chunk(event("b"))
    request.sink.done(DONE)
    assert [await client.chunk() for _ in range(3)] == [event("a"), event("b"), b""]
    assert await draining is True


async def test_drain_cuts_what_takes_too_long(house: House, service: ScriptedService) -> None:
    frontend = await house.start(service, drain_s=0.1)
    streaming, waiting = await house.connect(frontend), await house.connect(frontend)
    streaming.send(chat(stream=True))
    first = await service.asked(1)
    first.sink.start(DECISION)
    first.sink.chunk(event("a"))
    waiting.send(chat())
    second = await service.asked(2)
    assert await frontend.drain() is False
    response = await streaming.response()
    assert b"shutting down" in response.body
    assert response.body.endswith(b"data: [DONE]\n\n")
    assert await streaming.closed()
    assert (await waiting.response()).status == NoEngine.status
    assert first.cancelled
    assert second.cancelled


async def test_drain_by_the_admin_port(house: House, service: ScriptedService) -> None:
    frontend = await house.start(service)
    admin = await house.connect(frontend, admin=True)
    admin.send(post("/drain", b"").replace(b"Host: h", b"Host: localhost"))
    response = await admin.response()
    assert response.status == 202
    assert json.loads(response.body) == {"status": "draining", "in_flight": 0}
    async with patience():
        await frontend.drain_requested.wait()


async def test_512_streams_lose_nothing(house: House, service: ScriptedService) -> None:
    """Every chunk of every stream once and in order."""
    frontend = await house.start(service)
    streams, chunks = 512, 20

    async def read(client: Client) -> list[str]:
        response = await client.response()
        parts = response.body.decode().split("\n\n")[:-1]
        return [json.loads(part[6:])["choices"][0]["delta"]["content"] for part in parts]

    clients = [await house.connect(frontend) for _ in range(streams)]
    for client in clients:
        client.send(chat(stream=True))
    await service.asked(streams)
    readers = [asyncio.ensure_future(read(client)) for client in clients]
    for request in service.requests:
        request.sink.start(DECISION)
    for number in range(chunks):
        for index, request in enumerate(service.requests):
            request.sink.chunk(event(f"{index}.{number}"))
        await asyncio.sleep(0)
    for request in service.requests:
        request.sink.done(DONE)
    seen = set()
    for got in await asyncio.gather(*readers):
        index = got[0].partition(".")[0]
        assert got == [f"{index}.{number}" for number in range(chunks)]
        seen.add(index)
    assert len(seen) == streams
