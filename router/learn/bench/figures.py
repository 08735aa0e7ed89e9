"""A run's figures, each with a bootstrap interval over its requests.

What is drawn again is a planned request: its answers under all policies come and go together, so differences between
policies are paired. Warm-up is in no figure but throughput, which counts the answers that end within a cell's window.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from router.learn.bench.cost import Basis, cost_usd
from router.learn.bench.plan import Plan
from router.learn.bench.policies import Policy
from router.learn.bench.rows import Cell, Row
from router.learn.bench.slo import kept, tpot_us, within
from router.learn.evaluate.metrics import interval

GOOD = 0.5  #: an answer of at least this grade is a good one
QUANTILES = (50, 95, 99)
Floats = npt.NDArray[np.float64]


class Estimate(msgspec.Struct, frozen=True):
    """A figure and the central 95 % of its bootstrap; None where it is not known, as of one request's interval."""

    value: float
    low: float | None = None
    high: float | None = None


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One policy at one level of load."""

    policy: str
    level: str
    rate: float  #: requests a second sent
    rounds: int
    requests: int  #: after warm-up
    faults: dict[str, int]  #: by kind
    counted: int  #: answers whose tokens are events, as the target sent no usage
    ungraded: int  #: answers that a grader failed on
    shares: dict[str, float]  #: of answers, by the model that gave them
    figures: dict[str, Estimate]
    ratios: dict[str, Estimate]  #: to the policy compared with, on the same drawn requests
    late_p99_ms: float  #: of the load generator itself
    own_cpu_us: float  #: of the load generator, a request
    holds: bool | None  #: the load, by the SLO's share; None: no SLO
    cut: bool = False  #: interrupted


#: Of which figures ratios are given.
COMPARED = (
    "quality",
    "requests_per_s",
    "goodput_per_s",
    "usd_per_thousand_good",
    "usd_per_million_tokens",
    "ttft_p95_ms",
)


def measured(
    plan: Plan, rows: Sequence[Row], cells: Sequence[Cell], basis: Basis, *, against: str, draws: int
) -> list[Measured]:
    """Of every policy and level that has at least one measured request, in the plan's order."""
    out = []
    for level in range(len(plan.levels)):
        drawn = _Drawn(plan, level, draws)
        found = {
            policy.name: one
            for policy in plan.policies
            if (one := _Side.of(plan, policy, level, rows, cells, basis, drawn)) is not None
        }
        base = found.get(against)
        out += [side.measured(base) for side in found.values()]
    return out


class _Drawn:
    """Which planned requests each draw has, and how often: the same for all policies."""

    def __init__(self, plan: Plan, level: int, draws: int) -> None:
        counts = [len(plan.cell(round, level)) for round in range(plan.rounds)]
        self.first = np.concatenate([[0], np.cumsum(counts)])
        self._units, self._draws, self._seed = int(self.first[-1]), draws, [plan.seed, level]

    def weights(self, units: npt.NDArray[np.int64]) -> Iterator[Floats]:
        """How often each of the rows, whose planned requests are `units`, is in a draw; first as they are."""
        yield np.ones(len(units))
        rng = np.random.default_rng(self._seed)
        for _ in range(self._draws if self._units > 1 else 0):
            drawn = np.bincount(rng.integers(0, self._units, self._units), minlength=self._units)
            yield drawn[units].astype(np.float64)


