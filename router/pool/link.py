"""One engine host's process and its connection, from the start of the process to `Hello` and to the end of either.

A restarted engine gets a new link. Knows the greeting, no other message.
"""

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from router.errors import ArgumentsRefused, ConfigError, EngineStartError, ProtocolError
from router.ipc.channel import Channel
from router.ipc.frames import other_version
from router.ipc.messages import PROTOCOL_VERSION, Control, Hello, Message
from router.ipc.spec import ArgumentRefusal, HostSpec
from router.pool.folder import private_folder
from router.pool.process import HOST_COMMAND, HostProcess
from router.pool.turns import Load

_CONNECT_POLL_S = 0.05
#: The host does not listen yet, or we are out of something that comes back.
_PASSING = frozenset({
    errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN, errno.EINTR,
    errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM,
})  # fmt: skip


async def _at_once() -> None: ...


class RunningHost(msgspec.Struct, frozen=True, kw_only=True):
    """A host that need not be started."""

    socket: str
    secret: str
    role: Literal["owner", "client"]  #: that we join as
    answers_as: str  #: the name that its Hello says


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
        self._secret = b""
        self.verbs: tuple[str, ...] = ()  #: of `Control` that the host takes
        self._role: Literal["owner", "client"] = "owner"
        self._answers_as = name

    async def open(
        self,
        spec: HostSpec,
        log: Path,
        env: dict[str, str],
        command: tuple[str, ...] = HOST_COMMAND,
        load: Load = _at_once,
    ) -> Hello:
        """Start the host and wait for its Hello; `load` is awaited before its engine may load. Raises
        `EngineStartError` with its last words if it dies first."""
        self._greeted = asyncio.get_running_loop().create_future()
        self._secret, self._answers_as = spec.secret.encode(), spec.name
        process = self.process = await self._spawned(spec, log, env, command)
        died = asyncio.create_task(process.wait())
        greeting = asyncio.create_task(self._greeting(spec.socket, self._greeted))
        asked = asyncio.create_task(process.asked())
        try:
            await asyncio.wait((died, greeting, asked), return_when=asyncio.FIRST_COMPLETED)
            if asked.done() and not died.done():
                if refusal := self._refusal(asked):
                    raise refusal
                await load()
                process.go()
                await asyncio.wait((died, greeting), return_when=asyncio.FIRST_COMPLETED)
            if not greeting.done() or greeting.exception() is not None:
                raise await self._why(process, died, greeting)
            hello = greeting.result()
        finally:
            for task in (died, greeting, asked):
                task.cancel()
            await asyncio.gather(died, greeting, asked, return_exceptions=True)
        if self.channel is None:  # lost right after its greeting
            raise EngineStartError(self.name, process.last_words())
        return hello

    async def join(self, host: RunningHost, process: HostProcess | None) -> Hello:
        """Connect to a host that runs already. Raises `EngineStartError`."""
        self._greeted = asyncio.get_running_loop().create_future()
        self._secret, self._role, self.process = host.secret.encode(), host.role, process
        self._answers_as = host.answers_as
        loop, greeted = asyncio.get_running_loop(), self._greeted
        try:
            await loop.create_unix_connection(lambda: Channel(self, loop), host.socket)
            hello = await greeted
        except (OSError, ProtocolError) as error:
            raise EngineStartError(self.name, f"its running host could not be joined: {error}") from error
        if self.channel is None:  # lost right after its greeting
            raise EngineStartError(self.name, "its running host was lost as it was joined")
        return hello

    async def _spawned(self, spec: HostSpec, log: Path, env: dict[str, str], command: tuple[str, ...]) -> HostProcess:
        try:
            private_folder(Path(spec.socket).parent)  # a cleaner may have removed it
            with contextlib.suppress(FileNotFoundError):
                os.unlink(spec.socket)
            return await HostProcess.spawn(spec, log, env, command)
        except (OSError, ConfigError) as error:
            raise EngineStartError(self.name, f"its process could not be started: {error}") from error

    def send(self, message: Message) -> None:
        if self.channel is not None:
            self.channel.send(message)

    def news(self) -> str:
        """What the host wrote to its log since the last call."""
        return "" if self.process is None else self.process.news()

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
        channel.send(Hello(role=self._role, secret=self._secret, pid=os.getpid()))

    def lost(self, error: Exception | None) -> None:
        self.channel = None
        assert self._greeted is not None
        if not self._greeted.done():
            self._greeted.set_exception(error or ConnectionError("the host closed its connection"))
        self._on_lost(self, error)

    def writable(self, writable: bool) -> None:
        self._on_writable(writable)

    def _greet(self, message: Message) -> None:
        if isinstance(message, Control) and message.op == "refused":
            raise ProtocolError(f"the engine host refused this frontend: {message.argument}")
        if not isinstance(message, Hello):
            raise ProtocolError(f"expected Hello, got {type(message).__name__}")
        if message.version != PROTOCOL_VERSION:
            raise ProtocolError(other_version(message.version))
        if message.role != "host":
            raise ProtocolError(f"expected the Hello of a host, got one of role {message.role[:40]!r}")
        if message.model not in ("", self._answers_as):
            raise ProtocolError(f"expected the host of model {self._answers_as!r}, got that of {message.model[:200]!r}")
        assert self._greeted is not None
        self.verbs = message.verbs
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
            try:
                await loop.create_unix_connection(lambda: Channel(self, loop), socket)
            except OSError as error:
                if error.errno not in _PASSING:
                    raise EngineStartError(self.name, f"its socket cannot be reached: {error}") from error
                await asyncio.sleep(_CONNECT_POLL_S)
            else:
                return await greeted

    def _refusal(self, asked: "asyncio.Task[ArgumentRefusal | None]") -> EngineStartError | None:
        try:
            refused = asked.result()
        except (msgspec.MsgspecError, OSError) as error:
            return EngineStartError(self.name, f"its host does not say whether its arguments are fine: {error}")
        return None if refused is None else ArgumentsRefused(self.name, refused.key, refused.why)

    async def _why(
        self, process: HostProcess, died: "asyncio.Task[int | None]", greeting: "asyncio.Task[Hello]"
    ) -> EngineStartError:
        error = greeting.exception() if greeting.done() else None
        if isinstance(error, EngineStartError):
            return error
        if isinstance(error, ProtocolError):
            return EngineStartError(self.name, str(error))
        # A host that closed its connection is about to die: give it the time to write why.
        await asyncio.wait((died,), timeout=5.0)
        return EngineStartError(self.name, process.last_words())
