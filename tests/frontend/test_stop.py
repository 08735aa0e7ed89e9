"""The end of a frontend while connections are being made."""

import asyncio
import contextlib
import socket

import pytest
import uvloop

from tests.conftest import patience
from tests.frontend.conftest import House, ScriptedService


@pytest.mark.parametrize("turns", range(6))
def test_a_connection_that_is_made_while_the_frontend_stops_is_closed(turns: int) -> None:
    """The system has accepted it, and the event loop is about to tell us of it. On uvloop, as served: asyncio's own
    servers lose a connection that is made as they are closed."""

    async def run() -> None:
        frontend = await House().start(ScriptedService())
        with socket.create_connection(("127.0.0.1", frontend.port)) as client:
            client.setblocking(False)
            for _ in range(turns):
                await asyncio.sleep(0)
            await frontend.stop()
            async with patience():
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.get_running_loop().sock_recv(client, 1) == b""
        assert frontend.connections == 0

    uvloop.run(run())
