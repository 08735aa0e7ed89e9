"""Counts of the requests that were let in or wait, and of their body bytes, for Python and native code alike.

    (new) --take--> running --end--> (gone)          pending bytes: counted from `take` or `wait` to `drop_body`
      |               ^
      +--wait--> waiting --start--+     waiting --leave--> (gone)

Called from one event loop's thread.
"""

from collections.abc import Callable

class Slots:
    most: int  #: requests that may run at once
    most_bytes: int  #: of their bodies, and of those of requests that wait
    running: int
    waiting: int  #: in the queue
    lined: int  #: of those that run: they wait for room in a member (`gate.lines`)
    pending_bytes: int
    freed: int  #: requests that have ended, since the start
    busy_s: float  #: the sum of the seconds for which they ran
    closed: bool
    def __init__(self, most: int, most_bytes: int, wake: Callable[[], None]) -> None:
        """`wake` is called as a slot becomes free while a request waits, for a slot or for room in a member."""

    def admits(self, body_bytes: int) -> bool:
        """Whether a new request may run now: a slot is free, nobody waits for one, and its body has room."""

    def fits(self, body_bytes: int) -> bool:
        """Whether the body has room."""

    def take(self, body_bytes: int) -> int:
        """One more runs; asked after `admits`."""

    def wait(self, body_bytes: int) -> None:
        """One more waits."""

    def start(self) -> None:
        """One that waited runs."""

    def leave(self) -> None:
        """One that waited is gone."""

    def drop_body(self, body_bytes: int) -> int:
        """A body is no longer kept."""

    def end(self, seconds: float) -> int:
        """One that ran, for `seconds`, is over: its slot is free."""

    def close(self) -> None:
        """Admit nothing from now on."""
