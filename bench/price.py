"""Throughput per dollar of a pool, against its largest model alone with the whole machine, a tuned static threshold and
join-the-shortest-queue: the highest load each holds, and dollars per thousand good answers at half of that load.

Real engines (examples/zoo, or --pool) under `headgate bench`, which sends, grades and keeps every request. One run:
1. all are asked while idle; the SLO is 5 x the median TTFT and 3 x the median TPOT of the large model alone;
2. lambda is found on the labels by `headgate calibrate`, as the static threshold is by the bench: both keep .97 of the
   largest model's quality there;
3. rates grow by 1.25 until a policy does not hold one, policies in turns, in rounds;
4. the pool and the best of the large model's settings at half of the pool's load.
A load is held where 99 % of the requests are within the SLO, and quality is .95 of the large model's on the same
questions. Dollars are CPU seconds of engines, at one price a core. --with FILE puts figures of other benches beside.
"""

import argparse
import contextlib
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import burst
import cost
import cpu
import launch
import load_generator
import objective as objective_bench
import price_loads
import price_pool
import replicas
import report
import simulate
import waiting
from price_loads import Asked, Held, Ramp
from price_pool import Alone, Pool, Running

from router.cli import admin_port
from router.learn.bench.plan import Slo

GOALS = (
    report.Goal("load_vs_large", 1.5, at_most=False),
    report.Goal("load_vs_static", 1.15, at_most=False),
    report.Goal("load_vs_jsq", 1.15, at_most=False),
    report.Goal("dollars_vs_large", 0.6),
    *cost.GOALS,
)
#: Figures of other benches: `--with` takes those that a file has.
OTHERS = (
    *burst.GOALS,
    *objective_bench.GOALS,
    *waiting.GOALS,
    *replicas.GOALS,
    *simulate.GOALS,
    *load_generator.GOALS,
    report.Goal("plan_err", 0.05),
)
TTFT_TIMES, TPOT_TIMES = 5.0, 3.0  #: the SLO, over the unloaded medians of the large model alone
QUALITY, AIM, ATTAIN = 0.95, 0.97, 0.99
FACTOR = 1.25
POLICIES = ("auto", "static", "jsq")
_ZOO = report.ROOT / "examples" / "zoo"


class Lengths(NamedTuple):
    """Of turns and rounds."""

    rounds: int
    seconds: float
    warmup_s: float
    idle_s: float  #: of the first stage's turns
    idle_per_s: float
    most_levels: int


QUICK = Lengths(rounds=1, seconds=2.0, warmup_s=0.5, idle_s=2.0, idle_per_s=3.0, most_levels=2)


class Bench:
    """`headgate bench` on what runs, its output a folder a stage."""

    def __init__(self, running: Running, pool: Pool, folder: Path) -> None:
        self._running, self._pool, self.folder = running, pool, folder

    def run(self, stage: str, policies: Sequence[str], targets: Sequence[str], *flags: str) -> dict[str, Any]:
        """Its JSON."""
        words = ["bench", "--url", self._running.pool.url, "--admin", self._running.pool.admin, "--json"]
        words += ["--workload", str(self._pool.workload), "--out", str(self.folder / stage), "--anew"]
        words += ["--draws", "1000"]
        words += [word for name in policies for word in ("--policy", name)]
        words += [word for target in targets for word in ("--target", target)]
        found: dict[str, Any] = json.loads(said(*words, *flags))
        return found


def said(*words: str) -> str:
    """What a `headgate` verb prints. Raises RuntimeError with its error."""
    done = subprocess.run(price_pool.headgate(*words), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"headgate {words[0]}: {done.stderr[-3000:] or done.returncode}")
    return done.stdout


