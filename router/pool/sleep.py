"""When a member falls asleep and when it wakes: a state machine without clock, engine or task. Callers pass the time.

    awake --idle for long enough--> falling --done--> asleep --asked--> waking --done--> awake
                                       |failed           |woken by hand: awake    |failed
                                       v                                          v
                                     awake                             away --after a pause--> waking

Long enough: `after_s` without a request, and `_REST` times the wake time since it last woke, so that one which takes
long to wake is not put to sleep for a moment. Away: it takes no requests; the pause doubles with each failure. A member
whose engine is lost, or is started anew, is awake once it is ready.
"""

from typing import Final, Literal

SleepState = Literal["awake", "falling", "asleep", "waking", "away"]
#: It stays awake at least so many times as long as waking takes.
_REST: Final = 4.0
_NEW: Final = 0.3  #: weight of the newest wake time
_MOST_TRIES: Final = 16  #: doublings of the pause


class Sleeper:
    """Of one member. Times are seconds of any monotonic clock."""

    def __init__(self, after_s: float, backoff_s: float, backoff_max_s: float, now_s: float) -> None:
        self.state: SleepState = "awake"
        self.wake_s = 0.0  #: learnt; 0: it has not woken yet
        self.sleeps = 0  #: so often it fell asleep
        self.failures = 0  #: to wake, in a row
        self._after_s = after_s
        self._backoff_s, self._backoff_max_s = backoff_s, backoff_max_s
        self._asked_s = self._awake_s = now_s
        self._again_s = 0.0
        self._begun_s = 0.0

    def busy(self, now_s: float) -> None:
        """It has a request."""
        self._asked_s = now_s

    def falls(self, now_s: float) -> bool:
        """Whether it is to fall asleep now, which then begins."""
        rested = now_s - self._awake_s >= _REST * self.wake_s
        if self.state != "awake" or not rested or now_s - self._asked_s < self._after_s:
            return False
        self.state = "falling"
        return True

    def fell(self) -> None:
        if self.state == "falling":
            self.state = "asleep"
            self.sleeps += 1

    def is_asleep(self) -> None:
        """Not by us."""
        self.state = "asleep"

    def stayed(self, now_s: float) -> None:
        """It could not be put to sleep: not again before the whole time is over."""
        self.state = "awake"
        self._asked_s = now_s

    def wakes(self, now_s: float) -> bool:
        """It is asked for. Whether it is to be woken now, which then begins."""
        if self.state != "asleep" and not (self.state == "away" and now_s >= self._again_s):
            return False
        self.state, self._begun_s = "waking", now_s
        return True

    def woke(self, now_s: float) -> None:
        took_s = now_s - self._begun_s
        self.wake_s = took_s if self.wake_s == 0 else self.wake_s + _NEW * (took_s - self.wake_s)
        self.failures = 0
        self.is_awake(now_s)

    def failed(self, now_s: float) -> None:
        """It could not be woken."""
        pause_s = min(self._backoff_s * 2.0 ** min(self.failures, _MOST_TRIES), self._backoff_max_s)
        self.failures += 1
        self.state, self._again_s = "away", now_s + pause_s

    def is_awake(self, now_s: float) -> None:
        """For whatever reason: woken by hand, started anew."""
        self.state = "awake"
        self._asked_s = self._awake_s = now_s

    @property
    def takes(self) -> bool:
        """Requests may come: it is awake, or will wake for them."""
        return self.state != "away"

    def expected_s(self, now_s: float) -> float:
        """Until a request that comes now would begin there."""
        if self.state in ("awake", "away"):
            return 0.0
        gone_s = now_s - self._begun_s if self.state == "waking" else 0.0
        return max(0.0, self.wake_s - gone_s)
