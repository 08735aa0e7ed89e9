"""What a run found: figures of each policy and level, each policy at load, and which are on the Pareto front."""

import platform
import time
from collections.abc import Sequence

import msgspec

from router.learn.bench import figures
from router.learn.bench.caveats import caveats
from router.learn.bench.cost import Basis, basis_of
from router.learn.bench.figures import Estimate, Measured
from router.learn.bench.plan import Plan
from router.learn.bench.rows import Folder
from router.version import __version__


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """One policy at the level where it gives the most."""

    policy: str
    level: str
    held: str  #: the highest level that it holds; empty: none, or no SLO
    throughput: Estimate  #: goodput where there is an SLO, else requests answered, a second
    quality: Estimate | None
    usd: Estimate | None  #: a thousand good answers; ungraded, a million output tokens
    front: bool = False  #: no other policy is as good in all three and better in one


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A run, whole or as far as it came."""

    headgate: str
    python: str
    date: str
    command: str
    workload: str
    questions: int
    seconds: float
    warmup_s: float
    rounds: int
    arrivals: str
    slo: str
    basis: Basis  #: of dollars
    against: str
    best_constant: str  #: the member of the highest quality, else of the highest throughput
    draws: int
    graded: bool
    measured: list[Measured]
    loaded: list[Loaded]
    caveats: list[str]


def found(plan: Plan, folder: Folder, *, command: str, workload: str, against: str, draws: int) -> Found:
    rows, cells = folder.rows(), list(folder.cells.values())
    basis = basis_of(plan.policies, cells)
    constants = [p.name for p in plan.policies if p.foreign or any(one.name == p.name for one in p.members)]
    told = figures.measured(plan, rows, cells, basis, against="", draws=0)
    best = _best_constant(constants, _loaded(plan, told))
    against = against or best
    told = figures.measured(plan, rows, cells, basis, against=against, draws=draws)
    return Found(
        headgate=__version__, python=platform.python_version(), date=time.strftime("%Y-%m-%d", time.gmtime()),
        command=command, workload=workload, questions=len(plan.workload.items), seconds=plan.seconds,
        warmup_s=plan.warmup_s, rounds=plan.rounds, arrivals=arrivals_text(plan),
        slo=plan.slo.text() if plan.slo else "",
        basis=basis, against=against, best_constant=best, draws=draws, graded=plan.workload.graded, measured=told,
        loaded=front(_loaded(plan, told)), caveats=caveats(plan, told, rows, cells, basis),
    )  # fmt: skip


def arrivals_text(plan: Plan) -> str:
    if plan.trace is not None:
        return f"a recorded trace of {len(plan.trace.arrivals)} requests"
    text = "Poisson" if plan.arrivals.poisson else "evenly spaced"
    burst = plan.arrivals.burst
    return text + (
        f", {burst.factor:g} times the rate for {burst.seconds:g} s out of {burst.every:g} s" if burst else ""
    )


def _loaded(plan: Plan, told: Sequence[Measured]) -> list[Loaded]:
    out = []
    for policy in plan.policies:
        mine = [one for one in told if one.policy == policy.name]
        if not mine:
            continue
        at = max(mine, key=lambda one: throughput(one).value)
        held = [one.level for one in mine if one.holds]
        usd = at.figures.get("usd_per_thousand_good" if plan.workload.graded else "usd_per_million_tokens")
        out.append(
            Loaded(
                policy=policy.name, level=at.level, held=held[-1] if held else "", throughput=throughput(at),
                quality=at.figures.get("quality"), usd=usd,
            )
        )  # fmt: skip
    return out


def throughput(one: Measured) -> Estimate:
    return one.figures.get("goodput_per_s") or one.figures["requests_per_s"]


def front(loaded: Sequence[Loaded]) -> list[Loaded]:
    """Which are not dominated: quality and throughput as high as may be, dollars as low; unknown is worst."""

    def worth(one: Loaded) -> tuple[float, float, float]:
        quality = one.quality.value if one.quality else float("-inf")
        return quality, one.throughput.value, -(one.usd.value if one.usd else float("inf"))

    def beaten(one: Loaded) -> bool:
        own = worth(one)
        return any(
            all(a >= b for a, b in zip(worth(other), own, strict=True)) and worth(other) != own for other in loaded
        )

    return [msgspec.structs.replace(one, front=not beaten(one)) for one in loaded]


def _best_constant(constants: Sequence[str], loaded: Sequence[Loaded]) -> str:
    mine = [one for one in loaded if one.policy in constants]
    if not mine:
        return ""
    return max(mine, key=lambda one: (one.quality.value if one.quality else 0.0, one.throughput.value)).policy
