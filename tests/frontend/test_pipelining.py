"""Many requests in one read: answered in order, a few in each turn of the event loop, and not parsed beyond a bound."""

import asyncio
import json
from typing import Any, cast

import pytest

from router.errors import Overloaded
from router.frontend.connection import Connection
from tests.frontend.conftest import House, Request, ScriptedService, chat, get, post

READ_BYTES = 256 * 1024

KINDS = {
    "metrics": (get("/metrics"), 200),
    "health": (get("/health"), 200),
    "models": (get("/v1/models"), 200),
    "an unknown path": (get("/v1/chat/complitions"), 404),
    "a wrong method": (get("/v1/chat/completions"), 405),
    "chats": (chat(), 200),
    "chats refused for their body": (chat(n=0), 400),
    "chats refused for their key": (chat("x-api-key: wrong"), 401),
    "chats refused for the load": (chat("x-request-id: busy"), 429),
    "chunked chats in small chunks": (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"1\r\n%c\r\n" % byte for byte in chat().partition(b"\r\n\r\n")[2])
        + b"0\r\n\r\n",
        200,
    ),
}


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.reading = True

    def write(self, data: bytes) -> None:
        self.out += data

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> None: ...

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None: ...

    abort = close

    def answers(self) -> int:
        return self.out.count(b"HTTP/1.1 ")


class Moody(ScriptedService):
    """Replies in the next turn of the loop; refuses the request `busy`."""

    def submit(self, query: Any, *args: Any, **fields: Any) -> Request:
        if query.request_id == "busy":
            raise Overloaded("busy")
        return super().submit(query, *args, **fields)


async def _connection(house: House, **limits: float) -> tuple[Connection, Transport]:
    frontend = await house.start(Moody(script=Request.reply), **limits)
    connection, transport = Connection(frontend._public), Transport()
    connection.connection_made(cast(asyncio.Transport, transport))
    return connection, transport


@pytest.mark.parametrize("kind", KINDS)
async def test_no_turn_of_the_loop_answers_all_that_one_read_brought(house: House, kind: str) -> None:
    one, status = KINDS[kind]
    if status == 401:
        frontend = await house.start(Moody(script=Request.reply), api_keys=("right",))
        connection, transport = Connection(frontend._public), Transport()
        connection.connection_made(cast(asyncio.Transport, transport))
    else:
        connection, transport = await _connection(house)
    count = READ_BYTES // len(one)
    connection.data_received(one * count)
    answered, most = transport.answers(), transport.answers()
    assert not transport.reading
    async with asyncio.timeout(60):
        while transport.answers() < count:
            await asyncio.sleep(0)
            most, answered = max(most, transport.answers() - answered), transport.answers()
    assert most < count / 4
    assert transport.answers() == transport.out.count(b"HTTP/1.1 %d" % status) == count
    await asyncio.sleep(0)
    assert transport.reading
    connection.connection_lost(None)


async def test_many_connections_of_one_client_leave_another_its_turn(house: House) -> None:
    """A request that comes while a hundred connections have a hundred more each is not answered as the last."""
    frontend = await house.start(Moody(script=Request.reply))
    crowd = []
    for _ in range(100):
        connection, transport = Connection(frontend._public), Transport()
        connection.connection_made(cast(asyncio.Transport, transport))
        connection.data_received(get("/v1/chat/complitions") * 100)
        crowd.append((connection, transport))
    connection, transport = Connection(frontend._public), Transport()
    connection.connection_made(cast(asyncio.Transport, transport))
    connection.data_received(get("/health"))
    async with asyncio.timeout(60):
        while not transport.answers():
            await asyncio.sleep(0)
    assert sum(each.answers() for _, each in crowd) < 100 * 100 / 2
    for each in [connection, *(one for one, _ in crowd)]:
        each.connection_lost(None)
    await asyncio.sleep(0)
    assert frontend._public.body_bytes == 0


