"""How many devices it takes: the fewest copies of each group with which the SLO and the quality hold, over several
lambdas and over each member alone. The best of these by dollars an hour.

The size of a pool is found by growing the group that is late until all holds, then halving the range of each group, the
dearest first, then exchanging copies of a dear group for fewer dollars of another. That finds small pools; it proves
nothing beyond those that were simulated.
"""

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from router.learn.simulate.figures import Figures, Member, holds
from router.learn.simulate.pool import UNBOUNDED, Pool, subset
from router.learn.simulate.study import Study, for_members
from router.learn.simulate.traffic import Floats, Traffic
from router.native.policy import best
from router.policy import Settings

_GRID = 33  #: lambdas that are looked at without a simulation
_TYPICAL_BATCH = 32
_AROUND = (4.0, 2.8, 2.0, 1.4, 1.0, 0.7)
_GROWTH, _MOST_GROWTH = 1.3, 40
_HARDLY_BUSY = 0.2
_REFINED = 3
_BEGIN = 0.7  #: of the engines that the work would keep busy


class Need(msgspec.Struct, frozen=True, kw_only=True):
    attain: float  #: share of the requests within the SLO; without one, of those that are answered
    keep: float | None = None  #: of the best member's quality; None: any
    most_devices: int = 1_000


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A way to decide, and the smallest pool found for it."""

    name: str
    price: float
    found: Figures | None  #: None: no pool of the size allowed is enough
    why: str = ""  #: then
    pools: int = 0  #: that were simulated
    best: bool = False


Told = Callable[[str], None]


def search(
    study: Study, need: Need, *, prices: Sequence[float] = (), told: Told = lambda name: None
) -> list[Candidate]:
    """Every member alone, then `auto` by each of `prices` (default: those that may keep the quality), in pools that
    cost less than the best so far. `told` is called before each."""
    # How many the gate lets in is told of what is found, and bounds no search: no engine would mend that.
    pool = msgspec.structs.replace(study.pool, in_flight=UNBOUNDED)
    traffic = study.make(None, study.seeds[0])
    auto = study.policies["auto"]
    ways: list[tuple[str, Pool, Settings]] = []
    for name in pool.names:
        alone = subset(pool, [name])
        ways.append((name, alone, msgspec.structs.replace(alone.settings, price=auto.price)))
    if len(pool.models) > 1:
        tried = prices or likely_prices(pool, traffic, need.keep)
        ways += [("auto", pool, msgspec.structs.replace(auto, price=float(price))) for price in tried]
    out: list[Candidate] = []

    def size(name: str, one: Pool, settings: Settings) -> Candidate:
        told(f"{name}, lambda {settings.price:g}" if name == "auto" else f"{name} alone")
        bound = min((each.found.usd_per_hour for each in out if each.found is not None), default=math.inf)
        best = [each.found for each in out if each.name == name and each.found is not None]
        least = min(best, key=lambda each: each.usd_per_hour, default=None)
        start = None if least is None else tuple(least.copies.values())
        out.append(_Sizing(study, need, one, settings, name, bound, start).candidate())
        return out[-1]

    for way in ways:
        size(*way)
    if len(pool.models) > 1 and not prices:
        _refine(out, lambda price: size("auto", pool, msgspec.structs.replace(auto, price=price)))
    return _ranked(out)


def steps_of(pool: Pool, prices: Sequence[float], traffic: Traffic, need: Need) -> int:
    """How often `search` calls `told`, at most."""
    auto = len(prices or likely_prices(pool, traffic, need.keep)) if len(pool.models) > 1 else 0
    return auto + len(pool.models) + (_REFINED if auto and not prices else 0)


def _refine(found: Sequence[Candidate], size: Callable[[float], Candidate]) -> None:
    """Lambdas between the best one and the next higher, which was none."""
    by_price = {one.price: one for one in found if one.name == "auto"}
    possible = [one for one in by_price.values() if one.found is not None]
    if not possible:
        return
    low = min(possible, key=lambda one: one.found.usd_per_hour).price  # type: ignore[union-attr]
    high = min((price for price in by_price if price > low), default=0.0)
    for _ in range(_REFINED if low > 0 and high > 0 else 0):
        middle = float(f"{math.sqrt(low * high):.3g}")
        if size(middle).found is not None:
            low = middle
        else:
            high = middle


def _ranked(found: list[Candidate]) -> list[Candidate]:
    possible = [one for one in found if one.found is not None]
    if not possible:
        return found
    found = sorted(found, key=lambda one: (one.name == "auto", -one.price))
    least = min(possible, key=lambda one: (one.found.usd_per_hour, one.found.devices, -one.price))  # type: ignore[union-attr]
    return [msgspec.structs.replace(one, best=one is least) for one in found]


def likely_prices(pool: Pool, traffic: Traffic, keep: float | None) -> list[float]:
    """Lambdas around the highest, which is the cheapest, that keeps the quality where the costs are those of usual
    batches; the highest first, and 0. Real costs follow the load: the simulation tells."""
    traffic = for_members(traffic, pool)
    cost = np.stack([_cost_usd(pool, traffic, i) for i in range(len(pool.models))], axis=1)
    true = traffic.true_quality
    strongest = int(true.mean(axis=0).argmax())
    dearer = cost[:, [strongest]] - cost
    with np.errstate(divide="ignore", invalid="ignore"):
        flips = np.where(dearer > 0, (traffic.score[:, [strongest]] - traffic.score) / dearer, np.nan)
    flips = flips[np.isfinite(flips) & (flips > 0)]
    if not len(flips):
        return [0.0]
    wanted = (keep or 0.0) * float(true.mean(axis=0).max())
    grid = np.quantile(flips, np.linspace(0, 1, _GRID))
    possible = [price for price in grid if _unloaded_quality(traffic, cost, float(price)) >= wanted]
    middle = float(max(possible, default=grid[0]))
    return [*(float(f"{middle * times:.3g}") for times in _AROUND), 0.0]


def _unloaded_quality(traffic: Traffic, cost: Floats, price: float) -> float:
    chosen = np.empty(len(cost), np.int32)
    best(np.ascontiguousarray(traffic.score), np.ascontiguousarray(cost), price, chosen)
    return float(traffic.true_quality[np.arange(len(cost)), chosen].mean())


def _seconds(pool: Pool, traffic: Traffic, model: int) -> Floats:
    """Engine seconds of each request in a batch of a usual size."""
    law = pool.models[model].engine.law
    prompt, output = traffic.prompt.astype(float), traffic.output[:, model].astype(float)
    own = law.running_s + (prompt + output / 2) * law.context_s + law.step_s / _TYPICAL_BATCH
    return np.asarray((prompt - traffic.cached) * law.prefill_s + output * own)


def _cost_usd(pool: Pool, traffic: Traffic, model: int) -> Floats:
    return _seconds(pool, traffic, model) * pool.models[model].engine.known.usd_per_s


class _Sizing:
    """The fewest copies for one way to decide."""

    def __init__(
        self,
        study: Study,
        need: Need,
        pool: Pool,
        settings: Settings,
        name: str,
        bound_usd: float,
        start: tuple[int, ...] | None,
    ) -> None:
        """`bound_usd`: an hour; a pool that costs as much is not wanted. `start`: copies that may be enough."""
        self._study, self._need, self._pool, self._settings, self._name = study, need, pool, settings, name
        self._bound_usd, self._start = bound_usd, start
        self._traffic = study.make(None, study.seeds[0])
        self._known: dict[tuple[int, ...], Figures] = {}

    def candidate(self) -> Candidate:
        copies, why = self._enough()
        if copies is not None:
            copies = self._exchanged(self._fewest(copies))
        return Candidate(
            name=self._name, price=self._settings.price, why=why, pools=len(self._known),
            found=None if copies is None else self._figures(copies),
        )  # fmt: skip

    def _figures(self, copies: tuple[int, ...]) -> Figures:
        if copies not in self._known:
            pool = self._pool.copied(dict(enumerate(copies)))
            self._known[copies] = self._study.figures(pool=pool, settings=self._settings, label=self._name)
        return self._known[copies]

    def _holds(self, copies: tuple[int, ...]) -> bool:
        return holds(self._figures(copies), self._need.attain, self._need.keep)

    def _enough(self) -> tuple[tuple[int, ...] | None, str]:
        """Some pool that is enough, or None and why there is none."""
        copies = self._least()
        if len(self._pool.models) == 1:
            alone = for_members(self._traffic, self._pool)
            ratio = float(alone.true_quality.mean() / max(alone.best_quality.mean(), 1e-9))
            if self._need.keep is not None and ratio < self._need.keep:
                return None, f"its quality is {ratio:.3f} of the best member's"
        if self._start is not None and self._holds(self._start):
            return self._start, ""
        for _ in range(_MOST_GROWTH):
            found = self._figures(copies)
            if self._holds(copies):
                return copies, ""
            slow = not holds(found, self._need.attain, None)
            short = self._short(found, slow=slow)
            if slow and short.busy < _HARDLY_BUSY:
                return None, _unmet(found, short)
            copies, why = self._within(copies, self._grown(copies, found, short.name))
            if why:
                return None, why
        return None, "no pool of those that were tried holds"

    def _least(self) -> tuple[int, ...]:
        """Most of what the work would keep busy in batches of a usual size, were members chosen by these costs."""
        traffic = for_members(self._traffic, self._pool)
        seconds = [_seconds(self._pool, traffic, i) for i in range(len(self._pool.models))]
        cost = np.stack([_cost_usd(self._pool, traffic, i) for i in range(len(self._pool.models))], axis=1)
        chosen = np.empty(len(cost), np.int32)
        best(np.ascontiguousarray(traffic.score), np.ascontiguousarray(cost), self._settings.price, chosen)
        span_s = max(traffic.seconds, 1e-9)
        busy = [float(own[chosen == i].sum()) / span_s for i, own in enumerate(seconds)]
        most = [
            max(busy[i] for i, model in enumerate(self._pool.models) if model.group == group)
            for group in range(len(self._pool.groups))
        ]
        return self._allowed(tuple(max(1, math.floor(_BEGIN * one)) for one in most))

    def _allowed(self, copies: tuple[int, ...]) -> tuple[int, ...]:
        """As they are, or one of each where they are too many."""
        pool = self._pool.copied(dict(enumerate(copies)))
        if pool.devices > self._need.most_devices or pool.usd_per_hour >= self._bound_usd:
            return tuple(1 for _ in copies)
        return copies

    def _short(self, found: Figures, *, slow: bool) -> Member:
        """The member whose answers come too late most often; where only quality lacks, the best one, whose answers cost
        less on engines with time to spare."""
        if not slow:
            return found.members[int(for_members(self._traffic, self._pool).true_quality.mean(axis=0).argmax())]
        return max(found.members, key=lambda one: (one.share * (1 - (one.within or 0.0)), one.busy))

    def _grown(self, copies: tuple[int, ...], found: Figures, name: str) -> tuple[int, ...]:
        """With more copies of the member's group."""
        at = next(i for i, group in enumerate(self._pool.groups) if name in group.members)
        more = max(copies[at] + 1, math.ceil(copies[at] * _GROWTH))
        if found.figures["answered_share"].value < 0.9:
            more = max(more, copies[at] * 2)
        return (*copies[:at], more, *copies[at + 1 :])

    def _within(self, copies: tuple[int, ...], grown: tuple[int, ...]) -> tuple[tuple[int, ...], str]:
        """As far grown as is allowed; and why not, where that is not at all."""
        at = next(i for i, (a, b) in enumerate(zip(copies, grown, strict=True)) if a != b)
        why = ""
        for more in range(grown[at], copies[at], -1):
            tried = (*copies[:at], more, *copies[at + 1 :])
            pool = self._pool.copied(dict(enumerate(tried)))
            if pool.devices > self._need.most_devices:
                why = f"it needs more than {self._need.most_devices} devices"
            elif pool.usd_per_hour >= self._bound_usd:
                why = f"it needs as much as another way: {self._bound_usd:g} USD an hour"
            else:
                return tried, ""
        return copies, why

    def _fewest(self, copies: tuple[int, ...]) -> tuple[int, ...]:
        order = sorted(range(len(copies)), key=lambda i: -self._pool.groups[i].usd_per_hour)
        for at in order:
            low, high = 0, copies[at]  # `low` is not enough, `high` is
            while high - low > 1:
                middle = (low + high) // 2
                if self._holds((*copies[:at], middle, *copies[at + 1 :])):
                    high = middle
                else:
                    low = middle
            copies = (*copies[:at], high, *copies[at + 1 :])
        return copies

    def _exchanged(self, copies: tuple[int, ...]) -> tuple[int, ...]:
        """One copy less of a group and some more of a cheaper one, as long as that costs less and holds."""
        groups = self._pool.groups
        pairs = [(i, j) for i in range(len(groups)) for j in range(len(groups)) if groups[j].usd_per_hour > 0]
        for i, j in pairs:
            most = math.ceil(groups[i].usd_per_hour / groups[j].usd_per_hour) - 1
            tried = 0
            while i != j and copies[i] > 1 and tried < most:
                tried += 1
                other = tuple(n - (at == i) + tried * (at == j) for at, n in enumerate(copies))
                if self._holds(other):
                    copies, tried = other, 0
        return copies


def _unmet(found: Figures, short: Member) -> str:
    share = found.figures.get("slo_share", found.figures["answered_share"]).value
    return (
        f"{share:.3f} of the requests are within the SLO although the engines of {short.name} work for"
        f" {short.busy:.2f} of the time"
    )
