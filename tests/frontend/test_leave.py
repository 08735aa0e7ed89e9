"""`Frontend.leave`: another process accepts from now on; connections that are open here end with their next answer."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from router.config import Limits, Server
from router.frontend.server import Frontend
from router.observe.metrics import Metrics
from tests.conftest import patience, until
from tests.frontend.conftest import REPLY, Client, ScriptedService, chat, get

Start = Callable[..., Any]


@pytest.fixture
async def start(replying: ScriptedService) -> AsyncIterator[Start]:
    made: list[Frontend] = []

    async def begin(inherited: Any = None, **limits: Any) -> Frontend:
        server = Server(port=0, admin_port=0, limits=Limits(**limits))
        made.append(Frontend(server, replying, Metrics(process=False)))
        await made[-1].start(inherited)
        return made[-1]

    yield begin
    for frontend in made:
        await frontend.stop()


async def connected(frontend: Frontend) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", frontend.port))


async def test_an_idle_connection_stays_open_is_answered_once_more_and_ends_with_that(start: Start) -> None:
    frontend = await start()
    client = await connected(frontend)
    client.send(chat())
    assert (await client.response()).body == REPLY
    frontend.leave()
    leaving = asyncio.create_task(frontend.left())
    await asyncio.sleep(0.3)
    assert (frontend.connections, leaving.done()) == (1, False)
    client.send(chat())
    response = await client.response()
    assert (response.body, response.headers["connection"]) == (REPLY, "close")
    async with patience():
        await leaving
    await client.close()


async def test_an_idle_connection_that_never_asks_again_ends_after_keepalive_s(start: Start) -> None:
    frontend = await start(keepalive_s=0.2)
    client = await connected(frontend)
    client.send(chat())
    await client.response()
    frontend.leave()
    async with patience():
        await frontend.left()
    await client.close()


async def test_ready_says_ready_while_it_leaves_and_draining_once_it_drains(start: Start) -> None:
    frontend = await start()
    clients = [await connected(frontend), await connected(frontend)]
    for client in clients:
        client.send(get("/live"))
        await client.response()
    frontend.leave()
    clients[0].send(get("/ready"))
    response = await clients[0].response()
    assert (response.status, json.loads(response.body)["status"]) == (200, "ready")
    frontend.begin_drain()  # a signal meanwhile: idle ones are closed
    await until(lambda: frontend.connections == 0)
    for client in clients:
        await client.close()


async def test_sockets_that_are_inherited_are_accepted_on_once_told_so(start: Start) -> None:
    old = await start()
    given = {name: [socket.socket(fileno=os.dup(file)) for file in files] for name, files in old.files().items()}
    new = await start(given)
    assert (new.port, new.admin_port) == (old.port, old.admin_port)
    old.leave()
    client = Client(*await asyncio.open_connection("127.0.0.1", new.port))  # by the system: it waits in the queue
    client.send(chat())
    await asyncio.sleep(0.05)
    assert new.connections == 0
    await new.accept()
    assert (await client.response()).body == REPLY
    assert (old.connections, new.connections) == (0, 1)
    await client.close()
