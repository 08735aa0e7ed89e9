"""How much of one turn of the event loop the ordinary way may take, and who goes on in the next one.

Whoever sends many requests at once is served a few of them a turn, and all other streams their tokens in between. In
the next turn those who wait for their first request come before those who have more of them.
"""

import asyncio
from collections import deque
from time import perf_counter
from typing import Protocol

#: Of parsing and answering, for all connections of a door together: what every token of every stream may be late by.
TURN_S = 0.002
#: Of it, for one connection.
SHARE_S = 0.0005


class Waiter(Protocol):
    """A connection that has something to parse or to answer."""

    def go_on(self) -> None:
        """It is its turn."""
        ...


class Turns:
    """Of one door. Called from the event loop's thread."""

    __slots__ = ("_due", "_first", "_more", "_spent_s")

    def __init__(self) -> None:
        self._spent_s = 0.0  #: since the last turn in which somebody had to wait
        self._first: deque[Waiter] = deque()
        self._more: deque[Waiter] = deque()
        self._due = False  #: the loop will call `turn`

    def __len__(self) -> int:
        """How many wait for a turn."""
        return len(self._first) + len(self._more)

    def share(self) -> float:
        """Until when, by `perf_counter`, the caller may work now. In the past: not at all."""
        return perf_counter() + SHARE_S if self._spent_s < TURN_S else 0.0

    def spent(self, seconds: float) -> None:
        self._spent_s += seconds

    def later(self, waiter: Waiter, *, first: bool) -> None:
        """Call `waiter` in a later turn. `first`: it has not been served since it last had nothing to do."""
        (self._first if first else self._more).append(waiter)
        self._wake()

    def turn(self) -> None:
        """The loop has turned."""
        self._due = False
        self._spent_s = 0.0
        first, more = self._first, self._more
        try:
            if first and more:
                more.popleft().go_on()  # slowly, but they go on
            while self._spent_s < TURN_S and (first or more):
                (first or more).popleft().go_on()
        finally:  # what one of them raises does not keep the others waiting for ever
            if first or more:
                self._wake()

    def _wake(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self.turn)
