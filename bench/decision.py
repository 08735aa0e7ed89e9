"""Text to decision on one core: weigh the turns, score with the native head, decide. The NumPy twin beside it.

Last line: JSON with p50_us (2 models, 100-word prompts), p50_us_32_models, ms_8000_words, load_ms, thread_safe; and as
the server decides a common request, its JSON body read too: served_p50_us, served_p50_us_32_models. With `--base` also
ratio_2 and ratio_32: p50 to that of another checkout, run by run in turns, each in a process of its own.
"""

import argparse
import contextlib
import json
import os
import pydoc_data.topics
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import prompts
import report

from router.config import Limits
from router.features import segments
from router.heads import Claim, Head, load
from router.native import scorer
from router.policy import Settings, decide
from router.types import Decision, MemberState, Query, Snapshot, Turn

try:
    from router.heads.methods.mf import MfHead
except ModuleNotFoundError:  # an earlier commit, of `--base`
    from router.heads.mf import MfHead
try:
    from router.native.lane import Lane, LaneLoad
except ImportError:
    from router.native.lane import Lane
    from router.native.lane import Load as LaneLoad

GOALS = (
    report.Goal("p50_us", 20),
    report.Goal("p50_us_32_models", 30),
    report.Goal("ms_8000_words", 1),
    report.Goal("load_ms", 50),
    report.Goal("ratio_2", 0.85),
    report.Goal("ratio_32", 0.45),
)
_WORK = Path(__file__).resolve().parent / "decision_work.py"
SETTINGS = Settings(price=100.0)
SHORT, LONG = 100, 8_000  # words

T = TypeVar("T")


def prose() -> list[str]:
    """The words of the paragraphs of CPython's own manual, code and tables left out: English that every machine has.

    100 of its words are 150 WordPieces; the prompts of our labels that are so long have 125 to 140.
    """
    paragraphs = re.split(r"\n\s*\n", "\n\n".join(pydoc_data.topics.topics.values()))
    kept = [
        p for p in paragraphs if len(p.split()) >= 20 and not re.search(r"::=|^ {6,}|>>>|[*=\-~]{4,}", p, re.MULTILINE)
    ]
    return " ".join(kept).split()


def windows(words: Sequence[str], size: int, count: int) -> list[str]:
    """`count` texts of `size` words, spread over the manual, no two alike."""
    step = (len(words) - size) // count
    return [" ".join(words[i * step : i * step + size]) for i in range(count)]


def claims(models: int) -> list[Claim]:
    """Members spread over the strengths that models have."""
    return [Claim(name=f"m{i}", strength=0.2 + 0.6 * i / max(1, models - 1)) for i in range(models)]


def snapshot(models: int) -> Snapshot:
    return Snapshot(
        tuple(
            MemberState(
                name=f"m{i}",
                context_tokens=32_768,
                capabilities=frozenset({"chat", "completions"}),
                running=3,
                prefill_tokens_per_s=8_000.0 - 200.0 * i,
                time_per_output_token_s=0.005 + 0.001 * i,
                mean_output_tokens=200.0,
                usd_per_s=0.0003,
            )
            for i in range(models)
        )
    )


def query(text: str) -> Query:
    """As the frontend would have decoded it: that is measured in bench/overhead.py."""
    return Query(kind="chat", model="auto", turns=(Turn("user", text),), needs=frozenset({"chat"}))


def decider(checkpoint: str, models: int, kind: str | None = None) -> Callable[[Query], Decision]:
    head, pool, settings = load(checkpoint, claims(models), kind=kind), snapshot(models), SETTINGS
    turns = head.turns
    return lambda asked: decide(asked, head.score(segments(asked.turns, turns)), pool, settings)


