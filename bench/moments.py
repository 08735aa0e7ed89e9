"""What deciding before, during and after an answer is worth on live engines: accuracy over engine seconds, against the
large model alone, deciding before only, a threshold cascade and the length rule.

The models of the zoo, greedy answers, graded. Each setting of each policy answers the same questions, block by block,
in turns: `--prices` of lambda for what Headgate decides; for the rivals, thresholds on the least and on the mean
log-probability of the draft (how many are sent on), and tokens after which the large model goes on, for each model that
may write the draft. Each is tuned on the questions that all are measured on. The threshold cascade knows the
log-probabilities from a pass that is not timed. Engine seconds are CPU seconds of the engine cores.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
OURS = ("auto", "handoff", "before")
QUALITY = 0.98  #: of the large model's accuracy, at which engine seconds are compared


class Setting(NamedTuple):
    policy: str
    writer: str  #: of the draft, or of all; empty: Headgate chooses
    parameter: float


def settings(names: Sequence[str], args: argparse.Namespace) -> list[Setting]:
    """Of the models alone there is one each."""
    found = [Setting("alone", name, 0.0) for name in names]
    found += [Setting(policy, "", price) for price in args.prices for policy in OURS]
    for name in names[:-1]:
        found += [Setting(policy, name, share) for policy in ("least", "mean") for share in args.shares]
        found += [Setting("length", name, tokens) for tokens in args.lengths]
    return found


def pool_of(args: argparse.Namespace) -> price_pool.Pool:
    read = price_pool.of_file(args.pool, args.workload, None, {})
    return read._replace(routing={**read.routing, "verifier": str(args.verifier.resolve())})


def measure(args: argparse.Namespace, pool: price_pool.Pool) -> tuple[dict[str, Any], dict[str, Curve]]:
    questions = [Question.of(item) for item in workload.read(args.workload, None).items][: args.questions]
    blocks = [questions[i :: args.rounds] for i in range(args.rounds)]
    turns = settings(pool.names, args)
    points = {turn: Point(*turn) for turn in turns}
    with price_pool.run(pool, ()) as running:
        asker = Asker(running.pool, pool.names, streams=args.streams, set_price=price_pool.set_price)
        report.progress(f"drafts of {len(questions)} questions, with log-probabilities")
        asker.draft(questions)
        for number, block in enumerate(blocks):
            for turn in turns:
                begun = time.monotonic()
                points[turn].add(asker.turn(*turn, block))
                name = f"{turn.policy} {turn.writer} {turn.parameter:g}"
                report.progress(f"round {number + 1}/{len(blocks)}, {name}: {points[turn]} "
                                f"({time.monotonic() - begun:.0f} s)")  # fmt: skip
    curves = moments_curves.by_policy(points.values())
    return figures(curves, pool.names[-1]), curves


def figures(curves: Mapping[str, Curve], largest: str) -> dict[str, Any]:
    large = next(point for point in curves["alone"].points if point.writer == largest)
    goal = QUALITY * large.accuracy
    at = {name: curve.cheapest(goal) for name, curve in curves.items()}
    ours = at["auto"]
    found: dict[str, Any] = {"questions": len(large.scores), "accuracy_large": large.accuracy, "goal_accuracy": goal}
    rivals = {"large": [large], "before": [at["before"]], "cascade": [at["least"], at["mean"]],
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
        args.questions, args.rounds, args.prices, args.shares, args.lengths = 8, 1, [300.0], [0.2], [16.0]
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
