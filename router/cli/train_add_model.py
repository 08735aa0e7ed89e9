"""`headgate train --add-model`: a model more for a checkpoint, from a few labels; all else in it stays as it is."""

import argparse
import shlex
from typing import TYPE_CHECKING

from router.cli.paths import checkpoint

if TYPE_CHECKING:
    from router.learn.fit.add_model import Added


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("a new model for a checkpoint (docs/growing.md)")
    group.add_argument("--add-model", metavar="NAME", help="fit this model of the tables only")
    group.add_argument(
        "--base", type=checkpoint, metavar="CHECKPOINT", help="that it is added to: a path, or `default`"
    )
    group.add_argument("--strength", type=float, metavar="X", help="its MMLU-Pro accuracy, 0 to 1, if known")


def wanted(args: argparse.Namespace) -> bool:
    """Raises ConfigError where a flag of this stands alone, or beside one of a whole training."""
    from router.errors import ConfigError

    if not args.add_model:
        for flag, given in (("--base", args.base), ("--strength", args.strength)):
            if given is not None:
                raise ConfigError(f"{flag}: expected --add-model NAME beside it")
        return False
    if args.base is None:
        raise ConfigError("--add-model: expected --base CHECKPOINT beside it")
    if args.router != "mf" or args.option or args.pair:
        raise ConfigError("--add-model: takes neither --router nor --option nor --pair")
    if args.strength is not None and not 0 <= args.strength <= 1:
        raise ConfigError(f"--strength: expected 0 to 1, got {args.strength:g}")
    return True


def run(args: argparse.Namespace) -> int:
    import msgspec

    from router.errors import ConfigError

    try:
        from router.learn.fit.add_model import run as add
    except ModuleNotFoundError as error:
        raise ConfigError(f"training needs {error.name}: pip install 'headgate-router[train]'") from error
    report = add(args.tables, args.base, args.add_model, args.out, strength=args.strength, command=_command(args))
    print(msgspec.json.encode(report).decode() if args.json else _text(report))
    return 0


def _command(args: argparse.Namespace) -> str:
    """Without paths of this machine."""
    from router.learn.data.records import told

    base = args.base.rpartition("/")[2]
    parts = ["headgate train", *(table.name for table in args.tables), "--add-model", shlex.quote(args.add_model)]
    strength = [] if args.strength is None else ["--strength", f"{args.strength:g}"]
    return told(" ".join([*parts, "--base", base, *strength]))


def _text(report: "Added") -> str:
    brier, told = report.brier, "its strength alone" if report.strength is not None else "the other models alone"
    note = "\nThe base was trained on this table's prompts: these figures are too good (docs/growing.md)"
    return (
        f"{report.out}: {report.models} models; {report.model} added from {report.labels} labels\n"
        f"Brier score of its quality, each label predicted by the others: {brier.added:.4f} "
        f"(by {told} {brier.placed:.4f}, by their mean {brier.constant:.4f})" + (note if report.seen else "")
    )