def measure(
    pool: Pool, settings: Sequence[Alone], lengths: Lengths, start: float, out: Path, drawn: bool
) -> dict[str, Any]:
    names = [how.name for how in settings]
    pictures = () if drawn else ("--no-pictures",)
    with price_pool.run(pool, settings) as running:
        bench = Bench(running, pool, out)
        found: dict[str, Any] = {"idle_cores": idle_cores(running.pool.pid, lengths.idle_s)}
        report.progress("1 of 3: idle engines")
        idle = unloaded(bench, running, pool, lengths)
        slo, first = objective(idle, names)
        found |= {"slo_ttft_ms": slo.ttft_ms, "slo_tpot_ms": slo.tpot_ms, "idle": idle}
        found["price"] = calibrated(running.pool, pool, out)
        first = start or first
        most = first * FACTOR ** (lengths.most_levels - 1)
        report.progress(f"2 of 3: loads from {first:.3g} requests/s by {FACTOR:g}, to {most:.3g} at most")
        asked = f"ttft_ms={slo.ttft_ms},tpot_ms={slo.tpot_ms}"
        turns = ("--slo", asked, "--seconds", str(lengths.seconds), "--warmup", str(lengths.warmup_s), "--rounds",
                 str(lengths.rounds))  # fmt: skip
        ramp = ("--ramp", f"{first},{FACTOR},{most}", "--attain", str(ATTAIN), "--keep", str(AIM))
        bench.run("ramp", POLICIES, running.targets, *turns, *ramp, *pictures)
        compared, best, half = compare(Ramp.of(out / "ramp"), names, Asked(slo, QUALITY, ATTAIN))
        found |= compared
        if half:
            report.progress(f"3 of 3: half of the load, {half:.3g} requests/s")
            target = running.targets[names.index(best)]
            at_half = ("--rate", str(half), "--against", best, *pictures)
            measured = bench.run("half", ["auto"], [target], *turns, *at_half)
            found |= dollars(Ramp.of(out / "half"), measured, best)
        return found | errors(running.pool, pool)


def unloaded(bench: Bench, running: Running, pool: Pool, lengths: Lengths) -> dict[str, dict[str, float]]:
    """Medians of each member and of the large model alone, asked seldom. The pool's rates are learnt meanwhile."""
    flags = ("--rate", str(lengths.idle_per_s), "--arrivals", "constant", "--seconds", str(lengths.idle_s), "--rounds",
             "1", "--no-pictures", "--warmup", str(lengths.warmup_s))  # fmt: skip
    found = bench.run("idle", pool.names, running.targets, *flags)
    keys = ("quality", "ttft_p50_ms", "tpot_p50_ms", "e2e_p50_ms", "engine_s_per_request")
    return {
        one["policy"]: {key: round(one["figures"][key]["value"], 4) for key in keys if key in one["figures"]}
        for one in found["measured"]
    }


