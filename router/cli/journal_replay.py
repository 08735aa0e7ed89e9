"""`headgate journal replay`: the journal's decisions by another config, as a table or JSON."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from router import config as configuration
from router.cli import numbers
from router.cli.bar import Bar
from router.cli.paths import home_path
from router.config import Config
from router.errors import ConfigError
from router.observe.journal import Reader

if TYPE_CHECKING:
    from router.learn.replay import Replay, Replayed

_BLOCK_BYTES = 1 << 20  #: a step of the progress bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=home_path, required=True, metavar="FILE", help="the headgate.yaml to decide by"
    )
    parser.add_argument(
        "--price", type=float, help="quality points given up to save one dollar, instead of the config's"
    )
    parser.add_argument("--threshold", type=float, help="of RouteLLM's rule, instead of the config's")
    parser.add_argument(
        "--score-again", action="store_true", help="ask the config's checkpoint, where prompts were kept"
    )
    parser.add_argument("--reprice", action="store_true", help="members cost what the config says, not what they did")
    parser.add_argument(
        "--changed", type=numbers.whole(0, 100_000), default=0, metavar="N", help="name the first N that change"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace, journal: Path) -> int:
    from router.learn.replay import Replay

    config = _config(args)
    replay = Replay(config, score_again=args.score_again, reprice=args.reprice, ids=args.changed)
    reader = Reader(journal)
    _read(reader, replay, journal, shown=not args.json)
    found = replay.report(reader.torn, reader.unknown)
    if not found.decisions and not found.refused:
        raise ConfigError(f"{journal}: no decision can be made again by {args.config}{_reasons(found.undecidable)}")
    print(msgspec.json.encode(found).decode() if args.json else text(found, str(args.config)))
    return 0


def _config(args: argparse.Namespace) -> Config:
    config = configuration.load(args.config)
    given = {name: value for name in ("price", "threshold") if (value := getattr(args, name)) is not None}
    if given:
        config = msgspec.structs.replace(config, routing=msgspec.structs.replace(config.routing, **given))
        configuration.check(config, "--price, --threshold")
    return config


def _read(reader: Reader, replay: "Replay", journal: Path, *, shown: bool) -> None:
    with Bar(shown=shown) as bar:
        bar.stage(str(journal), reader.total_bytes() // _BLOCK_BYTES)
        due = _BLOCK_BYTES
        for line in reader:
            replay.add(line)
            while reader.read_bytes >= due:
                bar.step()
                due += _BLOCK_BYTES


def text(found: "Replayed", config: str) -> str:
    total = found.decisions + sum(found.refused.values())
    changed = found.decisions - found.alike
    lines = [
        f"{total:,} decisions made again by {config} (scores: {found.scores}; prices: {found.prices})",
        f"  alike    {found.alike:>10,}  {_share(found.alike, total)}",
        f"  changed  {changed:>10,}  {_share(changed, total)}",
    ]
    for code, count in found.refused.items():
        lines.append(f"  refused  {count:>10,}  {_share(count, total)}  {code}")
    lines += ["", *_changes(found)] if found.changes else []
    lines += ["", *_sums(found)] if found.decisions else []
    lines += ["", *_left_out(found)] if any(_left_out(found)) else []
    lines += ["", *(f"{one.id}  {one.before} -> {one.after}" for one in found.changed)] if found.changed else []
    return "\n".join(lines)


def _changes(found: "Replayed") -> list[str]:
    width = max(len(name) for change in found.changes for name in (change.before, change.after, "after"))
    head = f"  {'before':<{width}}  {'after':<{width}}  {'decisions':>10}  {'quality each':>12}  {'USD each':>10}"
    return [head] + [
        f"  {one.before:<{width}}  {one.after:<{width}}  {one.decisions:>10,}  {one.quality / one.decisions:>+12.4f}"
        f"  {one.cost_usd / one.decisions:>+10.3g}"
        for one in found.changes
    ]


def _sums(found: "Replayed") -> list[str]:
    n = found.decisions
    rows = (
        ("quality, mean", found.quality_before / n, found.quality_after / n),
        ("USD, sum", found.cost_usd_before, found.cost_usd_after),
    )
    head = f"  {'predicted':<14}{'before':>12}{'after':>12}{'change':>12}"
    return [head] + [f"  {name:<14}{a:>12.5g}{b:>12.5g}{b - a:>+12.3g}" for name, a, b in rows]


def _left_out(found: "Replayed") -> list[str]:
    lines = [f"left out: {count:,}: {why}" for why, count in found.undecidable.items()]
    if found.not_in_config:
        lines.append(f"passed over, for the config lacks them: {', '.join(found.not_in_config)}")
    if found.not_in_journal:
        lines.append(f"never chosen, for no decision knew them: {', '.join(found.not_in_journal)}")
    if found.torn:
        lines.append(f"lines that are not whole: {found.torn:,}")
    if found.unknown:
        lines.append(f"lines of a later version: {found.unknown:,}")
    return lines


def _share(count: int, total: int) -> str:
    return f"{100 * count / max(total, 1):5.1f} %"


def _reasons(undecidable: dict[str, int]) -> str:
    return "".join(f"; {count:,}: {why}" for why, count in undecidable.items()) or ": it holds no decision"