@pytest.mark.parametrize("behind", [get("/health"), chat(), post("/v1/chat/completions", b"x" * 30_000)])
async def test_behind_a_running_answer_8_requests_or_64_kib_are_taken(house: House, behind: bytes) -> None:
    """The rest of the read is kept as it came, counts as pending bytes, and no more is read."""
    service = ScriptedService()
    frontend = await house.start(service)
    connection, transport = Connection(frontend._public), Transport()
    connection.connection_made(cast(asyncio.Transport, transport))
    connection.data_received(chat())
    running = await service.asked()
    count = READ_BYTES // len(behind)
    connection.data_received(behind * count)
    assert not transport.reading
    assert frontend._public.body_bytes > READ_BYTES - 64 * 1024 - 2 * len(behind) - 8 * len(behind)
    assert len(connection._waiting) == min(8, -(-64 * 1024 // len(behind)))
    service.script = Request.reply
    running.reply()
    async with asyncio.timeout(60):
        while transport.answers() < count + 1:
            await asyncio.sleep(0)
    assert frontend._public.body_bytes == 0
    connection.connection_lost(None)


async def test_a_body_behind_a_running_answer_is_read_on_once_that_is_out(house: House) -> None:
    service = ScriptedService()
    frontend = await house.start(service)
    connection, transport = Connection(frontend._public), Transport()
    connection.connection_made(cast(asyncio.Transport, transport))
    connection.data_received(chat())
    running = await service.asked()
    large = chat(pad="a" * 500_000)
    at = 0
    while transport.reading:
        connection.data_received(large[at : at + 10_000])
        at += 10_000
        assert at < 200_000, "no bound on a body behind a running answer"
    running.reply()
    assert transport.reading
    connection.data_received(large[at:])
    second = await service.asked(2)
    assert large.endswith(second.body)
    second.reply()
    assert transport.answers() == 2
    connection.connection_lost(None)


async def test_unparsed_bytes_over_the_bound_of_pending_bytes_are_refused(house: House) -> None:
    service = ScriptedService()
    frontend = await house.start(service, pending_bytes=100_000)
    connection, transport = Connection(frontend._public), Transport()
    connection.connection_made(cast(asyncio.Transport, transport))
    connection.data_received(chat())
    running = await service.asked()
    connection.data_received(get("/health") * (READ_BYTES // 40))
    assert frontend._public.body_bytes == 0
    service.script = Request.reply
    running.reply()
    async with asyncio.timeout(60):
        while b"HTTP/1.1 429" not in transport.out:
            await asyncio.sleep(0)
    assert transport.out.count(b"HTTP/1.1 200") == 9
    assert b"fill their share of memory" in transport.out
    connection.connection_lost(None)


async def test_a_connection_that_closes_after_its_answer_drops_what_came_behind(house: House) -> None:
    client = await house.connect(await house.start(ScriptedService(script=Request.reply)))
    client.send(get("/health") * 3 + get("/health", "Connection: close") + get("/health") * 50)
    assert (await client.rest()).count(b"HTTP/1.1 200") == 4


async def test_the_metrics_page_is_made_once_and_reused_within_a_second(
    house: House, replying: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("router.observe.metrics.monotonic", lambda: now)
    client = await house.connect(await house.start(replying))

    async def page() -> bytes:
        client.send(get("/metrics"))
        return (await client.response()).body

    async def health() -> None:
        client.send(get("/health"))
        await client.response()

    first = await page()
    await health()
    now = 100.9
    assert await page() == first
    now = 101.1
    later = await page()
    assert b'headgate_requests_total{model="",route="/health",status="200"} 1.0' in later
    assert b'route="/health"' not in first


async def test_a_refusal_in_the_middle_is_the_last_answer(house: House, replying: ScriptedService) -> None:
    client = await house.connect(await house.start(replying))
    client.send(get("/health") * 500 + b"BROKEN\r\n\r\n" + get("/health") * 500)
    out = await client.rest()
    assert out.count(b"HTTP/1.1 200") == 500
    assert out.count(b"HTTP/1.1 ") == 501
    assert json.loads(out.rpartition(b"\r\n\r\n")[2])["error"]["code"] == "malformed_request"
