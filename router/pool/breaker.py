"""A member's circuit breaker: opens after consecutive failures, lets one probe through after a while.

    closed --failures--> open --open_s--> half-open --success--> closed
                           ^                  |
                           +-----failure------+

Only the member's own faults count: a client's error, an abort or a refusal under load says nothing about its health.
Knows no clock; callers pass the time.
"""

from typing import Literal

from router.native.lane import Lane

BreakerState = Literal["closed", "open", "half_open"]


class Breaker:
    """Time is in seconds of any monotonic clock."""

    __slots__ = ("_failures", "_lane", "_limit", "_open_s", "_open_until", "state")

    def __init__(self, failures: int, open_s: float, lane: Lane | None = None) -> None:
        """`lane`: shows the state to native decisions."""
        self._lane = lane
        self._limit = failures
        self._open_s = open_s
        self._failures = 0
        self._open_until = 0.0  # requests go elsewhere before this time; 0 while closed
        self.state: BreakerState = "closed"

    def is_open(self, now: float) -> bool:
        """Whether a request should go elsewhere. False once for the probe of a half-open breaker."""
        return now < self._open_until

    def submitted(self, now: float) -> None:
        """A request went to the member: of an open breaker it is the probe, for which the others wait `open_s`."""
        if self.state != "closed" and not self.is_open(now):
            self.state = "half_open"
            self._open_until = now + self._open_s
            self._show()

    def succeeded(self) -> None:
        if self._failures or self.state != "closed":
            self._failures = 0
            self._open_until = 0.0
            self.state = "closed"
            self._show()

    def failed(self, now: float) -> None:
        if self.state == "open":
            return  # an old request of the outage that opened it
        self._failures += 1
        if self.state == "half_open" or self._failures >= self._limit:
            self.state = "open"
            self._open_until = now + self._open_s
        self._show()

    def reset(self) -> None:
        """The member was started afresh: its past says nothing."""
        self.succeeded()

    def _show(self) -> None:
        lane = self._lane
        if lane is not None:
            lane.trusted = not self._failures and self.state == "closed"
            lane.probed = self.state != "closed"
            lane.open_until_s = self._open_until
