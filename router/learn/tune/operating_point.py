"""Finds the price (lambda) or threshold that gives an asked share, budget or quality. Works on numbers only: knows no
config and no head; the native policy gives the best member at a price.

The choice changes only at prices that the prompts themselves give, so the list of what can be reached is exact.
"""

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from router.native import policy

SHARES = (0.1, 0.3, 0.5, 0.7)
FEW = 100  #: prompts: of fewer, a share is known to ten points or worse
SLACK = 0.005  #: a share so near to what can be reached is taken for reachable

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Interval = tuple[float, float]  #: of one prompt there is none


class Terms(msgspec.Struct, frozen=True):
    """What a policy weighs: `quality` and `cost_usd` [prompts, members]; `open` [prompts, members]: no hard rule rules
    the member out; `win_rate` [prompts]: of the strongest over the weakest, NaN where the pair is not asked."""

    quality: Doubles
    cost_usd: Doubles
    open: npt.NDArray[np.bool_]
    win_rate: Doubles


class Point(msgspec.Struct, frozen=True):
    """Where a dial stands, and what comes of it over the prompts."""

    dial: float  #: lambda, or RouteLLM's threshold
    shares: tuple[float, ...]  #: of the prompts, per member
    usd_per_1k: float  #: dollars per 1,000 requests
    quality: float  #: mean predicted quality of the chosen members


class Dial(msgspec.Struct, frozen=True):
    """One number that the config holds. Turned up, it saves money. It has `len(steps) + 1` stretches on which every
    prompt's choice stands; on each the strongest member takes the prompts with `low <= lower end < high`."""

    terms: Terms
    steps: Doubles  #: ascending
    most: float  #: upper end of the last stretch
    peak: int  #: the stretch of highest predicted quality: from there on quality falls
    low: Doubles  #: [prompts]
    high: Doubles  #: [prompts]
    choose: Callable[[float], Indices]  #: member per prompt

    @property
    def stretches(self) -> int:
        return len(self.steps) + 1

    def shares(self) -> Doubles:
        """Of the strongest member, per stretch."""
        ends = np.concatenate([[0.0], self.steps])
        begun = np.searchsorted(np.sort(self.low), ends, side="right")
        over = np.searchsorted(np.sort(self.high), ends, side="right")
        return np.asarray((begun - over) / len(self.low))

    def value(self, stretch: int) -> float:
        """A number on a stretch, of few digits."""
        if stretch == 0:
            return 0.0
        return between(self.steps[stretch - 1], self.most if stretch == len(self.steps) else self.steps[stretch])

    def point(self, stretch: int) -> Point:
        return self.at(self.value(stretch))

    def at(self, value: float) -> Point:
        """What comes of the dial at a value."""
        return point(self.terms, value, self.choose(value))

    def curve(self, points: int = 200) -> list[Point]:
        """Points spread evenly over the stretches, first and last among them."""
        chosen = np.unique(np.linspace(0, len(self.steps), points).astype(int))
        return [self.point(int(stretch)) for stretch in chosen]


def point(terms: Terms, dial: float, chosen: Indices) -> Point:
    """What comes of a choice [prompts]."""
    prompts, members = terms.quality.shape
    rows = np.arange(prompts)
    shares = np.bincount(chosen, minlength=members) / prompts
    usd, quality = terms.cost_usd[rows, chosen].mean() * 1000, terms.quality[rows, chosen].mean()
    return Point(dial, tuple(shares.tolist()), float(usd), float(quality))


def price_dial(terms: Terms, strong: int) -> Dial:
    """Lambda of argmax quality - lambda * cost."""
    low, high = _won(terms, strong)
    return Dial(terms, _prices(terms), math.inf, 0, low, high, lambda price: _by_price(terms, price))


def threshold_dial(terms: Terms, strong: int, weak: int, price: float) -> Dial:
    """RouteLLM's rule: the strongest iff its win rate reaches the threshold, else the weakest; by price where not both
    of them can be had. Below a threshold of 1/2 it pays for prompts where the weakest is predicted to be better."""
    fixed = _by_price(terms, price)
    asked = np.isfinite(terms.win_rate)

    def choose(threshold: float) -> Indices:
        return np.where(asked, np.where(terms.win_rate >= threshold, strong, weak), fixed)

    steps = np.unique(terms.win_rate[asked])
    low = np.where(asked | (fixed == strong), 0.0, math.inf)
    high = np.where(asked, terms.win_rate, math.inf)
    return Dial(terms, steps, 1.0, int(np.searchsorted(steps, 0.5)), low, high, choose)


def for_share(dial: Dial, share: float) -> int | None:
    """The stretch whose share is nearest to the one asked for, of equals the cheapest; None beyond the dial's reach."""
    shares = dial.shares()
    if not shares.min() - SLACK <= share <= shares.max() + SLACK:
        return None
    error = np.abs(shares - share)
    return int(np.flatnonzero(error == error.min())[-1])


def for_budget(dial: Dial, usd_per_1k: float) -> int | None:
    """The first stretch, from the highest quality on, that costs no more; None where all cost more."""
    found = _first(lambda stretch: dial.point(stretch).usd_per_1k <= usd_per_1k, dial.peak, dial.stretches)
    return found if found < dial.stretches else None


def for_quality(dial: Dial, quality: float) -> int | None:
    """The last, so the cheapest, stretch of at least this mean quality; None where there is none."""
    if dial.point(dial.peak).quality < quality:
        return None
    return _first(lambda stretch: dial.point(stretch).quality < quality, dial.peak, dial.stretches) - 1


