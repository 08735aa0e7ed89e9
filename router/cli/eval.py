"""`headgate eval`: routers side by side on held-out prompts; a table, JSON, or a folder with plots and one page."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from router.cli import numbers
from router.cli.bar import Bar
from router.cli.paths import checkpoint, home_path

if TYPE_CHECKING:
    from router.learn.evaluate.plan import Plan

LEARNING = "16,64,256,1024,4096"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tables", nargs="+", type=home_path, metavar="TABLE", help="outcomes: .parquet or .jsonl")
    _who(parser.add_argument_group("who"))
    _what(parser.add_argument_group("what is held out (default: folds by question)"))
    _figures(parser.add_argument_group("figures"))
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument(
        "--out", type=home_path, metavar="FOLDER", help="write plots, report.html and evaluation.json there"
    )


def _who(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--router", action="append", default=[], metavar="NAME",
        help="a method to train (default: mf, unless a checkpoint is given)",
    )  # fmt: skip
    group.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME.KEY=VALUE",
        help="a setting of a method, as in --option knn.neighbours=20 (docs/routers.md)",
    )
    group.add_argument("--rules", type=home_path, metavar="FILE", help="for --router rules: the rules, as YAML or JSON")
    group.add_argument(
        "--checkpoint",
        type=checkpoint,
        action="append",
        default=[],
        metavar="PATH",
        help="a trained router as it is; `default`: the bundled one",
    )
    group.add_argument("--size", choices=("small", "default"), default="default", help="of the native head's features")
    group.add_argument(
        "--calibration",
        choices=("platt", "isotonic", "none"),
        default="platt",
        help="of trained routers (default: platt)",
    )


def _what(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--folds", type=numbers.folds, default=5, help="held-out folds (default: 5)")
    group.add_argument("--leave-tasks-out", action="store_true", help="folds of whole tasks")
    group.add_argument("--transfer", nargs=2, metavar=("FROM", "TO"), help="same as --train-on FROM --test-on TO")
    group.add_argument(
        "--train-on", action="append", default=[], metavar="TABLE[:TASK]", help="only this (`*` stands for anything)"
    )
    group.add_argument(
        "--test-on",
        action="append",
        default=[],
        metavar="TABLE[:TASK]",
        help="this, by a fit on all else or --train-on",
    )
    group.add_argument(
        "--learning-curve", nargs="?", const=LEARNING, type=_sizes, default=(), metavar="N,N,...",
        help=f"train on so many labelled prompts a table besides (default: {LEARNING})",
    )  # fmt: skip
    group.add_argument(
        "--prompts", type=numbers.whole(1), default=0, metavar="N", help="at most N prompts a table, at random"
    )
    group.add_argument("--seed", type=numbers.seed, default=0, help="of folds, samples and the bootstrap (default: 0)")


def _figures(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--pair",
        action="append",
        default=[],
        metavar="WEAK,STRONG",
        help="measure this pair (default: a table's extremes)",
    )
    group.add_argument(
        "--models", type=_names, default=(), metavar="NAME,NAME,...", help="measure these alone (all are trained on)"
    )
    group.add_argument("--cpt", type=_reaches, default=(0.5, 0.8), metavar="X,X", help="CPT at X %% (default: 50,80)")
    group.add_argument(
        "--against", default="", metavar="NAME",
        help="take leads over this contestant (default: routellm; of many models: the best single one)",
    )  # fmt: skip
    group.add_argument(
        "--price", action="append", default=[], metavar="MODEL=USD", help="dollars a million tokens, or INPUT/OUTPUT"
    )
    group.add_argument("--prices", type=home_path, metavar="FILE", help="the same, YAML or JSON: `model: USD`")
    group.add_argument("--draws", type=numbers.whole(1, 100_000), default=200, help="bootstrap draws (default: 200)")


def run(args: argparse.Namespace) -> int:
    from router.errors import ConfigError

    try:
        from router.learn.evaluate import output
        from router.learn.evaluate.run import run as evaluate
    except ModuleNotFoundError as error:
        raise ConfigError(f"evaluation needs {error.name}: pip install 'headgate-router[train]'") from error
    plan = _plan(args)
    if args.out is not None:
        output.check_folder(args.out)
    with Bar(shown=not args.json) as bar:
        found = evaluate(plan, bar.stage, bar.step)
        if args.out is not None:
            bar.stage("plots and report", 1)
            output.write(found, args.out)
            bar.step()
    if args.json:
        print(output.json(found))
    else:
        output.show(found, args.out)
    return 0


def _plan(args: argparse.Namespace) -> "Plan":
    import msgspec

    from router.cli.train import pairs_of
    from router.learn.evaluate import costs
    from router.learn.evaluate.pairs import Asked
    from router.learn.evaluate.plan import Plan
    from router.learn.fit.recipe import SIZES

    train_on, test_on = _transfer(args)
    return Plan(
        tables=tuple(args.tables), recipe=msgspec.structs.replace(SIZES[args.size], seed=args.seed),
        routers=_routers(args), options=_options(args),
        checkpoints=tuple(dict.fromkeys(args.checkpoint)), folds=args.folds, leave_tasks_out=args.leave_tasks_out,
        train_on=train_on, test_on=test_on, learning_curve=args.learning_curve, pairs=tuple(pairs_of(args.pair)),
        models=args.models, prices=costs.parsed(args.price, args.prices), calibration=args.calibration,
        prompts=args.prompts, asked=Asked(reaches=args.cpt, against=args.against, draws=args.draws, seed=args.seed),
        command=_command(args),
    )  # fmt: skip


def _routers(args: argparse.Namespace) -> tuple[str, ...]:
    """Each once, and none that stands beside anyhow."""
    from router.learn.evaluate.beside import NAMES

    asked = args.router or ([] if args.checkpoint else ["mf"])
    return tuple(name for name in dict.fromkeys(asked) if name not in NAMES)


def _options(args: argparse.Namespace) -> dict[str, dict[str, object]]:
    from router.errors import ConfigError
    from router.learn import settings_text

    out: dict[str, dict[str, object]] = {}
    for text in args.option:
        name, dot, rest = text.partition(".")
        key, equals, value = rest.partition("=")
        if not (dot and equals and key and name in args.router):
            raise ConfigError(f"--option: expected NAME.KEY=VALUE of a --router NAME, got {text!r}")
        out.setdefault(name, {})[key] = settings_text.of_text(value, f"--option {name}.{key}")
    if args.rules is not None:
        if "rules" not in args.router:
            raise ConfigError("--rules: expected --router rules beside it")
        from router.learn.routers.rules import rules_file

        out.setdefault("rules", {})["rules"] = rules_file(args.rules)
    return out


def _transfer(args: argparse.Namespace) -> tuple[tuple[str, ...], tuple[str, ...]]:
    from router.errors import ConfigError

    train_on, test_on = tuple(args.train_on), tuple(args.test_on)
    if args.transfer:
        train_on, test_on = (*train_on, args.transfer[0]), (*test_on, args.transfer[1])
    if train_on and not test_on:
        raise ConfigError("--train-on: expected --test-on beside it")
    if test_on and args.leave_tasks_out:
        raise ConfigError("--leave-tasks-out: expected it without --test-on or --transfer")
    return train_on, test_on


def _command(args: argparse.Namespace) -> str:
    """The command again, without paths of this machine."""
    from router.learn.data.records import told

    parts = ["headgate eval", *(table.name for table in args.tables)]
    for flag in ("router", "option", "train_on", "test_on", "pair", "price"):
        parts += [word for value in getattr(args, flag) for word in (f"--{flag.replace('_', '-')}", value)]
    parts += [word for path in args.checkpoint for word in ("--checkpoint", Path(path).name)]
    parts += ["--transfer", *args.transfer] if args.transfer else []
    parts += ["--models", ",".join(args.models)] if args.models else []
    parts += ["--prices", args.prices.name] if args.prices else []
    parts += ["--rules", args.rules.name] if args.rules else []
    parts += ["--leave-tasks-out"] if args.leave_tasks_out else []
    parts += ["--learning-curve", ",".join(map(str, args.learning_curve))] if args.learning_curve else []
    changed = {
        "size": "default",
        "calibration": "platt",
        "folds": 5,
        "prompts": 0,
        "seed": 0,
        "against": "",
        "draws": 200,
    }
    for flag, default in changed.items():
        parts += [f"--{flag}", str(getattr(args, flag))] if getattr(args, flag) != default else []
    parts += ["--cpt", ",".join(f"{100 * x:g}" for x in args.cpt)] if args.cpt != (0.5, 0.8) else []
    return told(" ".join(parts))


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(numbers.whole(1)(one) for one in text.split(","))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"expected whole numbers from 1, as in {LEARNING}, got {text!r}") from None


def _names(text: str) -> tuple[str, ...]:
    from router.learn.data.outcomes import model_name

    return tuple(model_name(name) for name in text.split(",") if name)


def _reaches(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(one) / 100 for one in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected percentages as in 50,80, got {text!r}") from None
    if not all(0 < reach <= 1 for reach in found):
        raise argparse.ArgumentTypeError(f"expected percentages above 0 and up to 100, got {text!r}")
    return found