class _Side:
    """One policy's rows of one level, as columns."""

    def __init__(
        self, plan: Plan, policy: Policy, level: int, rows: Sequence[Row], cells: Mapping[int, Cell], basis: Basis,
        drawn: _Drawn,
    ) -> None:  # fmt: skip
        self._plan, self._policy, self._level, self._rows, self._cells = plan, policy, level, rows, cells
        self._window_s = sum(cell.to_s - cell.from_s for cell in cells.values())
        self._usd = cost_usd(policy, list(cells.values()), rows, basis)
        self._units = np.array([drawn.first[row.round] + row.number for row in rows], np.int64)
        self._drawn = drawn
        self._table = self._every_draw()

    @classmethod
    def of(
        cls, plan: Plan, policy: Policy, level: int, rows: Sequence[Row], cells: Sequence[Cell], basis: Basis,
        drawn: _Drawn,
    ) -> "_Side | None":  # fmt: skip
        own = {cell.round: cell for cell in cells if cell.level == level and cell.policy == policy.name}
        mine = [row for row in rows if row.level == level and row.policy == policy.name and row.round in own]
        if not any(not row.warm for row in mine):
            return None
        return cls(plan, policy, level, mine, own, basis, drawn)

    def measured(self, base: "_Side | None") -> Measured:
        plan, rows = self._plan, [row for row in self._rows if not row.warm]
        faults: dict[str, int] = {}
        for row in rows:
            if row.fault:
                faults[row.fault] = faults.get(row.fault, 0) + 1
        answered = [row.model or row.asked for row in rows if not row.fault]
        ratios = {}
        if base is not None and base is not self:
            ratios = {
                name: _estimate(_over(self._table[name], base._table[name]))
                for name in COMPARED
                if name in self._table and name in base._table and base._table[name][0] > 0
            }
        share = self._table.get("slo_share")
        return Measured(
            policy=self._policy.name, level=plan.levels[self._level].name,
            rate=plan.levels[self._level].rate,
            rounds=len(self._cells), requests=len(rows), faults=faults,
            counted=sum(row.counted and not row.fault for row in rows),
            ungraded=sum(bool(row.ungraded) for row in rows),
            shares={name: answered.count(name) / len(answered) for name in sorted(set(answered))},
            figures={name: _estimate(values) for name, values in self._table.items()}, ratios=ratios,
            late_p99_ms=float(np.quantile([row.late_us for row in rows], 0.99)) / 1e3,
            own_cpu_us=sum(cell.own_cpu_s for cell in self._cells.values()) / len(self._rows) * 1e6,
            holds=None if share is None else bool(share[0] >= plan.attain),
            cut=any(cell.cut for cell in self._cells.values()),
        )  # fmt: skip

    def _every_draw(self) -> dict[str, Floats]:
        """[1 + draws] of each figure, the first as measured."""
        makers = self._makers()
        values: dict[str, list[float]] = {name: [] for name in makers}
        for weights in self._drawn.weights(self._units):
            for name, make in makers.items():
                values[name].append(make(weights))
        return {name: np.array(of) for name, of in values.items() if not math.isnan(of[0])}

    def _makers(self) -> dict[str, Callable[[Floats], float]]:
        rows = self._rows
        calm = np.array([not row.warm for row in rows])
        well = np.array([not row.fault for row in rows])
        ended = np.array([not row.fault and within(row, self._cells[row.round]) for row in rows])
        score = np.array([math.nan if row.score is None else row.score for row in rows])
        tokens = np.array([0 if row.fault else row.output_tokens for row in rows], np.float64)
        makers: dict[str, Callable[[Floats], float]] = {
            "quality": _mean(score, calm & ~np.isnan(score)),
            "requests_per_s": self._rate(ended.astype(np.float64)),
            "output_tokens_per_s": self._rate(ended * tokens),
        }
        if self._plan.slo is not None:
            kept_ = np.array([kept(row, self._plan.slo) for row in rows])
            makers["slo_share"] = _mean(kept_.astype(np.float64), calm)
            makers["goodput_per_s"] = self._rate((kept_ & ended).astype(np.float64))
        makers["error_share"] = _mean((~well).astype(np.float64), calm)
        for name, column in self._times(calm & well).items():
            makers |= {f"{name}_p{q}_ms": column.quantile(q / 100) for q in QUANTILES}
        if self._usd is not None:
            good = np.nan_to_num(score) >= GOOD
            makers["usd_per_million_tokens"] = _per(self._usd * 1e6, tokens)
            if not np.isnan(score).all():
                makers["usd_per_thousand_good"] = _per(self._usd * 1e3, (good & well).astype(np.float64))
        engine_s = [sum(cell.engine_s.values()) for cell in self._cells.values() if cell.engine_s]
        if len(engine_s) == len(self._cells):
            makers["engine_s_per_request"] = _per(sum(engine_s), np.ones(len(rows)))
        return makers

    def _rate(self, amounts: Floats) -> Callable[[Floats], float]:
        """A second of the windows."""
        return lambda weights: float(weights @ amounts) / self._window_s if self._window_s > 0 else math.nan

    def _times(self, used: npt.NDArray[np.bool_]) -> dict[str, "_Column"]:
        rows = [(i, row) for i, row in enumerate(self._rows) if used[i]]
        tpot = [(i, tpot) for i, row in rows if (tpot := tpot_us(row)) is not None]
        return {
            "ttft": _Column([i for i, row in rows if row.ttft_us is not None],
                            [row.ttft_us for _, row in rows if row.ttft_us is not None]),
            "tpot": _Column([i for i, _ in tpot], [value for _, value in tpot]),
            "itl": _Column([i for i, row in rows for _ in row.gaps_us],
                           [gap for _, row in rows for gap in row.gaps_us]),
            "e2e": _Column([i for i, _ in rows], [row.e2e_us for _, row in rows]),
        }  # fmt: skip


class _Column:
    """Times in microseconds, each of a row; sorted once for all draws."""

    def __init__(self, rows: Sequence[int], times_us: Sequence[float]) -> None:
        order = np.argsort(np.array(times_us, np.float64), kind="stable")
        self._times = np.array(times_us, np.float64)[order]
        self._rows = np.array(rows, np.int64)[order]
        self._weights: Floats | None = None
        self._sums: Floats = np.empty(0)

    def quantile(self, share: float) -> Callable[[Floats], float]:
        """In milliseconds: the least time that `share` of the weight does not exceed."""

        def of(weights: Floats) -> float:
            if not len(self._times):
                return math.nan
            if self._weights is not weights:
                self._weights, self._sums = weights, np.cumsum(weights[self._rows])
            total = self._sums[-1]
            at = int(np.searchsorted(self._sums, share * total)) if total > 0 else len(self._times)
            return float(self._times[at]) / 1e3 if at < len(self._times) else math.nan

        return of


def _mean(values: Floats, used: npt.NDArray[np.bool_]) -> Callable[[Floats], float]:
    known = np.where(used, values, 0.0)

    def of(weights: Floats) -> float:
        total = float(weights @ used)
        return float(weights @ known) / total if total else math.nan

    return of


def _per(amount: float, counts: Floats) -> Callable[[Floats], float]:
    """`amount` over what was counted; a draw that has as many requests costs as much."""

    def of(weights: Floats) -> float:
        total = float(weights @ counts) * len(counts) / max(float(weights.sum()), 1.0)
        return amount / total if total else math.nan

    return of


def _over(ours: Floats, theirs: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(ours / theirs)


def _estimate(values: Floats) -> Estimate:
    """`values[0]` is the figure, the rest are draws."""
    drawn = values[1:][np.isfinite(values[1:])]
    if len(drawn) < 2:
        return Estimate(float(values[0]))
    spread = interval(drawn)
    return Estimate(float(values[0]), spread.low, spread.high)
