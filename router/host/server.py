"""The host's side of the wire: connections come and go, each with its own requests over the one engine.

Knows frames and the `Engine` protocol; nothing of vLLM.
"""

import asyncio
import contextlib
import os

from router.errors import ProtocolError
from router.host.base import Engine, Failure, engine_failed, failure, printable
from router.host.outbox import Outbox
from router.host.stream import Stream
from router.ipc.channel import Channel
from router.ipc.messages import Abort, Control, Hello, Load, Message, Submit

_DRAINING = failure(503, "the engine is draining", "service_unavailable", code="draining", retryable=True)
_STOPPING = failure(503, "the engine host is stopping", "service_unavailable", code="stopping", retryable=True)


class Server:
    """All connections of one engine. Drained once asked to and nothing runs."""

    def __init__(self, name: str, engine: Engine, *, load_interval_s: float, stream_buffer_bytes: int) -> None:
        self.name = name
        self.engine = engine
        self.stream_buffer_bytes = stream_buffer_bytes
        self.draining = False
        self._loop = asyncio.get_running_loop()
        self._connections: set[Connection] = set()
        self._owner: Connection | None = None
        self._load_interval_s = load_interval_s
        self._load_timer: asyncio.TimerHandle | None = None
        self._load_sent = Load()
        self._load_sent_at = -load_interval_s

    def accept(self) -> Channel:
        """A channel for one more frontend: the factory of `create_unix_server`."""
        return Channel(Connection(self, self._loop), self._loop)

    def joined(self, connection: "Connection", pid: int) -> None:
        """The first connection owns the engine for as long as it lasts; one of the process that started us at once."""
        self._connections.add(connection)
        if self._owner is None or pid == os.getppid():
            self._owner = connection

    def left(self, connection: "Connection") -> None:
        self._connections.discard(connection)
        if self._owner is connection:
            self._owner = None
        self.idle()

    def owned_by(self, connection: "Connection") -> bool:
        """Whether `connection` may drain the engine and put it to sleep, which all others would notice."""
        return self._owner is connection

    def drain(self) -> None:
        self.draining = True
        self.idle()

    def idle(self) -> None:
        """A request ended: tell everybody once the last one of a drain did."""
        if self.draining and not any(connection.busy for connection in self._connections):
            for connection in self._connections:
                connection.send(Control("drained"))

    def fail_all(self, why: Failure) -> None:
        for connection in list(self._connections):
            connection.fail_all(why)

    def close(self) -> None:
        for connection in list(self._connections):
            connection.fail_all(_STOPPING)
            connection.close()

    # load

    def load_changed(self) -> None:
        """Tell every frontend of the engine's load, at most once an interval."""
        if self._load_timer is not None:
            return
        wait_s = self._load_sent_at + self._load_interval_s - self._loop.time()
        if wait_s <= 0:
            self._send_load()
        else:
            self._load_timer = self._loop.call_later(wait_s, self._send_load)

    def _send_load(self) -> None:
        self._load_timer = None
        load = self.engine.load()
        if load == self._load_sent:
            return
        self._load_sent, self._load_sent_at = load, self._loop.time()
        for connection in self._connections:
            connection.send(load)


class Connection:
    """One frontend: its requests live and die with it."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._streams: dict[int, Stream] = {}
        self._channel: Channel | None = None
        self._outbox: Outbox | None = None

    @property
    def busy(self) -> bool:
        return bool(self._streams)

    def send(self, message: Control | Load) -> None:
        if self._channel is not None:
            self._channel.send(message)

    def close(self) -> None:
        if self._channel is not None:
            # One tick later, so that the ends queued in the outbox are in the channel.
            self._loop.call_soon(self._channel.close)

    def fail_all(self, why: Failure) -> None:
        for stream in list(self._streams.values()):
            stream.refuse(why)

    # Handler

    def connected(self, channel: Channel) -> None:
        server, facts = self._server, self._server.engine.facts
        self._channel = channel
        self._outbox = Outbox(channel, self._loop, server.stream_buffer_bytes, self._cut)
        hello = Hello(
            role="host",
            model=server.name,
            capabilities=facts.capabilities,
            context_tokens=facts.context_tokens,
            kv_tokens=facts.kv_tokens,
            max_running=facts.max_running,
            engine_version=facts.version,
            pid=os.getpid(),
        )
        channel.send(hello)
        channel.send(server.engine.load())
        server.joined(self, channel.peer_pid)

    def received(self, message: Message) -> None:
        if type(message) is Submit:
            self._submit(message)
        elif type(message) is Abort:
            if (stream := self._streams.get(message.id)) is not None:
                stream.abort()
        elif type(message) is Control:
            self._control(message)

    def lost(self, error: Exception | None) -> None:
        for stream in list(self._streams.values()):
            stream.abort()
        self._channel = None
        self._server.left(self)

    def writable(self, writable: bool) -> None:
        if self._outbox is not None:
            self._outbox.writable(writable)

    def _submit(self, submit: Submit) -> None:
        assert self._outbox is not None
        if submit.id in self._streams:
            raise ProtocolError(f"request {submit.id} is already running")
        stream = self._streams[submit.id] = Stream(submit.id, self._outbox, self._loop, self._ended)
        if self._server.draining:
            stream.refuse(_DRAINING)
            return
        try:
            stream.start(self._server.engine, submit)
        except Exception as error:  # whatever breaks must end this request, not the connection
            stream.refuse(engine_failed(f"{type(error).__name__}: {error}"))
            self._loop.call_exception_handler({"message": "a request could not be started", "exception": error})

    def _cut(self, id: int) -> None:
        """Bytes of `id` could not be sent, which the outbox says: stop generating."""
        if (stream := self._streams.get(id)) is not None:
            stream.abort()

    def _ended(self, id: int) -> None:
        self._streams.pop(id, None)
        if not self._streams:
            self._server.idle()

    def _control(self, message: Control) -> None:
        if message.op == "ping":
            self.send(Control("pong", message.argument))
        elif message.op in ("drain", "sleep", "wake") and not self._server.owned_by(self):
            self.send(Control("done", f"refused: another frontend owns this engine, and alone may {message.op} it"))
        elif message.op == "drain":
            self._server.drain()
        elif message.op in ("sleep", "wake"):
            task = self._loop.create_task(self._sleep_or_wake(message))
            _running.add(task)
            task.add_done_callback(_running.discard)

    async def _sleep_or_wake(self, message: Control) -> None:
        why = await self._server.engine.control(message.op, message.argument)
        self.send(Control("done", printable(why)))


#: Tasks that only the loop refers to would be collected while they run.
_running: set[asyncio.Task[None]] = set()


def remove_socket(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