def served(checkpoint: str, models: int) -> Callable[[bytes], str | None]:
    """What the server does for a common request: from its JSON body to the member's name, the pool looked at anew."""
    head, states = load(checkpoint, claims(models)), snapshot(models).members
    assert isinstance(head, MfHead)
    lanes = []
    for state in states:
        rates = state.mean_output_tokens, state.prefill_tokens_per_s, state.time_per_output_token_s
        lane = Lane(LaneLoad(*rates), state.usd_per_s)
        lane.ready = True
        if hasattr(lane, "described"):
            lane.described(frozenset({"chat"}), state.context_tokens)
        else:  # of an earlier commit, which is measured beside
            lane.chats, lane.context_tokens = True, state.context_tokens
        lanes.append(lane)
    intake = _intake(lanes, [state.name for state in states])
    intake.decide_by(head.scorer, head.turns, {"auto": SETTINGS}, lambda name: SETTINGS)
    decide: Callable[[bytes], str | None] = intake.decide
    return decide


def _intake(lanes: list[Lane], names: list[str]) -> Any:
    try:
        from router.native.request import BaseRequest, Requests
        from router.native.slots import Slots
        from router.pipeline.intake import Intake
    except ImportError:  # of an earlier commit, which is measured beside
        from router.native.express import Express  # type: ignore[import-not-found]

        return Express(None, set(), lanes, names, count().__next__, "bench", Limits())
    requests = Requests(Slots(8, 1 << 20, lambda: None), None, "bench", "bench")
    try:
        from router.native.fleet import Fleet
    except ImportError:  # likewise
        return Intake(requests, BaseRequest, lanes, names, count().__next__, count().__next__, Limits())  # type: ignore[arg-type]
    fleet = Fleet([[lane] for lane in lanes], names)
    return Intake(requests, BaseRequest, fleet, count().__next__, count().__next__, Limits())


def microseconds(work: Callable[[T], object], queries: Sequence[T]) -> list[float]:
    clock = time.perf_counter_ns
    taken = []
    for one in queries:
        started = clock()
        work(one)
        taken.append((clock() - started) / 1e3)
    return taken


_LOAD = """
import sys, time
import numpy
from router.heads import Claim, load
import router.heads.methods.mf
started = time.perf_counter()
load(sys.argv[1], [Claim(name="s", strength=0.3), Claim(name="l", strength=0.6)])
print((time.perf_counter() - started) * 1e3)
"""


def load_ms(checkpoint: str) -> float:
    """In a fresh process, placement included; importing NumPy and ourselves is not."""
    command = [sys.executable, "-P", "-c", _LOAD, checkpoint]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def agree(checkpoint: str, texts: Sequence[str]) -> float:
    """The largest difference of a quality between the native head and the twin."""
    native, twin = (load(checkpoint, claims(32), kind=kind) for kind in (None, "mf_numpy"))

    def gap(text: str) -> float:
        pairs = zip(native.score([(text, 1.0)]).quality, twin.score([(text, 1.0)]).quality, strict=True)
        return max(abs(a - b) for a, b in pairs)

    return max(map(gap, texts))


