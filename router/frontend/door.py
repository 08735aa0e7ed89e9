"""What all connections of one port share: its routes, keys, limits, metrics and clock."""

import asyncio
import logging
from email.utils import formatdate
from typing import TYPE_CHECKING

from router.config import Limits
from router.frontend.keys import Keys
from router.frontend.routes import Routes
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
        "keys",
        "limits",
        "metrics",
        "now",
        "routes",
        "running",
        "tick_s",
    )

    def __init__(self, routes: Routes, keys: Keys, limits: Limits, metrics: Metrics) -> None:
        self.routes = routes
        self.keys = keys
        self.limits = limits
        self.metrics = metrics
        self.connections: set[Connection] = set()
        self.draining = False
        self.emptied = asyncio.Event()  #: set when the last connection of a draining door has closed
        self.body_bytes = 0  #: of requests that are being read, or wait for an answer before theirs
        self.running = 0  #: answers that an engine owes
        self.express: Express | None = None  #: the common request's way
        self.tick_s = sweep_interval_s(limits)
        self.now = 0.0  #: the clock at the last sweep; all deadlines are counted from it
        self.date = ""

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
        for connection in [each for each in self.connections if now >= each.deadline or each.stalled]:
            connection.overdue(now)

    def bug(self, error: BaseException) -> None:
        _log.error("internal error while answering a request", exc_info=error)


def sweep_interval_s(limits: Limits) -> float:
    """Often enough that a time-out is at most a quarter late."""
    least = min(limits.header_timeout_s, limits.body_timeout_s, limits.keepalive_s, limits.write_timeout_s)
    return min(1.0, max(0.02, least / 4))
