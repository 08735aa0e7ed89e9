"""The host's server: accepts connections of frontends and runs their requests on the one engine.

Knows frames and the `Engine` protocol; nothing of vLLM.
"""

import asyncio
import contextlib
import hmac
import os
from collections.abc import Callable, Coroutine

from router.errors import ProtocolError
from router.host.base import Engine, ErrorAnswer, engine_failed, failure, printable
from router.host.generation import Generation
from router.host.outbox import Outbox
from router.host.owners import Owners
from router.ipc.channel import Channel
from router.ipc.frames import other_version
from router.ipc.messages import PROTOCOL_VERSION, Abort, Control, Hello, Load, Message, Submit

_DRAINING = failure(503, "the engine is draining", "service_unavailable", code="draining", retryable=True)
_TOO_MANY = failure(
    429,
    "this client has as many requests in the engine as one may have",
    "rate_limit_error",
    code="client_limit",
    retryable=True,
)
_NOT_OWNER = failure(403, "only the owner of this engine host may ask for it", "permission_error", code="not_owner")
_STOPPING = failure(503, "the engine host is stopping", "service_unavailable", code="stopping", retryable=True)


#: Clients at once; requests of one; unsent bytes to one, above which its connection is cut. What the owner sends is
#: bounded by its own config.
MOST_CLIENTS = 64
CLIENT_REQUESTS = 4096
CLIENT_UNSENT_BYTES = 64 * 1024 * 1024
_VERBS = ("metrics", "admin", "stored", "hand_over", "give_up")
_OF_OWNERS = ("drain", "sleep", "wake", "stop", "hand_over", "give_up")
#: A peer that has connected says who it is within so many seconds.
GREETING_S = 30.0