def objective(idle: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> tuple[Slo, float]:
    """The SLO, by the faster of the large model's settings; and as the lowest rate what one request at a time gives."""
    medians = {
        key: min(idle[name][key] for name in names if key in idle[name])
        for key in ("ttft_p50_ms", "tpot_p50_ms", "e2e_p50_ms")
    }
    ttft_ms, tpot_ms = TTFT_TIMES * medians["ttft_p50_ms"], TPOT_TIMES * medians["tpot_p50_ms"]
    return Slo(ttft_ms=round(ttft_ms, 1), tpot_ms=round(tpot_ms, 2)), round(1e3 / medians["e2e_p50_ms"], 2)


def calibrated(server: launch.Server, pool: Pool, folder: Path) -> float | None:
    """Lambda by which the labels' questions keep AIM of the largest model's predicted quality, at the rates that the
    engines have shown; the server goes by it. None: there are no labels, the config's stays."""
    if pool.labels is None:
        return None
    load = folder / "members.json"
    load.write_bytes(admin_port.ask(server.admin, "/members"))
    words = ("--quality", str(AIM), "--on", str(pool.labels), "--load", str(load), "--dry-run", "--json")
    price = float(json.loads(said("calibrate", str(server.config), *words))["value"])
    price_pool.set_price(server, price)
    return price


def compare(ramp: Ramp, names: Sequence[str], asked: Asked) -> tuple[dict[str, Any], str, float]:
    """Figures of the ramp, which setting of the large model held the most, and half of the pool's load (0: none)."""
    reference = price_loads.grades(ramp, names[0])
    loads = {name: price_loads.held(ramp, name, asked, reference) for name in (*POLICIES, *names)}
    best = max(names, key=lambda name: loads[name].load or 0.0)
    any_quality = price_loads.held(ramp, "jsq", asked._replace(quality=0.0), reference)
    ours = loads["auto"]
    ratios = {
        "load_vs_large": price_loads.ratio(ours, loads[best]),
        "load_vs_static": price_loads.ratio(ours, loads["static"]),
        "load_vs_jsq": price_loads.ratio(ours, loads["jsq"]),
        "load_vs_jsq_any_quality": price_loads.ratio(ours, any_quality),
    }
    found: dict[str, Any] = {key: None if of is None else of["median"] for key, of in ratios.items()}
    found |= {f"{key}_rounds": of for key, of in ratios.items()}
    found |= {f"load_{name.replace('-', '_')}": held.load for name, held in loads.items()}
    found |= {"large": best, "policies": {name: held.told() for name, held in loads.items()}}
    found["load_jsq_any_quality"] = any_quality.load
    found["slo_kept_to_the_top"] = [name for name, held in loads.items() if held.at_top]
    found["not_held"] = {name: why(held, asked) for name, held in loads.items() if held.load is None}
    return found, best, (ours.load or 0.0) / 2


def why(held: Held, asked: Asked) -> str:
    """Why a policy holds no load, by its lowest level."""
    if not held.levels:
        return "not measured"
    lowest = held.levels[0]
    if lowest.quality is not None and lowest.quality < asked.quality:
        return f"at {lowest.rate:g} requests/s its quality is {lowest.quality:.3f} of the large model's"
    return (
        f"at {lowest.rate:g} requests/s {lowest.slo_share:.3f} of the requests are within the SLO: begin lower (--from)"
    )


def dollars(ramp: Ramp, found: Mapping[str, Any], best: str) -> dict[str, Any]:
    """Engine seconds, at one price a core, of a good answer: the pool's over the large model's, round by round."""
    ours, theirs = (price_loads.seconds_a_good_answer(ramp, name) for name in ("auto", best))
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b]
    spread = report.spread(report.ratios(*zip(*pairs, strict=True))) if pairs else None
    keys = ("quality", "slo_share", "usd_per_thousand_good", "engine_s_per_request", "ttft_p95_ms", "tpot_p95_ms")
    return {
        "dollars_vs_large": spread and spread["median"],
        "dollars_vs_large_rounds": spread,
        "half_rate": ramp.rates[0],
        "half": {
            one["policy"]: {"shares": one["shares"], **{key: one["figures"].get(key) for key in keys}}
            for one in found["measured"]
        },
    }


def errors(server: launch.Server, pool: Pool) -> dict[str, Any]:
    """Of the step model, on this run's requests (bench/cost.py); nothing of stubs, which send no step sums."""
    return {} if pool.stub else cost.errors(server.url, pool.names)


def idle_cores(pid: int, seconds: float) -> float:
    """Cores that the pool takes while nobody asks it: what it takes from the large model alone, in this one's turns."""
    before, begun_s = cpu.tree_seconds(pid), time.monotonic()
    time.sleep(seconds)
    return round(sum(cpu.tree_seconds(pid).since(before)) / (time.monotonic() - begun_s), 4)


def folded(files: Sequence[Path]) -> tuple[dict[str, Any], list[report.Goal]]:
    """Figures of other benches' results with their goals, and which run each file is of.

    Raises SystemExit on a file that is no result.
    """
    figures: dict[str, Any] = {}
    runs = []
    for file in files:
        try:
            told = json.loads(file.read_text(encoding="utf-8").strip())
            runs.append({key: told[key] for key in ("bench", "command", "commit", "time", "quick")})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SystemExit(f"--with: {file}: expected what a bench's --out writes: {error!r}") from None
        figures |= {goal.field: told[goal.field] for goal in OTHERS if goal.field in told}
    goals = list({goal.field: goal for goal in OTHERS if goal.field in figures}.values())  # two tell decide_us
    return {**figures, "with": runs} if files else {}, goals


