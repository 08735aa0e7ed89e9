"""One leg of a request: the decision that chose a member, how it was handed over, how it ended, what that rules out.

Knows members; nothing of HTTP or scores.
"""

from collections.abc import Sequence
from time import perf_counter

from router.config import engine_name
from router.errors import RouterError
from router.observe.record import Why
from router.pool.base import Failure
from router.types import Decision, MemberState, Usage
from router.watched import Figures


class Leg:
    """Times by `time.perf_counter`. Ended without an error: it went as the request did."""

    __slots__ = ("begun_s", "decision", "dropped", "ended_s", "error", "figures", "lost", "retried", "usage", "why")

    def __init__(self, decision: Decision, why: Why = "") -> None:
        self.decision = decision
        self.why = why
        self.usage: Usage | None = None  #: what its engine computed; None: it did not say
        self.figures: Figures | None = None
        self.dropped = False  #: its answer is not part of what the client was told
        self.begun_s = perf_counter()
        self.ended_s = 0.0
        self.error: RouterError | None = None
        self.lost = False
        self.retried = False

    @property
    def engine(self) -> str:
        """Which of the model's engines had it; empty where it has one only."""
        numbers = self.decision.numbers
        return "" if numbers is None or numbers.replica < 0 else engine_name(self.decision.model, numbers.replica)

    def finished(self, usage: Usage, figures: Figures | None) -> None:
        self.usage, self.figures, self.ended_s = usage, figures, perf_counter()

    def failed(self, error: RouterError, *, lost: bool = False) -> None:
        self.error, self.lost, self.ended_s = error, lost, perf_counter()


def not_again(tried: int, failure: Failure, members: Sequence[MemberState]) -> frozenset[int]:
    """Members that need not be tried: the one that failed and, for a prompt too long, all of no larger context. `tried`
    below 0: the one that failed is none of these."""
    if tried < 0:
        return frozenset()
    excluded = {tried}
    if failure.context and members[tried].context_tokens:
        known = members[tried].context_tokens
        excluded |= {i for i, member in enumerate(members) if 0 < member.context_tokens <= known}
    return frozenset(excluded)