class Server:
    """All connections of one engine. Drained once asked to and nothing runs."""

    def __init__(
        self,
        name: str,
        engine: Engine,
        *,
        load_interval_s: float,
        stream_buffer_bytes: int,
        secret: bytes = b"",
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        """`secret`: what peers must show, empty for none. `stop` is called as the owner asks for it or is gone."""
        self._secret = secret
        self.stop = stop
        self.name = name
        self.engine = engine
        self.stream_buffer_bytes = stream_buffer_bytes
        self.draining = False
        self._loop = asyncio.get_running_loop()
        self._connections: set[Peer] = set()
        self._owners: Owners[Peer] = Owners(stop)
        self._load_interval_s = load_interval_s
        self._load_timer: asyncio.TimerHandle | None = None
        self._load_sent = Load()
        self._load_sent_at = -load_interval_s

    def accept(self) -> Channel:
        """A channel for one more owner or client: the factory of `create_unix_server`."""
        return Channel(Peer(self, self._loop), self._loop)

    def refusal(self, hello: Hello, pid: int) -> str:
        """Why a peer of process `pid` (0: unknown) is not let in, or empty."""
        if hello.version != PROTOCOL_VERSION:
            return other_version(hello.version)
        if self._secret and not hmac.compare_digest(hello.secret, self._secret):
            return "the secret is missing or wrong"
        if hello.role not in ("owner", "client"):
            return f"expected the role owner or client, got {hello.role[:40]!r}"
        if hello.role == "owner":
            return self._owners.refusal(pid)
        if len(self._connections) >= MOST_CLIENTS + 1:
            return f"this engine host has {MOST_CLIENTS} clients, as many as it takes"
        return ""

    def joined(self, connection: "Peer", role: str, pid: int) -> None:
        self._connections.add(connection)
        if role == "owner":
            self._owners.join(connection, pid)

    def left(self, connection: "Peer") -> None:
        self._connections.discard(connection)
        self._owners.left(connection)
        self.idle()

    def owned_by(self, connection: "Peer") -> bool:
        """Whether `connection` may drain, stop and wake the engine and put it to sleep, which all would notice."""
        return connection in self._owners

    def pass_on(self, connection: "Peer", message: Control) -> str:
        """`hand_over` and `give_up` of an owner. Why not, or empty."""
        if message.op == "hand_over":
            return self._owners.hand_over(message.argument)
        return self._owners.give_up(connection)

    def drain(self) -> None:
        self.draining = True
        self.idle()

    def idle(self) -> None:
        """A request ended: tell everybody once the last one of a drain did."""
        if self.draining and not any(connection.busy for connection in self._connections):
            for connection in self._connections:
                connection.send(Control("drained"))

    def fail_all(self, why: ErrorAnswer) -> None:
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


class Peer:
    """One owner or client: its requests live and die with it.

    connected --Hello--> joined (Hello and Load are sent) --lost--> aborted
        +--anything else, a wrong secret or version, silence--> refused: why is sent, and the connection ends
    """

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._streams: dict[int, Generation] = {}
        self._channel: Channel | None = None
        self._outbox: Outbox | None = None
        self._joined = self._writable = self._collecting = False
        self._gave_up = False  #: it was an owner, and is not bounded as other clients are
        self._greeting: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        return bool(self._streams)

    def send(self, message: Control | Load) -> None:
        """Load is not sent to a peer that reads too slowly: it hears of the latest once it has caught up."""
        if self._channel is not None and (self._writable or type(message) is not Load):
            self._channel.send(message)

    def close(self) -> None:
        if self._channel is not None:
            # One tick later, so that the ends queued in the outbox are in the channel.
            self._loop.call_soon(self._channel.close)

    def fail_all(self, why: ErrorAnswer) -> None:
        for stream in list(self._streams.values()):
            stream.refuse(why)

    # Handler

    def connected(self, channel: Channel) -> None:
        self._channel = channel
        self._outbox = Outbox(channel, self._loop, self._server.stream_buffer_bytes, self._cut)
        self._writable = True
        self._greeting = self._loop.call_later(GREETING_S, self._refuse, f"it said nothing for {GREETING_S:g} s")

    def received(self, message: Message) -> None:
        if not self._joined:
            self._greeted(message)
        elif self._too_slow():
            raise ProtocolError("this client reads its answers too slowly")
        elif type(message) is Submit:
            self._submit(message)
        elif type(message) is Abort:
            if (stream := self._streams.get(message.id)) is not None:
                stream.abort()
        elif type(message) is Control:
            self._control(message)

    def _greeted(self, message: Message) -> None:
        if self._greeting is None:
            return  # refused
        channel, server, facts = self._channel, self._server, self._server.engine.facts
        assert channel is not None
        if not isinstance(message, Hello):
            self._refuse(f"expected Hello first, got {type(message).__name__}")
            return
        if why := server.refusal(message, channel.peer_pid):
            self._refuse(why)
            return
        self._greeting.cancel()
        self._joined = True
        hello = Hello(
            role="host",
            model=server.name,
            capabilities=facts.capabilities,
            context_tokens=facts.context_tokens,
            kv_tokens=facts.kv_tokens,
            max_running=facts.max_running,
            engine_version=facts.version,
            pid=os.getpid(),
            verbs=_VERBS + facts.verbs,
            adapters=facts.adapters,
        )
        channel.send(hello)
        channel.send(server.engine.load())
        server.joined(self, message.role, channel.peer_pid)

    def _refuse(self, why: str) -> None:
        """Not let in: say why, and end the connection."""
        if self._greeting is not None and self._channel is not None:
            self._greeting.cancel()
            self._greeting = None
            self._channel.send(Control("refused", why))
            self._channel.close()

    def _too_slow(self) -> bool:
        """A client asks for more while more than its share waits to be read."""
        if self._writable or not self._is_bounded():
            return False
        assert self._channel is not None
        assert self._outbox is not None
        return self._channel.buffered_bytes() + self._outbox.held_bytes() > CLIENT_UNSENT_BYTES

    def _is_bounded(self) -> bool:
        """By the bounds of a client: what owners send is bounded by their own config."""
        return not self._gave_up and not self._server.owned_by(self)

    def lost(self, error: Exception | None) -> None:
        if self._greeting is not None:
            self._greeting.cancel()
        for stream in list(self._streams.values()):
            stream.abort()
        self._channel = None
        if self._joined:
            self._server.left(self)

    def writable(self, writable: bool) -> None:
        self._writable = writable
        if self._outbox is not None:
            self._outbox.writable(writable)
        if writable and self._joined:
            self.send(self._server.engine.load())

    def _submit(self, submit: Submit) -> None:
        assert self._outbox is not None
        if submit.id in self._streams:
            raise ProtocolError(f"request {submit.id} is already running")
        stream = self._streams[submit.id] = Generation(submit.id, self._outbox, self._loop, self._ended)
        if self._server.draining:
            stream.refuse(_DRAINING)
            return
        if len(self._streams) > CLIENT_REQUESTS and self._is_bounded():
            stream.refuse(_TOO_MANY)
            return
        if submit.kind == "admin" and not self._server.owned_by(self):
            stream.refuse(_NOT_OWNER)
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
        elif message.op in _OF_OWNERS and not self._server.owned_by(self):
            self.send(Control("refused", f"{message.op}: only the owner of this engine host may ask for it"))
        elif message.op == "stop":
            self._server.stop()
        elif message.op == "drain":
            self._server.drain()
        elif message.op in ("hand_over", "give_up"):
            why = self._server.pass_on(self, message)
            self._gave_up = self._gave_up or (message.op == "give_up" and not why)
            self.send(Control("refused", why) if why else message)
        elif message.op in ("sleep", "wake"):
            self._keep(self._sleep_or_wake(message))
        elif message.op == "metrics" and not self._collecting:
            self._collecting = True
            self._keep(self._metrics())

    def _keep(self, coroutine: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(coroutine)
        _running.add(task)
        task.add_done_callback(_running.discard)

    async def _metrics(self) -> None:
        """One at a time: who asks again before the answer gets it once."""
        try:
            page = await self._server.engine.metrics()
        except Exception as error:  # whoever asked has its page without this engine
            page = ""
            self._loop.call_exception_handler({"message": "the metrics could not be collected", "exception": error})
        finally:
            self._collecting = False
        self.send(Control("metrics", page))

    async def _sleep_or_wake(self, message: Control) -> None:
        why = await self._server.engine.control(message.op, message.argument)
        self.send(Control("done", printable(why)))


#: Tasks that only the loop refers to would be collected while they run.
_running: set[asyncio.Task[None]] = set()


def remove_socket(path: str, inode: int | None = None) -> None:
    """With `inode` only that one: a host that takes our place may have put its own there."""
    with contextlib.suppress(FileNotFoundError):
        if inode is None or os.lstat(path).st_ino == inode:
            os.unlink(path)
