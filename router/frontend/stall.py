"""How long a client that does not keep up has taken nothing of what is out for it."""

from math import inf


class Stall:
    """Of one connection. `taken`: bytes that the client's side took so far; times are those of the loop."""

    __slots__ = ("_deadline", "_taken")

    def __init__(self) -> None:
        self._taken = -1
        self._deadline = inf

    def begin(self, deadline: float) -> None:
        self._taken = -1
        self._deadline = deadline

    def over(self, taken: int, now: float, timeout_s: float) -> bool:
        """Whether nothing was taken for `timeout_s`. To be asked again and again."""
        if taken != self._taken:
            self._taken = taken
            self._deadline = now + timeout_s
        return now >= self._deadline