def between(low: float, high: float) -> float:
    """A number of as few digits as there are strictly between two others; `high` may be infinite."""
    middle = 2 * low if math.isinf(high) else (low + high) / 2
    for digits in range(1, 17):
        short = float(f"{middle:.{digits}g}")
        if low < short < high:
            return short
    return middle


def wilson(share: float, prompts: int) -> Interval | None:
    """Central 95 % interval of a share seen on so many prompts (Wilson, 1927)."""
    if prompts < 2:
        return None
    z = 1.96
    centre = (share + z * z / (2 * prompts)) / (1 + z * z / prompts)
    half = z / (1 + z * z / prompts) * math.sqrt(share * (1 - share) / prompts + z * z / (4 * prompts * prompts))
    return max(0.0, centre - half), min(1.0, centre + half)


def share_interval(values: npt.NDArray[np.floating]) -> Interval | None:
    """Central 95 % of the mean of so many values in [0, 1]: by the normal distribution once two zeros and two ones are
    added (Agresti and Coull, 1998), which say little beside many values and keep few from seeming sure."""
    if len(values) < 2:
        return None
    low, high = _normal(np.concatenate([np.asarray(values, np.float64), [0.0, 0.0, 1.0, 1.0]]))
    return max(0.0, low), min(1.0, high)


def mean_interval(values: npt.NDArray[np.floating]) -> Interval | None:
    """Central 95 % of the mean of so many values of 0 or more, by the normal distribution."""
    if len(values) < 2:
        return None
    low, high = _normal(np.asarray(values, np.float64))
    return max(0.0, low), high


def share_errors(
    preference: npt.NDArray[np.floating], folds: npt.NDArray[np.integer], shares: Sequence[float] = SHARES
) -> tuple[float, ...]:
    """How far `shares_sent` are from those asked for, in points (hundredths), absolute, one per entry of `shares`."""
    sent = shares_sent(preference, folds, shares)
    return tuple(100 * abs(found - share) for found, share in zip(sent, shares, strict=False))


def shares_sent(
    preference: npt.NDArray[np.floating], folds: npt.NDArray[np.integer], shares: Sequence[float] = SHARES
) -> tuple[float, ...]:
    """The shares of prompts that really reach a threshold that was set for `shares` on other prompts.

    `preference` [prompts]: held-out, the higher the rather the strong model: the win rate, the predicted gain, or the
    gain per dollar (a prompt's own lambda). `folds` [prompts]. NaN preferences and fold -1 are left out. For each fold
    the threshold is chosen on all other folds and realised on this one; the share is that of all prompts, pooled.
    None where one fold has them all.
    """
    usable = np.isfinite(preference) & (folds >= 0)
    values, at = np.asarray(preference, np.float64)[usable], folds[usable]
    out = []
    for share in shares if len(set(at)) > 1 else ():
        sent = sum(int((values[at == fold] >= share_threshold(values[at != fold], share)).sum()) for fold in set(at))
        out.append(sent / len(values))
    return tuple(out)


def share_threshold(values: Doubles, share: float) -> float:
    """Such that the share of values that reach it is nearest to the one asked for."""
    steps, counts = np.unique(values, return_counts=True)
    reached = np.append(np.cumsum(counts[::-1])[::-1], 0) / len(values)
    best = int(np.abs(reached - share).argmin())
    edges = np.concatenate([[-np.inf], (steps[:-1] + steps[1:]) / 2, [np.inf]])
    return float(edges[best])


def _normal(values: Doubles) -> Interval:
    half = 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()) - half, float(values.mean()) + half


def _by_price(terms: Terms, price: float) -> Indices:
    chosen = np.empty(len(terms.quality), np.int32)
    open_only = np.where(terms.open, terms.quality, -np.inf)
    policy.best(np.ascontiguousarray(open_only), np.ascontiguousarray(terms.cost_usd), price, chosen)
    return chosen.astype(np.int64)


def _prices(terms: Terms) -> Doubles:
    """All lambda above 0 where two members of some prompt are worth the same."""
    found = [np.zeros(0)]
    for i in range(terms.quality.shape[1]):
        for j in range(i):
            gain, dearer = _compared(terms, i, j)
            usable = terms.open[:, i] & terms.open[:, j] & (gain * dearer > 0)
            found.append(gain[usable] / dearer[usable])
    return np.unique(np.concatenate(found))


def _won(terms: Terms, member: int) -> tuple[Doubles, Doubles]:
    """From which lambda on and up to which the member is best, per prompt; both infinite where it never is. It is one
    stretch, as utilities are straight lines over lambda."""
    prompts, members = terms.quality.shape
    low, high = np.zeros(prompts), np.full(prompts, np.inf)
    never = ~terms.open[:, member]
    for other in range(members):
        if other == member:
            continue
        gain, dearer = _compared(terms, member, other)
        rival = terms.open[:, other]
        crossing = np.divide(gain, dearer, out=np.zeros(prompts), where=dearer != 0)
        low = np.where(rival & (dearer < 0) & (gain < 0), np.maximum(low, crossing), low)
        high = np.where(rival & (dearer > 0) & (gain > 0), np.minimum(high, crossing), high)
        alike = (dearer == 0) & ((gain < 0) | ((gain == 0) & (other < member)))
        never |= rival & (((dearer > 0) & (gain <= 0)) | alike)
    never |= low >= high
    return np.where(never, np.inf, low), np.where(never, np.inf, high)


def _compared(terms: Terms, one: int, other: int) -> tuple[Doubles, Doubles]:
    """How much better, and how much dearer, the one member is."""
    return terms.quality[:, one] - terms.quality[:, other], terms.cost_usd[:, one] - terms.cost_usd[:, other]


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The first number in [low, high) from which on a condition holds; `high` where it never does."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
