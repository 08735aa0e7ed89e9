"""Progress of a fit, as a number of steps that is known before the number of its rows is."""

from collections.abc import Callable

TICKS = 100


class Ticks:
    """Calls `on_step` TICKS times as `total` units of work are done."""

    def __init__(self, total: int, on_step: Callable[[], None]) -> None:
        self._total, self._on_step = max(total, 1), on_step
        self._done = self._told = 0

    def add(self, done: int) -> None:
        self._done += done
        self._tell(min(self._done * TICKS // self._total, TICKS))

    def finish(self) -> None:
        self._tell(TICKS)

    def _tell(self, upto: int) -> None:
        for _ in range(self._told, upto):
            self._on_step()
        self._told = max(self._told, upto)
