"""New clients are let in many a turn of the event loop: whoever keeps it busy does not keep them out."""

import asyncio
import socket

import pytest
import uvloop

from router.errors import ConfigError
from router.frontend.sockets import listen


class Counted(asyncio.Protocol):
    made = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Counted.made += 1
        transport.close()


def test_many_connections_are_accepted_in_one_turn() -> None:
    """libuv accepts one in each, for a server: a hundred would take a hundred turns."""

    async def run() -> int:
        Counted.made = 0
        listener = await listen(Counted, "127.0.0.1", 0, "")
        clients = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(100)]
        turns = 0
        async with asyncio.timeout(60):
            while Counted.made < len(clients):
                await asyncio.sleep(0)
                turns += 1
        for client in clients:
            client.close()
        listener.close()
        await listener.wait_closed(1.0)
        return turns

    assert uvloop.run(run()) < 50


async def test_a_closed_listener_lets_nobody_in() -> None:
    listener = await listen(Counted, "127.0.0.1", 0, "")
    assert listener.on_loopback
    port = listener.port
    listener.close()
    await listener.wait_closed(1.0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()


async def test_a_port_in_use_is_refused_with_its_settings() -> None:
    listener = await listen(Counted, "127.0.0.1", 0, "")
    with pytest.raises(
        ConfigError, match=r"address already in use - at `\$.server.admin_port`, `\$.server.admin_host`"
    ):
        await listen(Counted, "127.0.0.1", listener.port, "admin_")
    listener.close()
    await listener.wait_closed(1.0)
