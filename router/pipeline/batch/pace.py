"""A thread that computes holds the interpreter's lock, for which requests would wait: it works in short bursts."""

import time
from collections.abc import Callable

_BURST_S = 0.001
#: Of its time it rests so many times what it works.
_REST = 3.0


class Stopped(Exception):
    """The work is no longer wanted."""


class Pace:
    """Paces one piece of work; called in the thread that does it."""

    def __init__(self, wanted: Callable[[], bool] = lambda: True) -> None:
        self._wanted = wanted
        self._begun_s = time.perf_counter()

    def step(self) -> None:
        """Call it every some microseconds. Raises `Stopped`."""
        worked_s = time.perf_counter() - self._begun_s
        if worked_s < _BURST_S:
            return
        if not self._wanted():
            raise Stopped
        time.sleep(_REST * min(worked_s, 10 * _BURST_S))
        self._begun_s = time.perf_counter()
