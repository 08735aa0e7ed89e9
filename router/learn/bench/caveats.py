"""What a reader must know before believing a run's figures."""

from collections.abc import Iterator, Sequence

from router.learn.bench.cost import Basis
from router.learn.bench.figures import Measured
from router.learn.bench.plan import Plan
from router.learn.bench.rows import Cell, Row

_LATE_MS = 5.0  #: of the generator's 99th percentile, beyond which its own delay spoils latencies
_FEW = 100  #: requests


def caveats(
    plan: Plan, told: Sequence[Measured], rows: Sequence[Row], cells: Sequence[Cell], basis: Basis
) -> list[str]:
    return [*_of_run(plan, told, cells), *_of_answers(told, rows), *_of_dollars(told, basis), *_of_input(plan)]


def _of_run(plan: Plan, told: Sequence[Measured], cells: Sequence[Cell]) -> Iterator[str]:
    if any(cell.cut for cell in cells):
        yield (
            "The run was interrupted. Requests in flight, which are the slow ones, are in no figure; the same command "
            "measures that turn again and goes on."
        )
    missing = plan.rounds * len(plan.levels) * len(plan.policies) - len(cells)
    if missing > 0 and plan.stop_saturated:
        yield "Of each policy, rates above the first that it does not hold were left out."
    elif missing > 0:
        yield f"{missing} of the plan's turns have not been measured: the same command goes on."
    late = max((one.late_p99_ms for one in told), default=0.0)
    if late > _LATE_MS:
        yield (
            f"The load generator itself was up to {late:.0f} ms late (99th percentile of its worst turn); latencies "
            "hold that: it needs a processor of its own."
        )
    few = min((one.requests for one in told), default=_FEW)
    if few < _FEW:
        yield f"As few as {few} requests of a policy and load: a 99th percentile is then nearly the slowest one."


def _of_answers(told: Sequence[Measured], rows: Sequence[Row]) -> Iterator[str]:
    if any(one.counted for one in told):
        names = ", ".join(sorted({one.policy for one in told if one.counted}))
        yield f"No usage was sent by {names}: output tokens are counted as events that brought text."
    if failed := sum(one.ungraded for one in told):
        first = next(row.ungraded for row in rows if row.ungraded)
        yield f"The grader failed on {failed} answers, which are in no quality (the first: {first})."


def _of_dollars(told: Sequence[Measured], basis: Basis) -> Iterator[str]:
    if not any("usd_per_million_tokens" in one.figures for one in told):
        return
    if basis == "own":
        yield "Dollars are by what is known of each policy (engine seconds, else rent, else tokens), not by one rule."
    if basis == "rent":
        yield "Engine seconds are not known of every policy: dollars are the hourly price of what each holds."


def _of_input(plan: Plan) -> Iterator[str]:
    if plan.workload.left_out:
        yield f"{len(plan.workload.left_out)} broken rows of the workload were left out."
    if plan.trace is not None and plan.trace.moved:
        yield f"{plan.trace.moved} requests of the trace stood behind a later one and were put in order."
