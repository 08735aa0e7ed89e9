"""The way to one engine host: its process and its connection, from spawn to Hello to the end.

A link lives as long as its host; a restarted engine gets a new one. Knows the greeting, no other message.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from router.errors import EngineStartError, ProtocolError
from router.ipc.channel import Channel
from router.ipc.messages import PROTOCOL_VERSION, Hello, Message
from router.ipc.spec import HostSpec
from router.pool.process import HOST_COMMAND, HostProcess

_CONNECT_POLL_S = 0.05


class HostLink:
    """Implements the channel's `Handler`. `received` gets every message after the greeting, `writable` tells whether
    the host reads in time, `shortcut` is that of the channel."""

    def __init__(
        self,
        name: str,
        received: Callable[[Message], None],
        lost: Callable[["HostLink", Exception | None], None],
        writable: Callable[[bool], None],
        shortcut: Callable[[bytes], int],
    ) -> None:
        self.name = name
        self.channel: Channel | None = None
        self.process: HostProcess | None = None
        self.received: Callable[[Message], None] = self._greet
        self._pass_on = received
        self._on_lost = lost
        self._on_writable = writable
        self._shortcut = shortcut
        self._greeted: asyncio.Future[Hello] | None = None

    async def open(
        self, spec: HostSpec, log: Path, env: dict[str, str], command: tuple[str, ...] = HOST_COMMAND
    ) -> Hello:
        """Start the host and wait for its Hello. Raises `EngineStartError` with its last words if it dies first."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(spec.socket)
        self._greeted = asyncio.get_running_loop().create_future()
        try:
            self.process = await HostProcess.spawn(spec, log, env, command)
        except OSError as error:
            raise EngineStartError(self.name, f"its process could not be started: {error}") from error
        died = asyncio.create_task(self.process.wait())
        greeting = asyncio.create_task(self._greeting(spec.socket, self._greeted))
        try:
            await asyncio.wait((died, greeting), return_when=asyncio.FIRST_COMPLETED)
            if greeting.done() and greeting.exception() is None and self.channel is not None:
                return greeting.result()
            raise await self._why(died, greeting)
        finally:
            for task in (died, greeting):
                task.cancel()
            await asyncio.gather(died, greeting, return_exceptions=True)

    def send(self, message: Message) -> None:
        if self.channel is not None:
            self.channel.send(message)

    def unsent_bytes(self) -> int:
        return 0 if self.channel is None else self.channel.buffered_bytes()

    def kill(self) -> None:
        """End a host that hangs; `lost` follows."""
        if self.process is not None:
            self.process.kill()
        if self.channel is not None:
            self.channel.abort()

    async def close(self, timeout_s: float) -> None:
        """End the connection and the process with all that it left behind."""
        if self.channel is not None:
            self.channel.close()
        if self.process is not None:
            await self.process.stop(timeout_s)

    # Handler of the channel

    def connected(self, channel: Channel) -> None:
        self.channel = channel
        channel.send(Hello(role="frontend"))

    def lost(self, error: Exception | None) -> None:
        self.channel = None
        assert self._greeted is not None
        if not self._greeted.done():
            self._greeted.set_exception(error or ConnectionError("the host closed its connection"))
        self._on_lost(self, error)

    def writable(self, writable: bool) -> None:
        self._on_writable(writable)

    def _greet(self, message: Message) -> None:
        if not isinstance(message, Hello):
            raise ProtocolError(f"expected Hello, got {type(message).__name__}")
        if message.role != "host" or message.version != PROTOCOL_VERSION:
            got = f"{message.role} of {message.version}"
            raise ProtocolError(f"expected a host of protocol {PROTOCOL_VERSION}, got {got}")
        assert self._greeted is not None
        if not self._greeted.done():
            self._greeted.set_result(message)
        self.received = self._pass_on
        assert self.channel is not None
        self.channel.shortcut = self._shortcut

    # Start

    async def _greeting(self, socket: str, greeted: asyncio.Future[Hello]) -> Hello:
        """Connect as soon as the host listens; its Hello says that it can serve."""
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                await loop.create_unix_connection(lambda: Channel(self, loop), socket)
                return await greeted
            await asyncio.sleep(_CONNECT_POLL_S)

    async def _why(self, died: "asyncio.Task[int]", greeting: "asyncio.Task[Hello]") -> EngineStartError:
        assert self.process is not None
        if greeting.done() and isinstance(error := greeting.exception(), ProtocolError):
            return EngineStartError(self.name, str(error))
        # A host that closed its connection is about to die: give it the time to write why.
        await asyncio.wait((died,), timeout=5.0)
        return EngineStartError(self.name, self.process.last_words())
