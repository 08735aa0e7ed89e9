"""`headgate train --router verifier`: answered tables to what judges answers, with its held-out figures."""

import argparse
from typing import TYPE_CHECKING

from router.cli import quantities
from router.cli.bar import Bar
from router.cli.paths import home_path

if TYPE_CHECKING:
    from router.learn.verifier import Report
    from router.learn.verifier.judge_training import Beside, JudgeReport

NAME = "verifier"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--responses",
        action="append",
        default=[],
        type=home_path,
        metavar="FILE",
        help="for --router verifier: answers, by prompt_id, where the tables have no `response` (docs/verifier.md)",
    )
    parser.add_argument(
        "--judged",
        action="append",
        default=[],
        metavar="MODEL",
        help="for --router verifier: whose answers it learns to judge (default: all that are there)",
    )
    parser.add_argument(
        "--cost-ratio",
        type=quantities.positive,
        metavar="R",
        help="for --router verifier: a token of the better model costs as much as R of the judged one (default: by "
        "the tables' cost_usd)",
    )


def wanted(args: argparse.Namespace) -> bool:
    """Raises ConfigError where a verifier's flag stands beside another method, or another's beside a verifier."""
    from router.errors import ConfigError

    asked = bool(args.router == NAME)
    if not asked:
        for flag, given in (
            ("--responses", args.responses), ("--judged", args.judged), ("--cost-ratio", args.cost_ratio is not None),
        ):  # fmt: skip
            if given:
                raise ConfigError(f"{flag}: expected --router {NAME} beside it, got {args.router}")
    elif args.pair or args.option:
        raise ConfigError(f"--router {NAME}: takes neither --pair nor --option")
    return asked


def run(args: argparse.Namespace) -> int:
    import msgspec

    from router.errors import ConfigError

    try:
        from router.learn.verifier import run as train
    except ModuleNotFoundError as error:
        raise ConfigError(f"training needs {error.name}: pip install 'headgate-router[train]'") from error
    with Bar(shown=not args.json) as bar:
        report = train(
            args.tables, args.responses, args.judged, args.out, folds=args.folds, seed=args.seed or 0,
            cost_ratio=args.cost_ratio, command=_command(args), on_stage=bar.stage, on_step=bar.step,
        )  # fmt: skip
    print(msgspec.json.encode(report).decode() if args.json else _text(report))
    return 0


def _command(args: argparse.Namespace) -> str:
    """Without paths of this machine."""
    from router.learn.data.records import told

    parts = ["headgate train --router", NAME, *(table.name for table in args.tables)]
    parts += [word for path in args.responses for word in ("--responses", path.name)]
    parts += [word for model in args.judged for word in ("--judged", model)]
    if args.cost_ratio is not None:
        parts += ["--cost-ratio", f"{args.cost_ratio:g}"]
    seed = [] if args.seed is None else ["--seed", str(args.seed)]
    return told(" ".join([*parts, "--folds", str(args.folds), *seed]))


def _text(report: "Report") -> str:
    held = report.held_out
    return "\n".join(
        (
            f"{report.out}: {report.bytes / 1e3:.1f} kB, {report.answers} answers of {', '.join(report.models)}, "
            f"{report.right:.1%} right",
            "",
            "Held out (AUC: a right answer is put above a wrong one, 0.5 is chance):",
            f"  AUC {held.auc:.3f} (length alone {held.length_auc:.3f}), "
            f"Brier score {held.brier:.4f} (the mean alone {held.base_brier:.4f}), calibration error {held.ece:.3f}",
            *_judge(report.judge),
        )
    )


def _judge(report: "JudgeReport") -> list[str]:
    rows = [("in domain", report.in_domain)]
    if report.left_out is not None:
        rows += [("a kind of task left out", report.left_out)]
        rows += [(f"  {name}", one) for name, one in report.kinds.items()]
    columns = ("judge", "mean_logprob", "least_logprob", "length", "prior")
    width = max(len(name) for name, _ in rows)
    heads = ("judge", "mean logprob", "least logprob", "length", "prior")
    lines = ["", "The judge of running and whole answers, held out (AUROC; - where it is not known of all answers):"]
    lines.append(" ".join([" " * (width + 2), f"{'answers':>8}", *(f"{head:>13}" for head in heads)]))
    for name, one in rows:
        cells = (_cell(one, column) for column in columns)
        lines.append(" ".join([f"  {name:{width}}", f"{one.answers:>8}", *(f"{cell:>13}" for cell in cells)]))
    if report.left_out is None:
        lines.append("  All answers are of one kind of task: how it does on others is not known")
    lines.append(
        f"  In domain: Brier score {report.brier:.4f} (the mean alone {report.base_brier:.4f}), "
        f"calibration error {report.ece:.3f}"
    )
    lines.append(f"  A mean of {', '.join(f'{share:.0%} {name}' for name, share in report.experts.items())}")
    for model, statistic in report.running.items():
        lines.append(f"  Running answers of {model or 'other models'}: by {statistic} at the knots")
    for model, probe in report.probes.items():
        use = "used" if probe.used else "not above noise, not used"
        lines.append(
            f"  First token's logits of {model}: AUROC {probe.probe:.3f}, prior alone {probe.prior:.3f}: {use}"
        )
    return [*lines, *_gains(report)]


def _gains(report: "JudgeReport") -> list[str]:
    if not report.gains:
        return ["", f"Gains over deciding before the answer only: {report.measured}.", "  Before only: all else is off"]
    lines = ["", f"Area of quality over cost, more than deciding before the answer only ({report.measured}):"]
    for way, gain in report.gains.items():
        use = "on" if gain.told > 0 else "not above noise: off"
        lines.append(f"  {way:8} {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]  {use}")
    if not any(gain.told > 0 for gain in report.gains.values()):
        lines.append("  Before only")
    return lines


def _cell(of: "Beside", column: str) -> str:
    value = getattr(of, column)
    return "-" if value is None else f"{value:.3f}"
