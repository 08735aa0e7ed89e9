"""`headgate train --router verifier`: answered tables to what judges answers, with its held-out figures."""

import argparse
from typing import TYPE_CHECKING

from router.cli.bar import Bar
from router.cli.paths import home_path

if TYPE_CHECKING:
    from router.learn.verifier import Report

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


def wanted(args: argparse.Namespace) -> bool:
    """Raises ConfigError where a verifier's flag stands beside another method, or another's beside a verifier."""
    from router.errors import ConfigError

    asked = bool(args.router == NAME)
    if not asked:
        for flag, given in (("--responses", args.responses), ("--judged", args.judged)):
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
            command=_command(args), on_stage=bar.stage, on_step=bar.step,
        )  # fmt: skip
    print(msgspec.json.encode(report).decode() if args.json else _text(report))
    return 0


def _command(args: argparse.Namespace) -> str:
    """Without paths of this machine."""
    from router.learn.data.records import told

    parts = ["headgate train --router", NAME, *(table.name for table in args.tables)]
    parts += [word for path in args.responses for word in ("--responses", path.name)]
    parts += [word for model in args.judged for word in ("--judged", model)]
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
        )
    )
