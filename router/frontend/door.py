"""What all connections of one port share: its routes, keys, limits, metrics and clock."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import TYPE_CHECKING

from router.config import Limits
from router.frontend.keys import Keys
from router.frontend.origins import Origins
from router.frontend.routes import Routes
from router.frontend.turns import Turns
from router.native.express import Express
from router.observe.metrics import Metrics

if TYPE_CHECKING:
    from router.frontend.connection import Connection

_log = logging.getLogger("headgate.frontend")


class Door:
    """State of one listening port."""

    __slots__ = (
        "body_bytes",
        "connections",
        "date",
        "draining",
        "emptied",
        "express",
        "guard",
        "keys",
        "limits",
        "metrics",
        "now",
        "origins",
        "routes",
        "running",
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
        guard: Callable[[dict[bytes, bytes]], None] | None = None,
    ) -> None:
        """`guard` is called with the headers of every request, before its route is looked up; it raises."""
        self.routes = routes
        self.keys = keys
        self.origins = Origins() if origins is None else origins
        self.guard = guard
        self.limits = limits
        self.metrics = metrics
        self.connections: set[Connection] = set()
        self.draining = False
        self.emptied = asyncio.Event()  #: set when the last connection of a draining door has closed
        self.body_bytes = 0  #: of requests that are being read, or wait for an answer before theirs; and what is unread
        self.running = 0  #: answers that an engine owes
        self.express: Express | None = None  #: the common request's way
        self.tick_s = sweep_interval_s(limits)
        self.now = 0.0  #: the loop's time at the last sweep; all deadlines are counted from it
        self.date = ""
        self.turns = Turns()

    def entered(self, connection: "Connection") -> None:
        self.connections.add(connection)
        self.metrics.connections += 1

    def left(self, connection: "Connection") -> None:
        self.connections.discard(connection)
        self.metrics.connections -= 1
        if self.draining and not self.connections:
            self.emptied.set()

    def sweep(self, now: float) -> None:
        """End what has run out of time. One pass over all connections stands in for a timer each."""
        self.now = now
        self.date = f"date: {formatdate(usegmt=True)}\r\n"
        late = [each for each in self.connections if now >= each.deadline or each.stalled]
        self.tell(late, lambda connection: connection.overdue(now))

    def tell(self, connections: Iterable["Connection"], what: Callable[["Connection"], None]) -> None:
        """What one of them raises does not keep the others from being told."""
        for connection in connections:
            try:
                what(connection)
            except Exception as error:
                self.bug(error)

    def bug(self, error: BaseException) -> None:
        _log.error("internal error while answering a request", exc_info=error)


def sweep_interval_s(limits: Limits) -> float:
    """Often enough that a time-out is at most a quarter late."""
    least = min(limits.header_timeout_s, limits.body_timeout_s, limits.keepalive_s, limits.write_timeout_s)
    return min(1.0, max(0.02, least / 4))
