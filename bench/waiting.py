"""What it costs to wait: 100,000 requests are in the gate's queue, one joins and the first one leaves. One JSON line.

Of 1,000 keys and three priorities, half of them with a deadline. `queue_us`: the median round of CPU time, in
microseconds a pair, Python's calls included. The contestant is a list that is kept sorted (`bisect`), which has the
order but no turns of keys. `queue_instructions`: of a pair, by callgrind, with `--instructions`, as it takes a minute.
"""

import argparse
import math
import random
import re
import subprocess
import sys
import tempfile
import time
from bisect import insort
from pathlib import Path
from typing import Any

import report

from router.native.waiting import FairQueue

#: Of a round: few enough that what is handed in stays in the cache, as it does where a request has just been read.
PAIRS = 2_000
_INSTRUCTIONS = re.compile(r"Collected : (\d+)")

GOALS = (report.Goal("queue_us", 1),)


def arguments(source: random.Random, keys: list[str], at_s: float) -> tuple[str, int, float, float]:
    deadline_s = at_s + source.uniform(1, 60) if source.random() < 0.5 else math.inf
    return source.choice(keys), source.randrange(3), deadline_s, at_s


def filled(waiting: int, keys: list[str], source: random.Random) -> tuple[FairQueue[object], float]:
    queue: FairQueue[object] = FairQueue()
    for i in range(waiting):
        queue.add(object(), *arguments(source, keys, i * 1e-3))
    return queue, waiting * 1e-3


def measure(waiting: int, keys: list[str], rounds: int) -> list[float]:
    source = random.Random(1)
    queue, at_s = filled(waiting, keys, source)
    taken: list[float] = []
    for _ in range(rounds):
        given = [arguments(source, keys, at_s + i * 1e-3) for i in range(PAIRS)]
        item, at_s = object(), at_s + PAIRS * 1e-3
        begun = time.process_time()
        for key, priority, deadline_s, since_s in given:
            queue.add(item, key, priority, deadline_s, since_s)
            queue.next()
        taken.append((time.process_time() - begun) / PAIRS * 1e6)
    assert len(queue) == waiting
    return taken


def sorted_list(waiting: int, keys: list[str]) -> float:
    source = random.Random(1)
    rows = sorted(arguments(source, keys, i * 1e-3)[1:] for i in range(waiting))
    given = [arguments(source, keys, waiting * 1e-3)[1:] for _ in range(2_000)]
    begun = time.process_time()
    for row in given:
        insort(rows, row)
        rows.pop(0)
    return (time.process_time() - begun) / len(given) * 1e6


def instructions(waiting: int, keys: int) -> float:
    """Of a pair: the difference between two counts of pairs, so that filling the queue does not count."""

    def run(pairs: int) -> int:
        with tempfile.TemporaryDirectory() as folder:
            command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={Path(folder) / 'out'}", sys.executable]
            told = subprocess.run(
                [*command, __file__, "--waiting", str(waiting), "--keys", str(keys), "--pairs", str(pairs)],
                capture_output=True,
                text=True,
                check=True,
            )
        found = _INSTRUCTIONS.search(told.stderr)
        assert found is not None, told.stderr
        return int(found[1])

    return (run(20_000) - run(10_000)) / 10_000


def only(waiting: int, keys: list[str], pairs: int) -> None:
    """Nothing but the pairs, of few arguments, for an instrument."""
    source = random.Random(1)
    queue, at_s = filled(waiting, keys, source)
    given, item = [arguments(source, keys, at_s) for _ in range(PAIRS)], object()
    for i in range(pairs):
        queue.add(item, *given[i % PAIRS])
        queue.next()


def main() -> None:
    parser = report.parser(__doc__ or "", runs=200)
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--keys", type=int, default=1_000)
    parser.add_argument("--instructions", action="store_true", help="count them too; needs valgrind")
    parser.add_argument("--pairs", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    keys = [f"key {i}" for i in range(args.keys)]
    if args.pairs is not None:
        only(args.waiting, keys, args.pairs)
        return
    taken = report.spread(measure(args.waiting, keys, 3 if args.quick else args.runs))
    taken.pop("runs")
    found: dict[str, Any] = {
        "queue_us": taken["median"],
        "rounds_us": taken,
        "sorted_list_us": round(sorted_list(args.waiting, keys), 3),
        "waiting": args.waiting,
        "keys": args.keys,
        "queue_instructions": round(instructions(args.waiting, args.keys)) if args.instructions else None,
    }
    report.finish(args, "waiting", found, goals=GOALS)


if __name__ == "__main__":
    main()