def thread_safe(head: Head, texts: Sequence[str], threads: int = 8) -> bool:
    """Whether many threads on one scorer get, to the bit, what one gets."""
    alone = [head.score([(text, 1.0)]) for text in texts]
    same: list[bool] = []

    def work(offset: int) -> None:
        order = [(i + offset) % len(texts) for i in range(len(texts))]
        same.append(all(head.score([(texts[i], 1.0)]) == alone[i] for i in order))

    pool = [threading.Thread(target=work, args=(31 * i,)) for i in range(threads)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    return len(same) == threads and all(same)


class Contestant:
    """A checkout that decides in a process of its own, whenever it is asked to."""

    def __init__(self, root: Path, checkpoint: str, texts: int) -> None:
        command = [sys.executable, "-P", str(_WORK), checkpoint, str(texts)]
        path = os.pathsep.join([str(root), str(_WORK.parent)])
        env = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        self._process = subprocess.Popen(command, cwd=root, env=env, stdin=-1, stdout=-1, text=True)
        about = self._read()
        if not Path(about["router"]).is_relative_to(root):
            self.close()
            raise SystemExit(f"{root}: expected its own `router`, got {about['router']}")
        self.chosen = about["chosen"]

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args[2]}: ended with status {self._process.wait()}")
        return json.loads(line)

    def p50_us(self) -> list[float]:
        """With 2 and with 32 models."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return list(self._read())

    def close(self) -> None:
        self._process.communicate()


def paired(base: Path, checkpoint: str, texts: int, runs: int) -> dict[str, Any]:
    """Ours beside another checkout: the same texts, in turns, the first of a pair by turns too."""
    roots = (report.ROOT, base.resolve())
    taken: list[list[list[float]]] = [[], []]
    with contextlib.ExitStack() as stack:
        both = [stack.enter_context(contextlib.closing(Contestant(root, checkpoint, texts))) for root in roots]
        if both[0].chosen != both[1].chosen:
            raise SystemExit("the two checkouts decide differently: nothing is timed")
        for run in range(runs):
            for which in (0, 1) if run % 2 else (1, 0):
                taken[which].append(both[which].p50_us())
    found: dict[str, Any] = {"base": {}}
    for at, models in enumerate((2, 32)):
        ours, theirs = ([times[at] for times in one] for one in taken)
        each = report.spread(report.ratios(ours, theirs), 4)
        found[f"ratio_{models}"] = each["median"]
        found["base"][f"{models}_models"] = {
            "ratio": each, "ours_us": report.spread(ours), "base_us": report.spread(theirs),
        }  # fmt: skip
    return found


def measure(args: argparse.Namespace) -> dict[str, Any]:
    words = prose()
    short, long = windows(words, SHORT, 60 if args.quick else 600), windows(words, LONG, 3 if args.quick else 12)
    gap = agree(args.checkpoint, short[:: len(short) // 20])
    if gap > 1e-4:
        raise SystemExit(f"the native head and its twin differ by {gap:.2e}: nothing is timed")
    bodies = [prompts.chat(text) for text in short]
    served_two, served_many = served(args.checkpoint, 2), served(args.checkpoint, 32)
    asked, asked_long = list(map(query, short)), list(map(query, long))
    two, many = decider(args.checkpoint, 2), decider(args.checkpoint, 32)
    if [decision.model for decision in map(many, asked)] != list(map(served_many, bodies)):
        raise SystemExit("the served decision is not policy.decide's: nothing is timed")
    plain = decider(args.checkpoint, 2, "mf_numpy")
    head = load(args.checkpoint, claims(2))
    contestants: dict[str, Callable[[], float]] = {
        "p50_us": lambda: statistics.median(microseconds(two, asked)),
        "p99_us": lambda: report.quantile(microseconds(two, asked), 0.99),
        "p50_us_32_models": lambda: statistics.median(microseconds(many, asked)),
        "served_p50_us": lambda: statistics.median(microseconds(served_two, bodies)),
        "served_p50_us_32_models": lambda: statistics.median(microseconds(served_many, bodies)),
        "score_p50_us": lambda: statistics.median(microseconds(lambda q: head.score(((q.turns[0].text, 1.0),)), asked)),
        "ms_8000_words": lambda: statistics.median(microseconds(two, asked_long)) / 1e3,
        "load_ms": lambda: load_ms(args.checkpoint),
        "numpy_p50_us": lambda: statistics.median(microseconds(plain, asked[:: max(1, len(short) // 30)])),
    }
    runs: dict[str, list[float]] = {name: [] for name in contestants}
    for run in range(args.runs):
        report.progress(f"run {run + 1} of {args.runs}")
        for name, contestant in contestants.items():
            runs[name].append(contestant())
    spreads = {name: report.spread(values) for name, values in runs.items()}
    return {
        **{name: spread["median"] for name, spread in spreads.items()},
        "thread_safe": thread_safe(head, short[:200] + long[:2]),
        "pieces_p50": statistics.median(head.score([(text, 1.0)]).prompt_tokens for text in short),
        "isa": scorer.isas()[0],
        "largest_difference_to_numpy": gap,
        "checkpoint": args.checkpoint,
        "spread": spreads,
        **({} if args.base is None else paired(args.base, args.checkpoint, len(short), 3 * args.runs)),
    }


def main() -> None:
    parser = report.parser(__doc__.splitlines()[0], runs=7)
    parser.add_argument("--checkpoint", default="default", help="`default`, or a path")
    parser.add_argument("--base", type=Path, help="another checkout, built, to be timed beside this one")
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    report.finish(args, "decision", measure(args), goals=GOALS, distributions=("numpy", "cython", "msgspec"))


if __name__ == "__main__":
    main()
