"""One leg of a request while it lives: the decision that chose a member, and how the leg went."""

from time import perf_counter

from router.errors import RouterError
from router.types import Decision


class Attempt:
    """Times by `time.perf_counter`. Ended without an error: it went as the request did."""

    __slots__ = ("begun_s", "decision", "ended_s", "error", "lost", "retried")

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.begun_s = perf_counter()
        self.ended_s = 0.0
        self.error: RouterError | None = None
        self.lost = False
        self.retried = False

    def failed(self, error: RouterError, *, lost: bool = False) -> None:
        self.error, self.lost, self.ended_s = error, lost, perf_counter()
