"""The ledger: every accepted request that ended becomes one record, and whoever subscribed is told, once a tick.

    a request ends -> its source calls wake() -> next turn of the loop: what each source has, to each subscriber in turn

Called from the event loop's thread only.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from router.observe.tick import Tick

log = logging.getLogger("headgate.ledger")

Subscriber = Callable[[Tick], None]


class Source(Protocol):
    """Gathers the requests that have ended since the last tick (`pipeline.record.Ended`)."""

    def take(self, *, wanted: bool) -> Tick:
        """Count them in the metrics, which nothing else does; where they are `wanted`, return all their records."""
        ...


class Ledger:
    """Tells each record to every subscriber once, in the order in which the requests ended."""

    def __init__(self) -> None:
        self._held: list[Callable[[], None]] = []
        self._due = False
        self._sources: list[Source] = []
        self._subscribers: list[Subscriber] = []
        #: Takes what waits for the records told just before, to be called once they are safe. None: called at once.
        self.keeper: Callable[[list[Callable[[], None]]], None] | None = None

    @property
    def wanted(self) -> bool:
        """Somebody reads the records: all their numbers are worth keeping."""
        return bool(self._subscribers)

    @property
    def due(self) -> bool:
        """There is something to tell."""
        return self._due

    @property
    def holds(self) -> bool:
        """The last byte of an answer waits for its record."""
        return self.keeper is not None

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` with the records of each tick, from now on. What it raises is logged and keeps nobody else
        from being told. Returns what ends this."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    def gather(self, source: Source) -> None:
        """Ask `source` at each tick; it calls `wake` when it has something."""
        self._sources.append(source)

    def hold(self, act: Callable[[], None]) -> None:
        """Call `act` once the records so far are safe."""
        self._held.append(act)
        self.wake()

    def wake(self) -> None:
        """There is something to tell: with the next turn of the loop, where one runs."""
        if self._due:
            return
        self._due = True
        try:
            asyncio.get_running_loop().call_soon(self.tell)
        except RuntimeError:
            self.tell()

    def tell(self) -> None:
        """All that ended so far, now."""
        self._due = False
        told = Tick([])
        for source in self._sources:
            try:
                told = told.joined(source.take(wanted=self.wanted))
            except Exception:
                log.exception("the ends that were gathered could not be read: they are in no record")
        self._tell(told)
        held, self._held = self._held, []
        if not held:
            return
        if self.keeper is None:
            release(held)
        else:
            self.keeper(held)

    def _tell(self, told: Tick) -> None:
        if not told:
            return
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(told)
            except Exception:
                log.exception("a subscriber of the ledger failed on %d records; the others are told", len(told))


def release(held: Sequence[Callable[[], None]]) -> None:
    """Call each, whatever another raises."""
    for act in held:
        try:
            act()
        except Exception:
            log.exception("the end of an answer could not be sent")
