"""What all connections of one port share: its routes, keys, limits, metrics and clock."""

import asyncio
import logging
import select
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Protocol

from router.config import Limits
from router.errors import RouterError, Unauthorized
from router.frontend.origins import Origins
from router.frontend.rounds import Round
from router.frontend.routes import Routes
from router.frontend.turns import Turns
from router.gate.gate import Gate
from router.gate.keys import Keys
from router.native.steps import Steps
from router.observe.metrics import Metrics
from router.pipeline.intake import Intake

#: Errors and hang-ups are always told; this is the end of what a client sends, whatever of it is still unread.
_LEFT = getattr(select, "POLLRDHUP", 0)
_log = logging.getLogger("headgate.frontend")


class Timed(Protocol):
    """What a sweep calls of a connection."""

    def overdue(self, now: float) -> None:
        """A deadline has passed, or the client reads too slowly."""
        ...

    def unsent_bytes(self) -> int: ...

    def cut_slow(self) -> None:
        """The client reads too slowly: close at once."""
        ...

    def left(self) -> None:
        """The client closed its side."""
        ...


class Closable(Protocol):
    """Three ways to end a connection."""

    def drain(self) -> None:
        """After the answer under way."""
        ...

    def cut(self, error: RouterError) -> None:
        """After ending the answer under way with `error`."""
        ...

    def abort(self) -> None:
        """At once."""
        ...


class Client(Timed, Closable, Protocol):
    """A connection (`connection.Connection`), as the listener sees it."""

    deadline: float
    stalled: bool
    socket: int  #: file descriptor, or -1

    def __hash__(self) -> int: ...


class Listener:
    """State of one listening port."""

    __slots__ = (
        "_sweeping",
        "body_bytes",
        "connections",
        "date",
        "draining",
        "emptied",
        "gate",
        "guard",
        "held",
        "intake",
        "keys",
        "limits",
        "metrics",
        "now",
        "origins",
        "patient",
        "request_ids",
        "routes",
        "steps",
        "tick_s",
        "turns",
    )

    def __init__(
        self,
        routes: Routes,
        keys: Keys,
        limits: Limits,
        metrics: Metrics,
        *,
        origins: Origins | None = None,
        gate: Gate | None = None,
        guard: Callable[[dict[bytes, bytes]], None] | None = None,
        request_ids: bool = False,
    ) -> None:
        """`gate`: that of the service, else one of our own. `guard` is called with the headers of every request, before
        its route is looked up; it raises."""
        self.routes = routes
        self.keys = keys
        self.origins = Origins() if origins is None else origins
        self.guard = guard
        self.request_ids = request_ids  #: every answer carries `x-request-id`, not those of inference alone
        self.limits = limits
        self.metrics = metrics
        self.connections: set[Client] = set()
        self.held: set[Client] = set()  #: of which nothing is read at present
        self.draining = False  #: each connection ends with its next answer, and idle ones at once
        self.patient = False  #: a drain in which idle ones may still ask, once
        self.emptied = asyncio.Event()  #: set when the last connection of a draining listener has closed
        self.body_bytes = 0  #: of requests that are being read, or wait for an answer before theirs; and what is unread
        self.gate = Gate(limits, metrics) if gate is None else gate
        self.intake: Intake | None = None  #: takes plain chats natively
        self.steps: Steps | None = None  #: which were native; of the public port
        self.tick_s = sweep_interval_s(limits)
        self.now = 0.0  #: the clock at the last sweep; all deadlines are counted from it
        self.date = ""
        self.turns = Turns()
        self._sweeping: Round[Client] = Round(self.turns, (), lambda connection: None, self._broke)

    @property
    def running(self) -> int:
        """Requests that were let in and are not over."""
        return self.gate.slots.running

    def identify(self, headers: dict[bytes, bytes]) -> str:
        """The id of the key that `headers` present. Raises `Unauthorized`."""
        try:
            return self.keys.identify(headers)
        except Unauthorized:
            self.metrics.refused("key")
            raise

    def entered(self, connection: Client) -> None:
        self.connections.add(connection)
        self.metrics.connections += 1

    def left(self, connection: Client) -> None:
        self.connections.discard(connection)
        self.metrics.connections -= 1
        if self.draining and not self.connections:
            self.emptied.set()

    def sweep(self, now: float) -> None:
        """End what has run out of time. One pass over all connections stands in for a timer each."""
        self.now = now
        self.date = f"date: {formatdate(usegmt=True)}\r\n"
        if not self._sweeping.over:
            return  # thousands of connections ran out of time at one moment
        late = [each for each in self.connections if now >= each.deadline or each.stalled]
        self._sweeping = self.tell(late, lambda connection: connection.overdue(now))
        self._bound_unsent([each for each in late if each.stalled])
        if self.held:
            self._find_gone()

    def tell(self, connections: Iterable[Client], what: Callable[[Client], None]) -> Round[Client]:
        """Call `what` with each connection, of many in several turns. One that raises is logged and closed; the others
        are called too."""
        round = Round(self.turns, connections, what, self._broke)
        round.begin()
        return round

    def _broke(self, connection: Client, error: Exception) -> None:
        self.bug(error)
        self._close(connection)

    def _close(self, connection: Client) -> None:
        try:
            connection.abort()
        except Exception as error:  # what has failed may be this very step
            _log.error("a connection could not be closed in order: %s", type(error).__name__)

    def _bound_unsent(self, stalled: Iterable[Client]) -> None:
        """What clients do not read stays, for all together, within the bound on pending bytes: the largest are cut.
        Those that have ended their side, of which nothing is read any more, count too."""
        unsent = {each: each.unsent_bytes() for each in stalled}
        excess = sum(unsent.values()) - self.limits.pending_bytes
        cut: list[Client] = []
        for connection in sorted(unsent, key=unsent.__getitem__, reverse=True):
            if excess > 0:
                cut.append(connection)
                excess -= unsent[connection]
        self.tell(cut, lambda connection: connection.cut_slow())

    def _find_gone(self) -> None:
        """Where reading is paused, asyncio does not report that the client has left: ask the sockets."""
        poll, held = select.poll(), {each.socket: each for each in self.held if each.socket >= 0}
        for fd in held:
            poll.register(fd, _LEFT)
        self.tell([held[fd] for fd, _ in poll.poll(0)], lambda connection: connection.left())

    def bug(self, error: BaseException) -> None:
        _log.error("internal error while answering a request", exc_info=error)


def sweep_interval_s(limits: Limits) -> float:
    """Often enough that a time-out is at most a quarter late."""
    least = min(limits.header_timeout_s, limits.body_timeout_s, limits.keepalive_s, limits.write_timeout_s)
    return min(1.0, max(0.02, least / 4))
