"""One listening port: opened, told apart by its addresses, closed. Knows no HTTP."""

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections.abc import Callable

from router.errors import ConfigError

#: The kernel caps it at `net.core.somaxconn`; uvloop's own 100 drops connections of a burst.
_BACKLOG = 4096
#: Servers on one socket. libuv accepts one connection in a turn of the event loop for each: with one of them, whoever
#: opens hundreds of connections and keeps the loop busy has all other new clients wait for seconds.
_ACCEPTED_A_TURN = 16


class ListeningSockets:
    """Made by `listen`."""

    def __init__(self, servers: list[asyncio.Server]) -> None:
        self._servers = servers

    @property
    def port(self) -> int:
        port: int = self._servers[0].sockets[0].getsockname()[1]
        return port

    @property
    def on_loopback(self) -> bool:
        """By the addresses that it really listens on: a name, or an empty host, does not tell."""
        names = [socket.getsockname()[0] for socket in self._servers[0].sockets]
        return all(ipaddress.ip_address(name).is_loopback for name in names)

    def close(self) -> None:
        """No new connections."""
        for server in self._servers:
            server.close()

    async def wait_closed(self, within_s: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            async with asyncio.timeout(within_s):
                for server in self._servers:
                    await server.wait_closed()


async def listen(make: Callable[[], asyncio.Protocol], host: str, port: int, setting: str) -> ListeningSockets:
    """Raises `ConfigError` naming the settings `$.server.{setting}host` and `port`, whose address cannot be had."""
    loop = asyncio.get_running_loop()
    try:
        servers = [await loop.create_server(make, host, port, backlog=_BACKLOG)]
        for _ in range(_ACCEPTED_A_TURN - 1):
            servers.extend([await loop.create_server(make, sock=_same(one), backlog=_BACKLOG)
                            for one in servers[0].sockets])  # fmt: skip
    except OSError as error:
        at = f"`$.server.{setting}port`, `$.server.{setting}host`"
        raise ConfigError(f"cannot listen on {host}, port {port}: {_reason(error)} - at {at}") from error
    except OverflowError as error:
        raise ConfigError(f"a port is 0 to 65535, got {port} - at `$.server.{setting}port`") from error
    return ListeningSockets(servers)


def _same(one: socket.socket) -> socket.socket:
    """Another descriptor of it: uvloop keeps each for one server."""
    return socket.socket(fileno=os.dup(one.fileno()))


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
