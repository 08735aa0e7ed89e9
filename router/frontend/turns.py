"""How long Python may work on requests in one turn of the event loop, and which connections go on in the next one.

Of many requests that come at once a few are answered in each turn; other streams get their tokens in between. In the
next turn connections that wait for their first answer come before those that have had some.
"""

import asyncio
from collections import deque
from typing import Protocol

#: Of parsing and answering, for all connections of a listener together: what every token of every stream may be late
#: by.
TURN_S = 0.002
#: Of it, for one connection.
SHARE_S = 0.0005
#: Of it, for one that waits for its first request, and may have more: as many as can be wait no longer than for this.
FIRST_SHARE_S = 0.00005


class Waiter(Protocol):
    """A connection that has something to parse or to answer."""

    def go_on(self) -> None:
        """Parse and answer for as long as `Turns.share` allows."""
        ...


class Turns:
    """Of one listener. Called from the event loop's thread."""

    __slots__ = ("_due", "_first", "_more", "_share_s", "spent_s")

    def __init__(self) -> None:
        self.spent_s = 0.0  #: since the last turn in which somebody had to wait
        self._share_s = SHARE_S  #: of whoever asks now
        self._first: deque[Waiter] = deque()
        self._more: deque[Waiter] = deque()
        self._due = False  #: the loop will call `turn`

    def __len__(self) -> int:
        """How many wait for a turn."""
        return len(self._first) + len(self._more)

    def share(self) -> float:
        """How many seconds the caller may work now."""
        return self._share_s if self.spent_s < TURN_S else 0.0

    def later(self, waiter: Waiter, *, first: bool) -> None:
        """Call `waiter` in a later turn. `first`: it has not been served since it last had nothing to do."""
        (self._first if first else self._more).append(waiter)
        self._wake()

    def turn(self) -> None:
        """Called by the loop, once in each turn while a connection waits."""
        self._due = False
        self.spent_s = 0.0
        first, more = self._first, self._more
        try:
            if first and more:
                more.popleft().go_on()  # slowly, but they go on
            while self.spent_s < TURN_S and (first or more):
                self._share_s = FIRST_SHARE_S if first else SHARE_S
                (first or more).popleft().go_on()
        finally:  # what one of them raises does not keep the others waiting for ever
            self._share_s = SHARE_S
            if first or more:
                self._wake()

    def _wake(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self.turn)
