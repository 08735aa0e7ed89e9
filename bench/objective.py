"""Objectives: how soon prices settle and how much they swing, on simulated time, and how near a share comes on real
prompts: `python bench/objective.py`; docs/price.md. The last line is one JSON object.

settle_s, swing: the worst over objectives and steps of load, by even traffic; swing_random: the same by random traffic,
whose queues vary by themselves. share_err: points between the share asked for and the one of 1,000 requests, the worst
over shares, traffics and orders. decide_us: one decision and its note, 8 members x 4 engines.
"""

import random
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import report
import steered_pool as simulated
from steered_pool import SteeredPool, Traffic

from router.config import Member, Objective
from router.native import policy as native
from router.native.steering import Steering
from router.pipeline.router import Router
from router.policy import Settings
from router.types import MemberState, Query, Scores, Snapshot, Turn

GOALS = (
    report.Goal("settle_s", 60),
    report.Goal("swing", 0.05),
    report.Goal("share_err", 2.0),
    report.Goal("decide_us", 5.0),
)
TABLES = ("routellm_pairs", "mmlu_pro", "llmrouter_9models", "evidence")
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
REQUESTS = 1_000
MARGIN = Traffic(1).margin
_ASKED = Query(kind="chat", model="auto", turns=())
#: Objectives, and the traffics that follow one another under each. 128 requests/s is what the small model can do.
STEPS: dict[str, tuple[Objective, tuple[Traffic, ...]]] = {
    "price": (Objective(), (Traffic(80), Traffic(240), Traffic(180), Traffic(80))),
    "price_short_wait": (Objective(queue_s=0.2), (Traffic(80), Traffic(240), Traffic(180), Traffic(80))),
    "slo": (
        Objective(kind="slo", ttft_ms=600.0, attainment=0.95, shed=False),
        (Traffic(80), Traffic(240), Traffic(180), Traffic(80)),
    ),
    "budget": (
        Objective(kind="budget", usd_per_hour=180.0, congestion=False),
        (Traffic(80), Traffic(160), Traffic(110)),
    ),
    "quality": (
        Objective(kind="quality", of_strongest=0.97, congestion=False),
        (Traffic(100), Traffic(100, type(MARGIN)(0.15, 0.1)), Traffic(200, type(MARGIN)(0.05, 0.1))),
    ),
}
POOL = (
    Member(name="small", model="small", like="llama-3.1-8b-instruct", usd_per_hour=1.0),
    Member(name="large", model="large", like="llama-3.1-70b-instruct", usd_per_hour=4.0),
)


def main() -> None:
    arguments = report.parser(__doc__.splitlines()[0] if __doc__ else "", runs=1)
    arguments.add_argument("--data", type=Path, default=report.ROOT.parent / "shared" / "data", help="prompts")
    args = arguments.parse_args()
    figures: dict[str, Any] = {**settling(args.quick), **deciding(200 if args.quick else 20_000)}
    if args.data.is_dir():
        figures |= sharing(args.data, 100 if args.quick else REQUESTS)
    else:
        report.progress(f"{args.data}: no prompts, so share_err is not measured")
        figures["share_err"] = None
    report.finish(args, "objective", figures, goals=GOALS)


def settling(quick: bool) -> dict[str, Any]:
    """The worst, and all of them."""
    found: dict[str, list[dict[str, float]]] = {}
    for name, (objective, traffics) in STEPS.items():
        report.progress(f"prices: {name}")
        steps = traffics[:2] if quick else traffics
        both = zip(_runs(objective, steps), _by_chance(objective, steps), strict=True)
        found[name] = [_step(even, chance) for even, chance in both]
    steps_of_all = [step for steps in found.values() for step in steps]
    worst = {key: max(step[key] for step in steps_of_all) for key in ("settle_s", "swing", "swing_random")}
    return {**worst, "steps": found}


def _runs(objective: Objective, traffics: Sequence[Traffic]) -> Iterator[list[simulated.Sample]]:
    return SteeredPool(objective).run(traffics)


def _by_chance(objective: Objective, traffics: Sequence[Traffic]) -> Iterator[list[simulated.Sample]]:
    return SteeredPool(objective, even=False).run(traffics)


