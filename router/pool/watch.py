"""When a silent engine host is pinged, and when it counts as hung. Callers pass the time.

    heard --nothing for about ping_s--> asked --anything is heard--> heard
                                          |
                                          +-- so many looks in a row hear nothing --> hung

Looks are counted, not seconds: after our own process was stopped or busy, one look is late while answers lie unread in
the socket. A late look counts once, however late it is. Knows no process, no frames and no clock.
"""

import math
from typing import Literal

Verdict = Literal["wait", "ask", "hung"]

#: Looks that a ping gets at least. Between two of them all that has come by then is read, so two would be enough.
_LEAST_LOOKS = 3


class Watch:
    """Over one host. Times are seconds of any monotonic clock.

    With timers in time, a host that hangs is found at most `ping_timeout_s` after its last word. It is asked `ping_s`
    after it, sooner where its answer would otherwise have too few looks.
    """

    __slots__ = ("_asked_s", "_most_unanswered", "_rest_s", "_unanswered", "interval_s")

    def __init__(self, ping_s: float, ping_timeout_s: float) -> None:
        looks = max(2 * _LEAST_LOOKS, math.ceil(ping_timeout_s / ping_s))
        self.interval_s = ping_timeout_s / looks  #: from one look to the next; at most `ping_s`
        quiet = min(max(1, math.floor(ping_s / self.interval_s)), looks - _LEAST_LOOKS)
        # A host is asked at the last look before it would have been silent for more than `quiet` intervals.
        self._rest_s = (quiet - 1) * self.interval_s
        self._most_unanswered = looks - quiet
        self._asked_s = -math.inf  # of the last ping
        self._unanswered = 0  # looks that found it so

    def look(self, now_s: float, heard_s: float) -> Verdict:
        """What to do now, the host having last been heard at `heard_s`: nothing, ask, or end it."""
        if heard_s < self._asked_s:
            self._unanswered += 1
            return "hung" if self._unanswered >= self._most_unanswered else "wait"
        if now_s - heard_s < self._rest_s:
            return "wait"
        self._asked_s = now_s
        self._unanswered = 0
        return "ask"
