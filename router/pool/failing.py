"""The calls of a lost engine, failed some in each turn of the event loop: other streams get their tokens in between.

Failing one call costs 0.01 to 0.1 ms (its error is written, or it is decided and submitted again), and an engine may
hold thousands.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Generic, TypeVar

#: How long one turn of the loop is kept, at most by one call longer.
TURN_S = 0.002
#: Calls that are failed without waiting for a turn.
AT_ONCE = 16

_Item = TypeVar("_Item")


class Failing(Generic[_Item]):
    """Of one member. Called from the event loop's thread. By the time of its turn a call may have ended otherwise."""

    __slots__ = ("_due", "_fail", "_left")

    def __init__(self, fail: Callable[[_Item], None]) -> None:
        """`fail` never raises."""
        self._fail = fail
        self._left: deque[_Item] = deque()
        self._due = False  #: the loop will call `_turn`

    def __len__(self) -> int:
        """How many are still to be failed."""
        return len(self._left)

    def add(self, items: Iterable[_Item]) -> None:
        """Fail the first of `items` now, the others in later turns, in order."""
        self._left.extend(items)
        if not self._due:
            self._some(AT_ONCE)
            self._wake()

    def finish(self) -> None:
        """All at once: the loop may not turn again."""
        self._some(len(self._left))

    def _turn(self) -> None:
        self._due = False
        until = perf_counter() + TURN_S
        while self._left and perf_counter() < until:
            self._some(1)
        self._wake()

    def _some(self, count: int) -> None:
        for _ in range(min(count, len(self._left))):
            self._fail(self._left.popleft())

    def _wake(self) -> None:
        if self._left and not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._turn)