def _step(even: Sequence[simulated.Sample], chance: Sequence[simulated.Sample]) -> dict[str, float]:
    late = [each.price for each in chance if each.time_s > 60]
    return {
        "target": round(even[-1].target, 4),
        "price": round(even[-1].price, 4),
        "settle_s": simulated.settle_s(even),
        "swing": round(simulated.swing(even), 4),
        "swing_random": round(simulated.swing(chance), 4),
        "mean_random": round(statistics.fmean(late) / chance[-1].target, 4),
    }


def sharing(folder: Path, requests: int) -> dict[str, Any]:
    """Points off, the worst share of each traffic, each order."""
    drawn = random.Random(7)
    scored = {name: _scored(folder / f"{name}.parquet", requests, drawn) for name in TABLES}
    orders: dict[str, list[tuple[float, ...]]] = {}
    for name, rows in scored.items():
        report.progress(f"share: {name}")
        orders[f"{name}, in sequence"] = [quality for _, quality in sorted(rows, key=lambda row: row[0])]
        orders[f"{name}, mixed"] = [quality for _, quality in drawn.sample(rows, len(rows))]
    each = requests // len(TABLES)
    parts = [[quality for _, quality in rows[:each]] for rows in scored.values()]
    one_by_one = [quality for part in parts for quality in part]
    orders["all, in sequence"] = one_by_one
    orders["all, mixed"] = drawn.sample(one_by_one, len(one_by_one))
    errors = {name: max(share_error(rows, share) for share in SHARES) for name, rows in orders.items()}
    return {"share_err": max(errors.values()), "share_errors": errors}


def _scored(path: Path, requests: int, drawn: random.Random) -> list[tuple[str, tuple[float, ...]]]:
    """Task and qualities of so many prompts, as the bundled checkpoint scores them."""
    decider = Router.decider(POOL)
    table = pq.read_table(path, columns=["prompt_id", "task", "prompt"])
    columns = (table.column(name).to_pylist() for name in ("prompt_id", "task", "prompt"))
    prompts = sorted({id: (task, prompt) for id, task, prompt in zip(*columns, strict=True)}.items())
    chosen = drawn.sample(prompts, min(requests, len(prompts)))
    return [
        (task, decider.scoring.score(Query(kind="chat", model="auto", turns=(Turn("user", prompt),))).quality)
        for _, (task, prompt) in chosen
    ]


def share_error(qualities: Sequence[tuple[float, ...]], share: float) -> float:
    """Points between the share that the large model got of these and the one it was to get."""
    steering = Steering()
    steering.hold(1, share)
    got = 0
    for quality in qualities:
        states = tuple(
            MemberState(name=member.name, usd_per_s=member.usd_per_hour / 3600, favour=i and steering.favour)
            for i, member in enumerate(POOL)
        )
        numbers = native.decide(_ASKED, Scores(quality, 100), Snapshot(states), Settings(price=100.0))
        numbers.note(steering)
        got += numbers.member == 1
    return round(100 * abs(got / len(qualities) - share), 3)


def deciding(calls: int) -> dict[str, float]:
    """Microseconds of one decision and its note, of states that are read already; medians of 200 blocks."""
    times = {}
    for name, members in (("decide_us", 32), ("decide_2_us", 2), ("decide_1000_us", 1_000)):
        states = tuple(
            MemberState(name=f"m{i}", usd_per_s=1e-4 * (i + 1), surcharge=0.01 * i, prefix_hit=0.5)
            for i in range(members)
        )
        snapshot, scores = Snapshot(states), Scores(tuple(0.5 + 0.4 * i / members for i in range(members)), 100)
        steering, settings = Steering(), Settings(price=100.0)
        steering.hold(1, 0.3)
        each = max(1, calls // 200 // (members // 32 + 1))
        blocks = []
        for _ in range(200):
            begun = time.perf_counter()
            for _ in range(each):
                native.decide(_ASKED, scores, snapshot, settings).note(steering)
            blocks.append((time.perf_counter() - begun) / each * 1e6)
        times[name] = round(statistics.median(blocks), 3)
    return times


if __name__ == "__main__":
    main()