@contextlib.contextmanager
def outputs(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="headgate-price-") as made:
        yield Path(made)


def main() -> None:
    args = arguments().parse_args()
    launch.prefer(args.priority)
    others, goals = folded(args.with_)
    lengths = QUICK if args.quick else Lengths(args.rounds, args.seconds, args.warmup, 40.0, 0.75, args.levels)
    settings = [Alone(1)] if args.quick else args.threads
    with outputs(args.folder) as out:
        pool = price_pool.of_stubs(out) if args.quick else pool_of(args)
        figures = measure(pool, settings, lengths, args.start, out, args.folder is not None)
        figures["engines"] = price_pool.settings_told(pool, settings)
    report.finish(args, "price", {**figures, **others}, goals=(*GOALS, *goals), distributions=("vllm", "torch"))


def pool_of(args: argparse.Namespace) -> Pool:
    """Raises SystemExit where a file is missing: before engines are started, not after."""
    beside = args.pool.parent
    workload, labels = args.workload or beside / "workload.jsonl", args.labels or beside / "outcomes.parquet"
    for flag, path in (("--pool", args.pool), ("--workload", workload), ("--labels", args.labels)):
        if path is not None and not path.is_file():
            raise SystemExit(f"{flag}: {path}: no such file")
    given = labels if labels.is_file() and not args.as_configured else None
    return price_pool.of_file(args.pool, workload, given, args.config)


def arguments() -> argparse.ArgumentParser:
    parser = report.parser(__doc__ or "", runs=1)
    parser.add_argument(
        "--pool", type=Path, default=_ZOO / "headgate.yaml", help="its members, weakest first; CPU engines"
    )
    parser.add_argument("--workload", type=Path, help="graded questions (default: workload.jsonl beside the pool)")
    parser.add_argument("--labels", type=Path, help="for lambda (default: outcomes.parquet beside the pool)")
    parser.add_argument("--as-configured", action="store_true", help="lambda stays as the config has it")
    parser.add_argument("--config", type=_branches, default={}, metavar="JSON",
                        help="by branch, what stands in the place of the config's keys")  # fmt: skip
    parser.add_argument(
        "--threads",
        type=_threads,
        default=[Alone(1), Alone(2), Alone(1, 2)],
        help="cores of the large model alone: of one engine (2), or of each of several (1x2); behind + tokens that the "
        "smallest model drafts a step; the best one counts",
    )
    parser.add_argument("--from", dest="start", type=float, default=0.0, help="lowest rate; 0: 1 / time of one answer")
    parser.add_argument("--levels", type=int, default=16, help="at most")
    parser.add_argument("--rounds", type=int, default=3, help="of all policies and rates")
    parser.add_argument("--seconds", type=float, default=20.0, help="of a turn")
    parser.add_argument("--warmup", type=float, default=4.0, help="seconds before each turn")
    parser.add_argument("--folder", type=Path, help="keep what `headgate bench` writes, pages and pictures too")
    parser.add_argument("--with", dest="with_", type=Path, action="append", default=[], metavar="FILE",
                        help="another bench's --out: its figures beside these")  # fmt: skip
    return parser


def _threads(text: str) -> list[Alone]:
    found = [re.fullmatch(r"([1-9]\d{0,2})(?:x([1-9]\d?))?(?:\+([1-9]\d?))?", one) for one in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"expected cores[xengines][+drafted tokens] as in 1,2,1x2,1x2+3; got {text!r}")
    settings = [Alone(int(cores), int(engines or 1), int(drafted or 0)) for cores, engines, drafted in
                (one.groups() for one in found if one)]  # fmt: skip
    return list(dict.fromkeys(settings))


def _branches(text: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except ValueError:
        told = None
    if not isinstance(told, dict) or not all(isinstance(of, dict) for of in told.values()):
        raise argparse.ArgumentTypeError(f'expected branches as in {{"routing": {{"price": 50}}}}; got {text!r}')
    return told


if __name__ == "__main__":
    main()
