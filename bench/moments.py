"""What deciding before, during and after an answer is worth on live engines: accuracy over engine seconds, against the
large model alone, deciding before only, a threshold cascade and the length rule.

The zoo's small and large model, greedy answers, graded. Each setting of each policy answers the same questions, block
by block, in turns: `--prices` of lambda for what Headgate decides; for the rivals, thresholds on the least and on the
mean log-probability of the draft (how many are sent on), and tokens after which the large model goes on. Each is tuned
on the questions that all are measured on. The threshold cascade knows the log-probabilities from a pass that is not
timed. Engine seconds are CPU seconds of the engine cores.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import launch
import moments_curves
import moments_picture
import price_pool
import report
from moments_asking import Asker, Question
from moments_curves import Curve, Point

from router.learn.bench import workload

GOALS = (
    report.Goal("large_share", 0.35),
    report.Goal("engine_vs_large", 0.55),
    report.Goal("engine_vs_before", 0.85),
    report.Goal("engine_vs_cascade", 0.92),
    report.Goal("engine_vs_length", 0.92),
    report.Goal("worst_gap_beyond_noise", 0.0, at_most=False),
)
_ZOO = report.ROOT / "examples" / "zoo"
OURS = ("auto", "cascade", "handoff", "before")
QUALITY = 0.98  #: of the large model's accuracy, at which engine seconds are compared


def settings(prices: Sequence[float], shares: Sequence[float], lengths: Sequence[int]) -> list[tuple[str, float]]:
    """Policy and its parameter; of the two single models there is none."""
    found: list[tuple[str, float]] = [("small", 0.0), ("large", 0.0)]
    found += [(name, price) for price in prices for name in OURS]
    found += [(name, share) for name in ("least", "mean") for share in shares]
    return found + [("length", float(tokens)) for tokens in lengths]


def pool_of(args: argparse.Namespace) -> price_pool.Pool:
    """The two members that are compared, by the names that were asked for. Raises SystemExit."""
    read = price_pool.of_file(args.pool, args.workload, None, {})
    chosen = [member for name in (args.small, args.large) for member in read.members if member["name"] == name]
    if len(chosen) != 2:
        raise SystemExit(f"--small, --large: expected two of {', '.join(read.names)}")
    routing = {**read.routing, "verifier": str(args.verifier.resolve())}
    return read._replace(members=chosen, routing=routing)


def measure(args: argparse.Namespace, pool: price_pool.Pool) -> tuple[dict[str, Any], dict[str, Curve]]:
    questions = [Question.of(item) for item in workload.read(args.workload, None).items][: args.questions]
    blocks = [questions[i :: args.rounds] for i in range(args.rounds)]
    turns = settings(args.prices, args.shares, args.lengths)
    points = {turn: Point.empty(*turn) for turn in turns}
    with price_pool.run(pool, ()) as running:
        asker = Asker(running.pool, *pool.names, streams=args.streams, set_price=price_pool.set_price)
        report.progress(f"drafts of {len(questions)} questions, with log-probabilities")
        asker.draft(questions)
        for number, block in enumerate(blocks):
            for turn in turns:
                begun = time.monotonic()
                points[turn].add(asker.turn(*turn, block))
                report.progress(f"round {number + 1}/{len(blocks)}, {turn[0]} {turn[1]:g}: {points[turn]} "
                                f"({time.monotonic() - begun:.0f} s)")  # fmt: skip
    curves = moments_curves.by_policy(points.values())
    return figures(curves), curves


def figures(curves: Mapping[str, Curve]) -> dict[str, Any]:
    large = curves["large"].points[0]
    goal = QUALITY * large.accuracy
    at = {name: curve.cheapest(goal) for name, curve in curves.items()}
    ours = at["auto"]
    found: dict[str, Any] = {"questions": len(large.scores), "accuracy_large": large.accuracy, "goal_accuracy": goal}
    rivals = {"large": [at["large"]], "before": [at["before"]], "cascade": [at["least"], at["mean"]],
              "length": [at["length"]]}  # fmt: skip
    for name, points in rivals.items():
        costs = [point.engine_s for point in points if point is not None]
        found[f"engine_vs_{name}"] = round(ours.engine_s / min(costs), 4) if ours is not None and costs else None
    found["large_share"] = None if ours is None else round(ours.large_share, 4)
    gap, noise = moments_curves.worst_gap(
        curves["auto"], [curves[name] for name in ("before", "least", "mean", "length")]
    )
    found |= {
        "worst_gap": round(gap, 4),
        "noise": round(noise, 4),
        "worst_gap_beyond_noise": round(min(0.0, gap + noise), 4),
    }
    found["at_goal"] = {name: None if point is None else point.told() for name, point in at.items()}
    found["curves"] = {name: [point.told() for point in curve.points] for name, curve in curves.items()}
    return found


def main() -> None:
    args = arguments().parse_args()
    if args.quick:
        args.questions, args.rounds, args.prices, args.shares, args.lengths = 8, 1, [300.0], [0.2], [16]
    for flag in ("pool", "workload", "verifier"):
        if not getattr(args, flag).is_file():
            raise SystemExit(f"--{flag}: {getattr(args, flag)}: no such file")
    launch.prefer(args.priority)
    found, curves = measure(args, pool_of(args))
    if args.picture is not None:
        moments_picture.draw(curves, args.picture)
    report.finish(args, "moments", found, goals=GOALS, distributions=("vllm", "torch"))


def arguments() -> argparse.ArgumentParser:
    parser = report.parser(__doc__ or "", runs=1)
    parser.add_argument("--pool", type=Path, default=_ZOO / "headgate.yaml")
    parser.add_argument("--workload", type=Path, default=_ZOO / "workload.jsonl", help="graded questions")
    parser.add_argument("--verifier", type=Path, default=_ZOO / "verifier.safetensors")
    parser.add_argument("--small", default="zoo-small")
    parser.add_argument("--large", default="zoo-large")
    parser.add_argument("--questions", type=int, default=240, help="at most")
    parser.add_argument("--rounds", type=int, default=2, help="blocks of questions, each asked in turns")
    parser.add_argument("--streams", type=int, default=2, help="requests at a time")
    parser.add_argument("--prices", type=_numbers, default=[30.0, 100.0, 300.0, 1000.0, 3000.0], metavar="L,L,...",
                        help="levels of lambda")  # fmt: skip
    parser.add_argument("--shares", type=_numbers, default=[0.2, 0.35, 0.5, 0.65], metavar="S,S,...",
                        help="of drafts that the threshold cascade sends on")  # fmt: skip
    parser.add_argument("--lengths", type=_numbers, default=[4.0, 8.0, 16.0, 24.0], metavar="T,T,...",
                        help="tokens after which the length rule hands over")  # fmt: skip
    parser.add_argument("--picture", type=Path, help="a PNG of accuracy over engine seconds")
    return parser


def _numbers(text: str) -> list[float]:
    try:
        found = [float(one) for one in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 <= one < 1e9 for one in found):
        raise argparse.ArgumentTypeError(f"expected numbers as in 1,2.5; got {text!r}")
    return found


if __name__ == "__main__":
    main()
