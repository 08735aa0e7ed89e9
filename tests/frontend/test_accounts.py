"""What a listener counts agrees with what its connections hold, whatever their clients and the engines do."""

import asyncio
import random
from collections.abc import Callable
from typing import cast

import pytest

from router.config import Limits, Server
from router.frontend.connection import Connection
from router.frontend.server import Frontend
from tests.frontend.conftest import DECISION, Request, ScriptedService, chat, event, get, post
from tests.frontend.test_pipelining import Transport

BODY = chat().partition(b"\r\n\r\n")[2]
SENT = [
    get("/health"),
    chat(),
    chat(stream=True),
    chat(pad="a" * 3_000),
    chat(pad="a" * 70_000),
    chat("Connection: close"),
    chat("Upgrade: h2c", "Connection: Upgrade"),
    chat(n=0),
    post("/v1/chat/completions", b"x" * 30_000),
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n"
    b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"".join(b"1\r\n%c\r\n" % byte for byte in BODY)
    + b"0\r\n\r\n",
    b"no HTTP\r\n\r\n",
]


class Socket(Transport):
    """One that closes as the system's do."""

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None: ...


class World:
    """Three connections of one listener, and the requests that came through them."""

    def __init__(self, random: random.Random) -> None:
        self.random = random
        self.service = ScriptedService(script=Request.reply if random.random() < 0.4 else None)
        limits = Limits(pending_bytes=random.choice([300_000, 1 << 20, 1 << 28]))
        self.listener = Frontend(Server(limits=limits), self.service)._public
        self.clients: list[tuple[Connection, Socket]] = []
        self.unsent: dict[Connection, bytes] = {}
        for _ in range(3):
            connection, transport = Connection(self.listener), Socket()
            connection.connection_made(cast(asyncio.Transport, transport))
            self.clients.append((connection, transport))
        self.ended: set[int] = set()

    def send(self) -> None:
        connection, transport = self.random.choice(self.clients)
        if connection.open and transport.reading and not transport.closed:
            data = self.unsent.get(connection, b"") + self.random.choice(SENT)
            size = self.random.choice([1, 50, 1_000, 64 << 10, 256 << 10])
            self.unsent[connection] = data[size:]
            connection.data_received(data[:size])

    def begin(self) -> None:
        self._answer(lambda request: (request.sink.start(DECISION), request.sink.chunk(event("x"))))

    def reply(self) -> None:
        self._answer(Request.reply)

    def stop_reading(self) -> None:
        connection, transport = self.random.choice(self.clients)
        if connection.open and not connection.stalled:
            transport.unsent = 100_000
            connection.pause_writing()

    def read_on(self) -> None:
        connection, transport = self.random.choice(self.clients)
        if connection.stalled:
            transport.unsent = 0
            connection.resume_writing()

    def sweep(self) -> None:
        self.listener.sweep(self.listener.now + self.random.choice([0, 1, 30, 100]))

    def leave(self) -> None:
        connection, _ = self.random.choice(self.clients)
        if connection.open and self.random.random() < 0.2:
            self.random.choice([connection.eof_received, lambda: connection.connection_lost(None)])()

    def held_bytes(self) -> int:
        """Unparsed, of bodies that are being read, and of requests that wait."""
        readers = [connection._reader for connection, _ in self.clients]
        return (
            sum(connection._unread_bytes for connection, _ in self.clients)
            + sum(len(reader._body) for reader in readers if reader is not None)
            + sum(len(each.body) for connection, _ in self.clients for each in connection._waiting.exchanges)
        )

    def _answer(self, what: Callable[[Request], object]) -> None:
        alive = [each for each in self.service.requests if not each.cancelled and id(each) not in self.ended]
        if alive and self.service.script is None:
            request = self.random.choice(alive)
            if what is Request.reply:
                self.ended.add(id(request))
            what(request)


@pytest.mark.parametrize("seed", range(100))
async def test_the_listeners_counts_are_those_of_its_connections_and_end_at_zero(seed: int) -> None:
    world = World(random.Random(seed))
    deeds = [world.send] * 5 + [world.begin, world.reply, world.stop_reading, world.read_on, world.sweep, world.leave]
    for _ in range(40):
        world.random.choice(deeds)()
        assert world.listener.body_bytes == world.held_bytes()
        if world.random.random() < 0.3:
            await asyncio.sleep(0)
            assert world.listener.body_bytes == world.held_bytes()
    for connection, _ in world.clients:
        connection.connection_lost(None)
    for _ in range(3):  # what the script has still to answer
        await asyncio.sleep(0)
    assert (world.listener.body_bytes, world.listener.running) == (0, 0)
    assert not world.listener.connections
    assert not world.listener.held
