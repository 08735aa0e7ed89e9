"""Many requests in one read: answered in order, a few in each turn of the event loop, and not parsed beyond a bound."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

import pytest

from router.errors import Overloaded, RouterError
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
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"1\r\n%c\r\n" % byte for byte in chat().partition(b"\r\n\r\n")[2])
        + b"0\r\n\r\n",
        200,
    ),
}


class Transport:
    """Keeps what is written. `full_at`: calls `on_full` with so many answers. `broken`: can only be aborted."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.reading = True
        self.closed = self.broken = False
        self.unsent = 0
        self.full_at = 0
        self.on_full: Callable[[], None] = lambda: None

    def write(self, data: bytes) -> None:
        self.out += data
        if self.full_at and self.answers() == self.full_at:
            self.on_full()

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, name: str) -> None: ...

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        if self.broken:
            raise RuntimeError("the handler is closed")
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def answers(self) -> int:
        return self.out.count(b"HTTP/1.1 ")


class Moody(ScriptedService):
    """Replies in the next turn of the loop; refuses the request `busy`."""

    def submit(self, query: Any, *args: Any, **fields: Any) -> Request:
        if query.request_id == "busy":
            raise Overloaded("busy")
        return super().submit(query, *args, **fields)


async def _settled(connection: Connection) -> None:
    """All is done that can be done now, in however many turns."""
    async with asyncio.timeout(60):
        while connection.listener.turns:
            await asyncio.sleep(0)


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
    await _settled(connection)
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
    await _settled(connection)
    assert not transport.reading
    assert frontend._public.body_bytes > READ_BYTES - 64 * 1024 - 2 * len(behind) - 8 * len(behind)
    assert len(connection._waiting.exchanges) == min(8, -(-64 * 1024 // len(behind)))
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
    await _settled(connection)
    assert transport.reading
    connection.data_received(large[at:])
    second = await service.asked(2)
    assert large.endswith(second.body)
    second.reply()
    await _settled(connection)
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
    await _settled(connection)
    assert frontend._public.body_bytes == 0
    service.script = Request.reply
    running.reply()
    async with asyncio.timeout(60):
        while b"HTTP/1.1 429" not in transport.out:
            await asyncio.sleep(0)
    assert 1 <= transport.out.count(b"HTTP/1.1 200") <= 9
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


async def _deaf(house: House, service: ScriptedService, **limits: float) -> tuple[Connection, Transport]:
    """A connection whose client has stopped reading."""
    frontend = await house.start(service, **limits)
    connection, transport = Connection(frontend._public), Transport()
    connection.connection_made(cast(asyncio.Transport, transport))
    transport.unsent = 100_000
    connection.pause_writing()
    return connection, transport


async def test_a_client_that_does_not_read_is_not_read_either_until_it_does(house: House) -> None:
    service = ScriptedService(script=Request.reply)
    connection, transport = await _deaf(house, service)
    assert not transport.reading
    connection.data_received(get("/health") * 3 + chat())  # on its way when we stopped
    for _ in range(10):
        await asyncio.sleep(0)
    assert transport.answers() == 0
    assert service.requests == []
    transport.unsent = 0
    connection.resume_writing()
    async with asyncio.timeout(60):
        while transport.answers() < 4:
            await asyncio.sleep(0)
    assert transport.reading
    connection.connection_lost(None)


async def test_answers_that_fill_the_clients_share_hold_back_the_requests_behind(house: House) -> None:
    """The transport says so within the very write of an answer."""
    frontend = await house.start(ScriptedService())
    connection, transport = Connection(frontend._public), Transport()
    connection.connection_made(cast(asyncio.Transport, transport))
    transport.full_at, transport.on_full = 5, connection.pause_writing
    connection.data_received(get("/health") * 20)
    await _settled(connection)
    assert transport.answers() == 5
    assert not transport.reading
    transport.full_at = 1000
    connection.resume_writing()
    await _settled(connection)
    assert transport.answers() == 20
    connection.connection_lost(None)


async def test_what_clients_do_not_read_is_bounded_for_all_together(house: House) -> None:
    """The one that has most to read is cut; the others go on."""
    frontend = await house.start(ScriptedService(), pending_bytes=250_000)
    clients = []
    for unsent in (100_000, 140_000, 20_000):
        connection, transport = Connection(frontend._public), Transport()
        connection.connection_made(cast(asyncio.Transport, transport))
        transport.unsent = unsent
        connection.pause_writing()
        clients.append((connection, transport))
    listener = frontend._public
    listener.sweep(listener.now)
    assert [transport.closed for _, transport in clients] == [False, True, False]
    assert 'headgate_errors_total{type="slow_client"} 1.0' in frontend.metrics.render().decode()
    for connection, _ in clients:
        connection.connection_lost(None)


async def test_what_clients_leave_unread_counts_in_the_bound_after_they_have_ended_their_side(house: House) -> None:
    frontend = await house.start(ScriptedService(), pending_bytes=250_000)
    clients = []
    for unsent in (100_000, 200_000):
        connection, transport = Connection(frontend._public), Transport()
        connection.connection_made(cast(asyncio.Transport, transport))
        transport.unsent = unsent
        connection.pause_writing()
        connection.eof_received()
        clients.append((connection, transport))
    frontend._public.sweep(frontend._public.now)
    assert [transport.closed for _, transport in clients] == [False, True]
    for connection, _ in clients:
        connection.connection_lost(None)


async def test_the_unparsed_bytes_behind_an_answer_that_closes_are_counted_no_more(house: House) -> None:
    """Though the answer itself is still to be read."""
    service = ScriptedService()
    frontend = await house.start(service)
    connection, transport = Connection(frontend._public), Transport()
    connection.connection_made(cast(asyncio.Transport, transport))
    connection.data_received(chat() + get("/health") * 2_000)
    await _settled(connection)
    assert frontend._public.body_bytes > 10_000
    frontend._public.draining = True
    transport.unsent = 100
    (await service.asked()).reply()
    assert frontend._public.body_bytes == 0
    connection.connection_lost(None)


async def test_a_connection_whose_end_raises_is_closed_all_the_same(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    service = ScriptedService()
    frontend = await house.start(service)
    connection, transport = Connection(frontend._public), Transport()
    connection.connection_made(cast(asyncio.Transport, transport))
    connection.data_received(chat())
    request = await service.asked()

    def cancel(why: RouterError | None = None) -> None:
        raise RuntimeError("not to be cancelled")

    request.cancel = cancel  # type: ignore[method-assign]
    frontend._public.tell([connection], Connection.abort)
    assert transport.closed
    assert "not to be cancelled" in caplog.text


async def test_a_client_that_ends_its_side_and_does_not_read_its_answer_is_cut_in_time(house: House) -> None:
    """Until then it counts as a connection: what it leaves unread takes memory."""
    frontend = await house.start(ScriptedService(script=Request.reply), write_timeout_s=5)
    connection, transport = Connection(frontend._public), Transport()
    connection.connection_made(cast(asyncio.Transport, transport))
    connection.data_received(get("/health"))
    await _settled(connection)
    transport.unsent = 50_000
    connection.eof_received()
    assert not transport.closed
    assert frontend.connections == 1
    frontend._public.sweep(frontend._public.now + 7)
    assert transport.closed
    assert frontend.connections == 0


async def test_a_sweep_that_fails_for_one_connection_goes_on_with_all_others(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    frontend = await house.start(ScriptedService(), keepalive_s=5)
    clients = []
    for number in range(5):
        connection, transport = Connection(frontend._public), Transport()
        connection.connection_made(cast(asyncio.Transport, transport))
        transport.broken = number == 2
        clients.append(transport)
    frontend._public.sweep(frontend._public.now + 100)
    assert [transport.closed for transport in clients] == [True] * 5
    assert "internal error" in caplog.text
