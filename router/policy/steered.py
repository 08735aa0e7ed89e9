"""Lambda, steered so that a budget or a least quality holds: dual ascent on its logarithm, pure, callers pass the time.

    log(lambda) += rate * excess * dt        excess: by how much the constraint is broken; negative: there is room

Lambda is the multiplier of the constraint (quality less lambda * dollars is the Lagrangian of the most quality within a
budget, or the fewest dollars at a quality), so this ascends the dual (Boyd and Vandenberghe, "Convex optimization",
2004, chapter 5). It stands still where moving it could change no decision: so it does not wind up.
"""

import math
from typing import Final

#: Of the filter of what is measured, and of the integral, over it: the loop is damped whatever the slope of the pool.
LEAST_FILTER_S: Final = 8.0
MOST_FILTER_S: Final = 600.0
PER_FILTER: Final = 1.0
#: Requests that a filter holds at least: fewer say little.
FEW_REQUESTS: Final = 100.0
#: It rises no faster than it falls.
MOST_EXCESS: Final = 1.0
MOST_STEP_S: Final = 2.0


class Steered:
    """One lambda, between `least` and `most`, above 0."""

    def __init__(self, start: float, least: float, most: float) -> None:
        self._least, self._most = math.log(least), math.log(most)
        self._log = min(max(math.log(start), self._least), self._most)
        self._rate = 0.0
        self.filter_s = LEAST_FILTER_S

    @property
    def value(self) -> float:
        return math.exp(self._log)

    @property
    def at_most(self) -> bool:
        return self._log >= self._most

    @property
    def at_least(self) -> bool:
        return self._log <= self._least

    def pace(self, dt_s: float, requests: float) -> None:
        """So many requests were decided in `dt_s`: how long to filter what they did."""
        if 0 < dt_s < math.inf and 0 <= requests < math.inf:
            self._rate += _lately(dt_s, LEAST_FILTER_S) * (requests / dt_s - self._rate)
        wanted = FEW_REQUESTS / self._rate if self._rate > 0 else MOST_FILTER_S
        self.filter_s = min(max(wanted, LEAST_FILTER_S), MOST_FILTER_S)

    def step(self, dt_s: float, excess: float, *, rises: bool = True, falls: bool = True) -> None:
        """`dt_s`: since the step before. `excess`: as filtered over `filter_s`. `rises`, `falls`: whether that would
        change a decision. What is no number is passed over."""
        if not 0 < dt_s < math.inf or math.isnan(excess):
            return
        excess = min(max(excess, -1.0), MOST_EXCESS)
        if (excess > 0 and not rises) or (excess < 0 and not falls):
            return
        dt_s = min(dt_s, max(MOST_STEP_S, self.filter_s / 10))
        moved = self._log + PER_FILTER / self.filter_s * dt_s * excess
        self._log = min(max(moved, self._least), self._most)


class Lately:
    """Means of several amounts a second over the time constant of a filter. What is no number is passed over."""

    def __init__(self, *names: str) -> None:
        self._per_s = dict.fromkeys(names, 0.0)
        self._seen_s = 0.0

    def add(self, dt_s: float, filter_s: float, **amounts: float) -> None:
        """What came in the last `dt_s`. The first means are those of the time since the start."""
        if not 0 < dt_s < math.inf or not all(math.isfinite(amount) for amount in amounts.values()):
            return
        self._seen_s += min(dt_s, MOST_STEP_S)
        new = _lately(dt_s, min(filter_s, self._seen_s))
        for name, amount in amounts.items():
            self._per_s[name] += new * (amount / dt_s - self._per_s[name])

    def per_s(self, name: str) -> float:
        return self._per_s[name]

    def ratio(self, over: str, under: str, otherwise: float = math.nan) -> float:
        return self._per_s[over] / self._per_s[under] if self._per_s[under] > 0 else otherwise


def _lately(dt_s: float, filter_s: float) -> float:
    return 1 - math.exp(-min(dt_s, MOST_STEP_S) / filter_s)
