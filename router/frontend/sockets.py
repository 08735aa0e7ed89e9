"""One listening port: opened, told apart by its addresses, closed. Knows no HTTP."""

import asyncio
import contextlib
import ipaddress
import os
import socket
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from router.errors import ConfigError

#: The kernel caps it at `net.core.somaxconn`; uvloop's own 100 drops connections of a burst.
_BACKLOG = 4096
#: Servers on one socket. libuv accepts one connection in a turn of the event loop for each: with one of them, whoever
#: opens hundreds of connections and keeps the loop busy has all other new clients wait for seconds.
_ACCEPTED_A_TURN = 16


class ListeningSockets:
    """Made by `listen`."""

    def __init__(self, servers: list[asyncio.Server], file: Path | None = None) -> None:
        """`file`: of a Unix socket, removed at its end unless another has taken its place."""
        self._servers = servers
        self._file = file
        self._inode = 0 if file is None else file.lstat().st_ino

    @property
    def port(self) -> int:
        """0: a Unix socket's."""
        address = self._servers[0].sockets[0].getsockname()
        return address[1] if isinstance(address, tuple) else 0

    @property
    def on_loopback(self) -> bool:
        """By the addresses that it really listens on: a name, or an empty host, does not tell."""
        if self._file is not None:
            return True
        names = [socket.getsockname()[0] for server in self._servers for socket in server.sockets]
        return all(ipaddress.ip_address(name).is_loopback for name in names)

    def files(self) -> list[int]:
        """Of each address a descriptor, for a process that is to accept there too."""
        by_address = {str(one.getsockname()): one.fileno() for server in self._servers for one in server.sockets}
        return list(by_address.values())

    async def accept(self) -> None:
        """Of sockets that were opened without."""
        for server in self._servers:
            await server.start_serving()

    def close(self, *, keep_file: bool = False) -> None:
        """No new connections. `keep_file`: of a Unix socket that another process listens on."""
        for server in self._servers:
            server.close()
        if self._file is not None and not keep_file:
            with contextlib.suppress(OSError):
                if self._file.lstat().st_ino == self._inode:
                    self._file.unlink()

    async def wait_closed(self, within_s: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            async with asyncio.timeout(within_s):
                for server in self._servers:
                    await server.wait_closed()


async def listen(
    make: Callable[[], asyncio.Protocol], host: str, port: int, setting: str, *, accept: bool = True
) -> ListeningSockets:
    """Without `accept` its `accept` is still to be called. Raises `ConfigError` naming the settings
    `$.server.{setting}host` and `port`, whose address cannot be had."""
    loop = asyncio.get_running_loop()
    try:
        servers = [await loop.create_server(make, host, port, backlog=_BACKLOG, start_serving=accept)]
        for _ in range(_ACCEPTED_A_TURN - 1):
            servers.extend([await loop.create_server(make, sock=_same(one), backlog=_BACKLOG, start_serving=accept)
                            for one in servers[0].sockets])  # fmt: skip
    except OSError as error:
        at = f"`$.server.{setting}port`, `$.server.{setting}host`"
        raise ConfigError(f"cannot listen on {host}, port {port}: {_reason(error)} - at {at}") from error
    except OverflowError as error:
        raise ConfigError(f"a port is 0 to 65535, got {port} - at `$.server.{setting}port`") from error
    return ListeningSockets(servers)


async def listen_on(
    make: Callable[[], asyncio.Protocol], sockets: Sequence[socket.socket], file: str
) -> ListeningSockets:
    """On those that another process listens on, which are ours to close; `file`: a Unix socket's path, or empty.
    `accept` is still to be called."""
    loop = asyncio.get_running_loop()
    servers: list[asyncio.Server] = []
    for one in sockets:
        one.setblocking(False)
        again = [_same(one) for _ in range(_ACCEPTED_A_TURN - 1)]
        for each in (one, *again):
            if one.family == socket.AF_UNIX:
                server = await loop.create_unix_server(make, sock=each, backlog=_BACKLOG, start_serving=False)
            else:
                server = await loop.create_server(make, sock=each, backlog=_BACKLOG, start_serving=False)
            servers.append(server)
    return ListeningSockets(servers, Path(os.path.abspath(file)) if file else None)  # noqa: ASYNC240 - as below


async def listen_on_file(make: Callable[[], asyncio.Protocol], path: str, *, accept: bool = True) -> ListeningSockets:
    """On a Unix socket; without `accept` its `accept` is still to be called. One that nobody listens on any more is
    replaced. Raises `ConfigError` naming `$.server.uds`."""
    loop = asyncio.get_running_loop()
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_dead(path)
        one.bind(path)
        one.listen(_BACKLOG)
    except OSError as error:
        one.close()
        raise ConfigError(f"cannot listen on {path}: {_reason(error)} - at `$.server.uds`") from error
    one.setblocking(False)
    again = [_same(one) for _ in range(_ACCEPTED_A_TURN - 1)]
    servers = [
        await loop.create_unix_server(make, sock=each, backlog=_BACKLOG, start_serving=accept) for each in (one, *again)
    ]
    return ListeningSockets(servers, Path(os.path.abspath(path)))  # noqa: ASYNC240 - no disk is asked


def _remove_dead(path: str) -> None:
    """A socket's file outlives a process that was killed. Raises `OSError` where a living one listens."""
    if not stat.S_ISSOCK(_mode(path)):
        return  # nothing, or a file of another kind: `bind` says so
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        try:
            client.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)


def _mode(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return 0


def _same(one: socket.socket) -> socket.socket:
    """Another descriptor of it: uvloop keeps each for one server."""
    return socket.socket(fileno=os.dup(one.fileno()))


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
