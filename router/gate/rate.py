"""How many slots become free in a second, while slots are short. The clock is handed in.

    rate = (n + most) / (elapsed + d)

n slots were freed in the `elapsed` seconds (10 at most) since they are short; the `most` requests that run will free
theirs within a request's mean time d. In a steady state n = rate * elapsed and most = rate * d, so both parts agree; at
the start of a burst, when nothing can have ended yet, the second one stands alone.
"""

from collections import deque
from typing import Protocol

WINDOW_S = 10.0
#: Slots that nobody has been short of for so long have not all been in use: what was freed meanwhile says little.
_GAP_S = 2.0
#: Between samples: more of them would tell nothing more.
_STEP_S = 0.1
#: A request's mean time before one has ended, where nothing is known of it.
_ASSUMED_S = 1.0


class Freed(Protocol):
    """Slots, as far as their rate goes (`native.slots.Slots`)."""

    @property
    def freed(self) -> int:
        """So many became free, since the start."""
        ...

    @property
    def busy_s(self) -> float:
        """The seconds for which these were in use, summed."""
        ...

    @property
    def most(self) -> int:
        """That there are."""
        ...


class FreedRate:
    """Of one gate's slots, or of one member's; `seen` is called whenever a request finds none, or gets one that it had
    waited for."""

    __slots__ = ("_assumed_s", "_changed_s", "_mean_s", "_samples", "_slots")

    def __init__(self, slots: Freed, assumed_s: float = _ASSUMED_S) -> None:
        """`assumed_s`: a request's mean time before one has ended."""
        self._slots = slots
        self._assumed_s = assumed_s
        self._samples: deque[tuple[float, int, float]] = deque()  #: time, freed, busy seconds; the oldest first
        self._mean_s = 0.0  #: 0: no request has ended yet
        self._changed_s = 0.0  #: when a slot was last seen to have been freed

    def seen(self, now_s: float) -> None:
        slots, samples = self._slots, self._samples
        last_s, freed, busy_s = samples[-1] if samples else (now_s, 0, 0.0)
        if slots.freed > freed:
            self._changed_s = now_s
        if now_s - last_s > _GAP_S:
            self._learn(freed, busy_s)
            samples.clear()
        if not samples:
            self._learn(freed, busy_s)
            self._changed_s = now_s
        if not samples or now_s - last_s >= _STEP_S:
            samples.append((now_s, slots.freed, slots.busy_s))
        while len(samples) > 1 and samples[1][0] <= now_s - WINDOW_S:
            samples.popleft()

    def per_second(self, now_s: float) -> float:
        """Above 0. `seen` was called."""
        since_s, freed, busy_s = self._samples[0]
        self._learn(freed, busy_s)
        mean_s = max(self._mean_s or self._assumed_s, now_s - self._changed_s)
        return (self._slots.freed - freed + self._slots.most) / (now_s - since_s + mean_s)

    def _learn(self, freed: int, busy_s: float) -> None:
        """From the requests that have ended since these counts."""
        count = self._slots.freed - freed
        if count:
            self._mean_s = (self._slots.busy_s - busy_s) / count
