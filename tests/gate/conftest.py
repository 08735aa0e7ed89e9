"""A gate on a clock that the test moves: an event loop without waiting."""

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from router.config import Limits
from router.gate.gate import Gate
from router.observe.metrics import Metrics


class Timer:
    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class VirtualLoop:
    """Calls what is due, in order; its time passes only in `run_until`."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self._number = count().__next__
        self._due: list[tuple[float, int, Timer]] = []

    def time(self) -> float:
        return self.now_s

    def call_soon(self, callback: Callable[[], None], /) -> object:
        return self.call_later(0.0, callback)

    def call_later(self, delay_s: float, callback: Callable[[], None], /) -> Any:
        timer = Timer(callback)
        heapq.heappush(self._due, (self.now_s + delay_s, self._number(), timer))
        return timer

    def run_for(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while self._due and self._due[0][0] <= until_s:
            self.now_s, _, timer = heapq.heappop(self._due)
            if timer.call is not None:
                timer.call()
        self.now_s = until_s


class GateKit:
    """A gate, its loop, its metrics."""

    def __init__(self, **limits: Any) -> None:
        self.loop = VirtualLoop()
        self.metrics = Metrics(process=False)
        self.gate = Gate(Limits(**limits), self.metrics, clock=self.loop.time, loop=self._running)

    def _running(self) -> "VirtualLoop":
        return self.loop


@pytest.fixture
def kit() -> type[GateKit]:
    return GateKit
