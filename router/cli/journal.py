"""`headgate journal`: the last records (`tail`), one of them whole (`show`), all decisions again (`replay`)."""

import argparse
import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from router import config as configuration
from router.cli import journal_replay
from router.cli.paths import home_path
from router.errors import ConfigError
from router.observe.journal import FeedbackLine, Line, Reader

_encode = msgspec.json.Encoder().encode


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(metavar="tail|show|replay", required=True)
    tail = verbs.add_parser("tail", help="the last lines, the newest last")
    tail.add_argument("journal", type=home_path, metavar="JOURNAL", help="its folder, a file of it, or a headgate.yaml")
    tail.add_argument("-n", "--lines", type=_count, default=10, metavar="N", help="how many (default: 10)")
    tail.add_argument("-f", "--follow", action="store_true", help="go on as more are written")
    tail.set_defaults(work=_tail)
    show = verbs.add_parser("show", help="all that is known of one request")
    show.add_argument("id", metavar="ID", help="what `x-headgate-decision-id` or `x-request-id` said")
    show.add_argument("journal", type=home_path, metavar="JOURNAL", help="its folder, a file of it, or a headgate.yaml")
    show.set_defaults(work=_show)
    for verb in (tail, show):
        verb.add_argument("--json", action="store_true", help="lines as they are in the journal")
    replay = verbs.add_parser("replay", help="decide again, offline, by another config: what changes")
    replay.add_argument(
        "journal", type=home_path, metavar="JOURNAL", help="its folder, a file of it, or a headgate.yaml"
    )
    journal_replay.add_arguments(replay)
    replay.set_defaults(work=lambda args: journal_replay.run(args, place(args.journal)))


def run(args: argparse.Namespace) -> int:
    work: Callable[[argparse.Namespace], int] = args.work
    try:
        return work(args)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def place(path: Path) -> Path:
    """The folder or file that holds the journal. Raises `ConfigError`."""
    if path.suffix in (".yaml", ".yml"):
        config = configuration.load(path)
        if not config.journal.path:
            raise ConfigError(f"{path}: no journal is written: expected a folder - at `$.journal.path`")
        path = Path(config.journal.path)
    if not path.exists():
        raise ConfigError(f"{path}: expected a journal's folder or a file of it, got nothing")
    return path


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) > 1_000_000:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1,000,000, got {text!r}")
    return int(text)


def _tail(args: argparse.Namespace) -> int:
    reader = Reader(place(args.journal))
    last: deque[Line] = deque(maxlen=args.lines)
    if not args.follow:
        last.extend(reader)
        _print(last, args.json)
        return 0
    caught_up = False
    for line in reader.follow():
        if caught_up and line is not None:
            _print((line,), args.json)
        elif line is not None:
            last.append(line)
        elif not caught_up:
            _print(last, args.json)
            caught_up = True
    return 0


def _show(args: argparse.Namespace) -> int:
    path = place(args.journal)
    found = [line for line in Reader(path) if args.id in (line.id, getattr(line, "request_id", ""))]
    if not found:
        raise ConfigError(f"{path}: no record has the id {args.id[:200]!r}")
    for line in found:
        text = _encode(line)
        print((text if args.json else msgspec.json.format(text, indent=2)).decode())
    return 0


def _print(lines: Iterable[Line], json: bool) -> None:
    for line in lines:
        print(_encode(line).decode() if json else _text(line))
    with contextlib.suppress(ValueError):
        sys.stdout.flush()


def _said(line: FeedbackLine) -> str:
    score = "" if line.score is None else f" {line.score:g}"
    return score + (f" {line.better} {'as good as' if line.tie else 'over'} {line.worse}" if line.better else "")


def _text(line: Line) -> str:
    """One line; of what others wrote nothing that a terminal obeys."""
    return "".join(c if c.isprintable() else "?" for c in _told(line))


def _time(time_s: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_s))
    except (OverflowError, OSError, ValueError):  # of no calendar
        return f"{time_s:g} s"


def _told(line: Line) -> str:
    at = _time(line.time_s)
    if isinstance(line, FeedbackLine):
        return f"{at}  {line.id}  feedback{_said(line)}"
    ended = line.finish_reason or line.end if line.end == "finish" else f"{line.status} {line.error}".strip()
    way = " -> ".join(leg.engine or leg.model for leg in line.legs) or line.model or "-"
    cost = "" if line.cost_usd is None else f"  ${line.cost_usd:.3g}"
    tokens = f"{line.prompt_tokens}+{line.completion_tokens} tokens"
    return (
        f"{at}  {line.id or line.request_id}  {line.asked or '-'}: {way}  {ended}  {tokens}  {line.total_s:.3f} s{cost}"
    )
