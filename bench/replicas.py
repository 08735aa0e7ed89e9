"""Deciding with load, price and prefix among models of several engines, natively, on one core.

Last line: JSON with decide_us (8 models of 4 engines each) and decide_1000_us (one model of 1,000 engines): medians
over runs of the median of 2,000 decisions for different prompts. A decision is counted from the query in Python to the
numbers of the decision: blocks of its prompt hashed and looked for, engines compared, models decided between. note_us:
noting which engine was sent the prompt. long_us: decide_us for prompts of 16 KiB. Half of the prompts were sent before.

Every engine has a step model that is trusted, learnt here from a law, and a queue of its own.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence

import decision
import report

from router.ipc.messages import Load
from router.native.fleet import Fleet
from router.native.lane import Lane, LaneLoad
from router.native.policy import decide
from router.policy import Settings
from router.steps import StepSums
from router.types import Query, Scores, Turn

GOALS = (report.Goal("decide_us", 5.0), report.Goal("decide_1000_us", 10.0))
LAW = (0.006, 120e-6, 40e-9, 30e-6)  #: seconds of a step, and of a sequence, a token held and a prompt token in it
SETTINGS = Settings(price=100.0)
SHORT_WORDS, LONG_WORDS = 100, 2_700
_NAMES = ("steps", "running", "context", "prefill")
_SETS = 12  #: of step sums: several engines of one machine have the same


def taught(seed: int) -> list[StepSums]:
    """What a host's load frames tell of 60 windows of steps that follow the law, with a tenth of noise."""
    source, sums, told = random.Random(seed), dict.fromkeys(StepSums.__struct_fields__, 0.0), []
    for _ in range(60):
        for _ in range(8):
            running = source.randrange(1, 64)
            row = (1.0, float(running), float(running * source.randrange(100, 2_000)), source.choice([0.0, 0.0, 500.0]))
            seconds = sum(k * x for k, x in zip(LAW, row, strict=True)) * source.uniform(0.9, 1.1)
            sums["rows"] += 1
            for i, (name, value) in enumerate([*zip(_NAMES, row, strict=True), ("seconds", seconds)]):
                sums[name] += value
                for other, factor in [*zip(_NAMES, row, strict=True), ("seconds", seconds)][i:]:
                    sums[f"{name}_{other}"] += value * factor
        told.append(StepSums(**sums))
    return told


def engine(source: random.Random, frames: Sequence[StepSums]) -> Lane:
    """Of which everything is known."""
    lane = Lane(LaneLoad(200.0), 0.0003)
    lane.ready = True
    lane.described(frozenset({"chat"}), 32_768)
    fields = {"running": source.randrange(32), "waiting": source.choice([0, 0, 2]), "context_tokens": 20_000}
    for sums in frames:
        rates = {"prefill_tokens_per_s": 9_000.0, "time_per_output_token_s": 0.01}
        lane.load.reported(Load(sums=sums, **rates, **fields))
        lane.load.learn(0.2, 0.7)
    assert lane.load.figures()["cost_trust"] > 0.9
    return lane


def fleet(models: int, replicas: int) -> Fleet:
    source, frames = random.Random(1), [taught(seed) for seed in range(_SETS)]
    groups = [[engine(source, frames[i % _SETS]) for i in range(replicas)] for _ in range(models)]
    return Fleet(groups, [f"m{i}" for i in range(models)], seed=1)


def queries(words: int, count: int) -> list[Query]:
    texts = decision.windows(decision.prose(), words, count)
    return [Query(kind="chat", model="auto", turns=(Turn("user", text),), needs=frozenset({"chat"})) for text in texts]


def microseconds(pool: Fleet, asked: Sequence[Query], work: Callable[[Fleet, Query], None]) -> float:
    """The median."""
    clock, took = time.perf_counter_ns, []
    for query in asked:
        begun = clock()
        work(pool, query)
        took.append((clock() - begun) / 1e3)
    return statistics.median(took)


def deciding(pool: Fleet) -> Callable[[Fleet, Query], None]:
    models = len(pool.models)
    scores = Scores(tuple(0.4 + 0.05 * i for i in range(models)), 150)

    def one(pool: Fleet, query: Query) -> None:
        decide(query, scores, pool.pick(query, 150, SETTINGS, 0.0), SETTINGS)

    return one


def note(pool: Fleet, query: Query) -> None:
    pool.pick(query, 150, SETTINGS, 0.0).note(0)


def main() -> None:
    parser = report.parser(__doc__ or "", runs=9)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    args = parser.parse_args()
    count = 50 if args.quick else 2_000
    short, long = queries(SHORT_WORDS, count), queries(LONG_WORDS, count // 10)
    small, large = fleet(8, 4), fleet(1, 1_000)
    for pool in (small, large):  # half of the conversations go on where they were
        for query in [*short[::2], *long[::2]]:
            note(pool, query)
    took: dict[str, list[float]] = {"decide": [], "decide_1000": [], "long": [], "note": []}
    for run in range(args.runs):
        report.progress(f"run {run + 1} of {args.runs}")
        took["decide"].append(microseconds(small, short, deciding(small)))
        took["decide_1000"].append(microseconds(large, short, deciding(large)))
        took["long"].append(microseconds(small, long, deciding(small)))
        picking = microseconds(small, short, lambda pool, query: pool.pick(query, 150, SETTINGS, 0.0) and None)
        took["note"].append(microseconds(small, short, note) - picking)
    figures = {f"{name}_us": round(statistics.median(values), 2) for name, values in took.items()}
    spreads = {name: report.spread(values) for name, values in took.items()}
    report.finish(args, "replicas", {**figures, **spreads}, goals=GOALS)


if __name__ == "__main__":
    main()
