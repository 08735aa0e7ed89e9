"""Many connections are told the same, some in each turn of the event loop.

Closing one takes a tenth of a millisecond, and thousands may run out of time, or be left, at one moment.
"""

from collections import deque
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Generic, TypeVar

from router.frontend.turns import Turns

T = TypeVar("T")

#: Told without waiting for a turn.
AT_ONCE = 32


class Round(Generic[T]):
    """Over the connections of one listener. By its turn, what a connection is told may no longer be true: it checks."""

    __slots__ = ("_broke", "_left", "_turns", "_what")

    def __init__(
        self,
        turns: Turns,
        connections: Iterable[T],
        what: Callable[[T], None],
        broke: Callable[[T, Exception], None],
    ) -> None:
        """`broke` is told of what `what` raises, which does not keep the others from being told."""
        self._turns = turns
        self._left = deque(connections)
        self._what = what
        self._broke = broke

    @property
    def over(self) -> bool:
        return not self._left

    def begin(self) -> None:
        for _ in range(min(AT_ONCE, len(self._left))):
            self._tell_next()
        if self._left:
            self._turns.later(self, first=False)

    def go_on(self) -> None:
        """Its turn has come."""
        begun = perf_counter()
        until = begun + self._turns.share()
        while self._left and perf_counter() < until:
            self._tell_next()
        self._turns.spent_s += perf_counter() - begun
        if self._left:
            self._turns.later(self, first=False)

    def finish(self) -> None:
        """All at once: the loop will not turn again."""
        while self._left:
            self._tell_next()

    def _tell_next(self) -> None:
        connection = self._left.popleft()
        try:
            self._what(connection)
        except Exception as error:
            self._broke(connection, error)
