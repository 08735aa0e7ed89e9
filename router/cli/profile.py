"""`headgate profile`: seeds the step models of a running server's engines by a designed set of requests."""

import argparse
import http.client
import json
import random
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from router import config as configuration
from router.cli import admin_port
from router.cli.bar import Bar
from router.cli.door import Door, door_of
from router.cli.members_cost import show
from router.cli.members_shown import Answer, Shown, members_of
from router.cli.numbers import whole
from router.cli.paths import home_path
from router.cli.profile_plan import Phase, Target, plan, prompt
from router.errors import ConfigError, HeadgateError

_TIMEOUT_S = 60.0
_MOST_FAILED = 3  # of one stream, one after another
_ABOUT = """\
The server is that of the config, or the one at --url; it learns from its own engines' steps while it is asked, and
keeps what it learnt within half a minute. docs/price.md tells what the figures mean."""


class _Counts:
    """Of all streams."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.answered = self.failed = 0
        self.why = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _ABOUT
    server = parser.add_mutually_exclusive_group()
    server.add_argument("config", nargs="?", type=home_path, metavar="headgate.yaml", help="of the running server")
    server.add_argument("--url", help="the running server (default: http://127.0.0.1:8000)")
    parser.add_argument("--admin", metavar="HOST:PORT", help=f"its admin port (default: {admin_port.DEFAULT})")
    parser.add_argument("--member", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    parser.add_argument("--seconds", type=whole(5, 3_600), default=60, help="for all together (default: %(default)s)")
    parser.add_argument("--streams", type=whole(1, 256), default=16, help="at a time, at most (default: %(default)s)")
    parser.add_argument("--beside-traffic", action="store_true", help="although others ask the server too")
    parser.add_argument("--json", action="store_true", help="the result as one JSON object")


def run(args: argparse.Namespace) -> int:
    door, admin = _addresses(args.config, args.url, args.admin)
    _, answer = members_of(admin)
    targets = _targets(answer, args.member)
    if (others := _in_flight(answer)) and not args.beside_traffic:
        raise HeadgateError(
            f"{others} requests of others are under way: their work would be measured too, and they would wait for"
            " ours; try again when it is quiet, or with --beside-traffic"
        )
    phases = plan(targets, args.seconds, args.streams)
    counts, beside = _Counts(), False
    with Bar(shown=not args.json, left=True) as bar:
        bar.stage("profile", len(phases))
        for phase in phases:
            _play(phase, door, counts)
            bar.step()
            if not beside and _in_flight(members_of(admin)[1]):
                beside = True
                print("warning: others ask the server too: the figures are of their work as well", file=sys.stderr)
    _, answer = members_of(admin)
    _tell(answer, targets, counts, beside, json_wanted=args.json)
    return 0


def _addresses(config: Path | None, url: str | None, admin: str | None) -> tuple[Door, str]:
    door = door_of("profile", config, url)
    if admin is not None or config is None:
        return door, admin or admin_port.DEFAULT
    server = configuration.load(config).server
    return door, f"{server.admin_host}:{server.admin_port}"


def _targets(answer: Answer, names: Sequence[str]) -> tuple[Target, ...]:
    engines = {member.name: member for member in answer.members if member.cost is not None}
    for name in names:
        if name not in engines:
            raise ConfigError(f"--member: expected one of {', '.join(engines) or 'no engine'}, got {name!r}")
    chosen = [engines[name] for name in names] if names else list(engines.values())
    ready = [member for member in chosen if member.state.ready and _chats(member)]
    if not ready:
        raise HeadgateError("no engine of the server is ready that answers chats: there is nothing to profile")
    return tuple(Target(member.name, member.state.context_tokens) for member in ready)


def _chats(member: Shown) -> bool:
    return "chat" in member.state.capabilities


def _in_flight(answer: Answer) -> int:
    return sum(member.in_flight for member in answer.members)


def _play(phase: Phase, door: Door, counts: _Counts) -> None:
    """Raises `HeadgateError` where an engine answers none of it."""
    until_s = time.monotonic() + phase.seconds
    streams = [
        threading.Thread(target=_stream, args=(phase, member, door, counts, until_s), daemon=True)
        for member in phase.members
        for _ in range(phase.streams)
    ]
    for stream in streams:
        stream.start()
    for stream in streams:
        stream.join()
    if counts.why:
        raise HeadgateError(f"{phase.about}: {counts.why}")


def _stream(phase: Phase, member: str, door: Door, counts: _Counts, until_s: float) -> None:
    """One request after another, until the time is over."""
    source, failed = random.Random(), 0
    while time.monotonic() < until_s and not counts.why:
        why = _ask(door, member, prompt(phase.words, source), phase.tokens)
        failed = failed + 1 if why else 0
        with counts.lock:
            counts.answered += not why
            counts.failed += bool(why)
            if failed >= _MOST_FAILED:
                counts.why = f"{member} failed {failed} requests one after another; the last: {why}"


def _ask(door: Door, member: str, text: str, tokens: int) -> str:
    """Why it was not answered, or empty."""
    body = {
        "model": member,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens,
        "ignore_eos": True,
    }
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {door.key}"} if door.key else {})}
    connect = http.client.HTTPSConnection if door.tls else http.client.HTTPConnection
    connection = connect(door.host, door.port, timeout=_TIMEOUT_S)
    try:
        connection.request("POST", f"{door.prefix}/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        got = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return "" if answer.status == 200 else f"status {answer.status}: {got[:300].decode(errors='replace')}"


def _tell(answer: Answer, targets: Sequence[Target], counts: _Counts, beside: bool, *, json_wanted: bool) -> None:
    names = {target.name for target in targets}
    shown = msgspec.structs.replace(answer, members=tuple(member for member in answer.members if member.name in names))
    if json_wanted:
        result = {
            "members": {member.name: member.cost for member in shown.members},
            "requests": counts.answered,
            "failed": counts.failed,
            "beside_traffic": beside,
        }
        print(msgspec.json.encode(result).decode())
        return
    show(shown, json=False)
    print(f"{counts.answered} requests were answered, {counts.failed} failed")
