"""`headgate train`: outcome tables to a checkpoint, with progress, and held-out figures on standard output."""

import argparse
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

from router.cli import numbers, train_add_model, train_verifier
from router.cli.bar import Bar
from router.cli.paths import home_path

if TYPE_CHECKING:
    from router.learn.fit.training import Report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tables", nargs="+", type=home_path, metavar="TABLE", help="outcomes: .parquet or .jsonl")
    parser.add_argument("--out", type=home_path, required=True, metavar="FILE", help="the checkpoint to write")
    parser.add_argument("--router", default="mf", metavar="NAME", help="the method (default: mf); see --list-routers")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of the method, its value as YAML, as in --option neighbours=50 (docs/routers.md)",
    )
    parser.add_argument(
        "--rules", type=home_path, metavar="FILE", help="for --router rules: the rules, as YAML or JSON"
    )
    train_verifier.add_arguments(parser)
    train_add_model.add_arguments(parser)
    parser.add_argument("--list-routers", action=_ListRouters, nargs=0, help="show all methods, and exit")
    parser.add_argument(
        "--size", choices=("small", "default"), default="default", help="small: no static table, <= 1 MB"
    )
    parser.add_argument(
        "--pair",
        action="append",
        default=[],
        metavar="WEAK,STRONG",
        help="report this pair (default: a table's extremes)",
    )
    parser.add_argument("--folds", type=numbers.folds, default=5, help="held-out folds (default: 5)")
    parser.add_argument(
        "--calibration",
        choices=("platt", "isotonic", "none"),
        default="platt",
        help="how predicted quality is made a probability: a line or a rising curve per model (default: platt)",
    )
    parser.add_argument("--seed", type=numbers.seed, default=None, help="of hashing and folds (default: the recipe's)")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object")


def run(args: argparse.Namespace) -> int:
    import msgspec

    from router.errors import ConfigError

    if train_add_model.wanted(args):
        return train_add_model.run(args)
    if train_verifier.wanted(args):
        return train_verifier.run(args)
    try:
        from router.learn.fit.recipe import SIZES
        from router.learn.fit.training import run as train
    except ModuleNotFoundError as error:
        raise ConfigError(f"training needs {error.name}: pip install 'headgate-router[train]'") from error
    recipe = SIZES[args.size]
    if args.seed is not None:
        recipe = msgspec.structs.replace(recipe, seed=args.seed)
    with Bar(shown=not args.json) as bar:
        report = train(
            args.tables, args.out, recipe, router=args.router, options=_options(args), folds=args.folds,
            pairs=pairs_of(args.pair), calibration=args.calibration, command=_command(args),
            on_stage=bar.stage, on_step=bar.step,
        )  # fmt: skip
    print(msgspec.json.encode(report).decode() if args.json else _text(report))
    return 0


class _ListRouters(argparse.Action):
    """As `--version` does: whatever else stands on the line."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from router.learn import routers

        for name in routers.names():
            print(f"{name:12} {routers.about(name)}")
        parser.exit()


def _options(args: argparse.Namespace) -> dict[str, object]:
    from router.errors import ConfigError
    from router.learn import settings_text

    out: dict[str, object] = {}
    for text in args.option:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"--option: expected KEY=VALUE, got {text!r}")
        out[key] = settings_text.of_text(value, f"--option {key}")
    if args.rules is not None:
        if args.router != "rules":
            raise ConfigError(f"--rules: expected --router rules beside it, got {args.router}")
        from router.learn.routers.rules import rules_file

        out["rules"] = rules_file(args.rules)
    return out


def pairs_of(texts: Sequence[str]) -> list[tuple[str, str]]:
    from router.errors import ConfigError
    from router.learn.data.outcomes import model_name

    out = []
    for text in texts:
        weak, comma, strong = text.partition(",")
        if not comma or not weak or not strong:
            raise ConfigError(f"--pair: expected WEAK,STRONG, got {text!r}")
        out.append((model_name(weak), model_name(strong)))
    return out


def _command(args: argparse.Namespace) -> str:
    """The command again, without paths of this machine: what the checkpoint says it was made by."""
    from router.learn.data.records import told

    parts = ["headgate train", *(table.name for table in args.tables), "--size", args.size, "--folds", str(args.folds)]
    if args.router != "mf":
        parts += ["--router", args.router]
    for option in args.option:
        key, _, value = option.partition("=")
        parts += ["--option", f"{key}={Path(value).name}" if Path(value).exists() else option]
    if args.rules is not None:
        parts += ["--rules", args.rules.name]
    for pair in args.pair:
        parts += ["--pair", pair]
    if args.calibration != "platt":
        parts += ["--calibration", args.calibration]
    return told(" ".join(parts if args.seed is None else [*parts, "--seed", str(args.seed)]))


def _interval(low: float, high: float) -> str:
    return "(no interval: one prompt)" if isnan(low) else f"[{low:.3f}, {high:.3f}]"


def _text(report: "Report") -> str:
    lines = [f"{report.out}: {report.bytes / 1e6:.2f} MB, {report.prompts} prompts, {len(report.models)} models", ""]
    lines += [f"No held-out figures of {one}" for one in report.unmeasured]
    if report.held_out:
        lines.append("Held out (APGR: 0.5 is chance; CPT: share of strong calls that reaches 50 and 80 % of the gain):")
    for held in report.held_out:
        f = held.figures
        lines.append(
            f"  {held.weak} -> {held.strong} ({held.table}, {f.prompts} prompts): "
            f"APGR {f.apgr:.3f} {_interval(f.low, f.high)}, CPT50 {f.cpt50:.1%}, CPT80 {f.cpt80:.1%}"
        )
    return "\n".join([*lines, *_lengths(report)])


def _lengths(report: "Report") -> list[str]:
    if not report.lengths:
        return []
    lines = ["", "Output tokens, held out (median error, beside that of the model's mean; deviation of the logarithm):"]
    for one in report.lengths:
        figures = (
            f"{one.error:.1%} ({one.error_mean:.1%}), correlation {one.correlation:.3f}, "
            f"deviation {one.log_sd:.3f} ({one.log_sd_mean:.3f}), sum of predictions {one.level:.3f} of the real one"
        )
        out = "" if one.kept else "; surely no better than its mean: left out"
        lines.append(f"  {one.model} ({one.answers} answers): {figures}{out}")
    return lines
