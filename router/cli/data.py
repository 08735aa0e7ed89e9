"""`headgate data`: foreign logs to an outcomes table (`import`), and what is in a table (`describe`)."""

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from router.cli.bar import Bar
from router.cli.paths import home_path

if TYPE_CHECKING:
    from router.learn.data.importers.run import Imported


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(metavar="import|describe", required=True)
    _import_arguments(verbs.add_parser("import", help="tables of other projects, or a journal, to outcomes"))
    _describe_arguments(verbs.add_parser("describe", help="what is in tables, and what is wrong with them"))


def run(args: argparse.Namespace) -> int:
    from router.errors import ConfigError

    work: Callable[[argparse.Namespace], int] = args.work
    try:
        return work(args)
    except ModuleNotFoundError as error:
        raise ConfigError(f"headgate data needs {error.name}: pip install 'headgate-router[train]'") from error


def _import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(work=_import)
    parser.add_argument(
        "files", nargs="*", type=home_path, metavar="FILE", help=".csv, .jsonl, .json, .parquet; or a folder, a journal"
    )
    parser.add_argument("--out", type=home_path, metavar="TABLE", help="the table to write: .parquet or .jsonl")
    parser.add_argument("--format", default="auto", metavar="NAME", help="default: told by the file's columns")
    parser.add_argument("--list-formats", action=_ListFormats, nargs=0, help="show all formats, and exit")
    parser.add_argument("--task", default="", metavar="NAME", help="of all rows, instead of the source's own")
    parser.add_argument(
        "--as-scores", action="store_true", help="battles as scores: won 1, tie 0.5, lost 0, both bad 0"
    )
    parser.add_argument("--skip-broken", action="store_true", help="leave broken rows out, and say which and how many")
    parser.add_argument("--no-responses", action="store_true", help="leave the answers' text out (lengths are kept)")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object")


def _describe_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(work=_describe)
    parser.add_argument(
        "tables", nargs="+", type=home_path, metavar="TABLE", help="outcomes or battles: .parquet or .jsonl"
    )
    parser.add_argument("--plot", type=home_path, metavar="PNG", help="draw the mean scores of models on tasks")
    parser.add_argument("--json", action="store_true", help="one JSON object")


class _ListFormats(argparse.Action):
    """As `--version` does: whatever else stands on the line."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from router.learn.data import importers

        for name in importers.NAMES:
            print(f"{name:15} {importers.find(name).ABOUT}")
        parser.exit()


def _import(args: argparse.Namespace) -> int:
    import msgspec

    from router.errors import ConfigError
    from router.learn.data.importers.base import Options
    from router.learn.data.importers.run import run as import_

    if not args.files or args.out is None:
        raise ConfigError("expected FILE... --out TABLE")
    options = Options(task=args.task, scores=args.as_scores)
    with Bar(shown=not args.json) as bar:
        report = import_(
            args.files, args.out, args.format, options, skip_broken=args.skip_broken,
            keep_responses=not args.no_responses, on_stage=bar.stage, on_step=bar.step,
        )  # fmt: skip
    print(msgspec.json.encode(report).decode() if args.json else _text(report))
    return 0


def _text(report: "Imported") -> str:
    lines = [f"{one.path}: read as {one.format}, {one.records} records" for one in report.took]
    if len(lines) > 12:
        lines = [*lines[:10], f"... and {len(lines) - 10} files more"]
    lines.append(
        f"{report.out}: {report.rows} {report.kind}, {report.prompts} prompts, {len(report.models)} models "
        f"({', '.join(report.models[:6])}{', ...' if len(report.models) > 6 else ''})"
    )
    lines += [f"left out: {one.count}: {one.why} (first: {one.first})" for one in report.left_out]
    return "\n".join(lines)


def _describe(args: argparse.Namespace) -> int:
    import msgspec

    from router.learn import output
    from router.learn.data import describe, describe_view

    if args.plot is not None:
        output.check_picture("--plot", args.plot, args.tables)
    with Bar(shown=not args.json) as bar:
        found = describe.run(args.tables, bar.stage)
        if args.plot is not None:
            bar.stage(str(args.plot), 0)
            describe_view.plot(found, args.plot)
    if args.json:
        print(msgspec.json.encode(found).decode())
    else:
        describe_view.show(found, sys.stdout)
    return 0
