"""`headgate members`: the members of a running server, as its admin port tells them."""

import argparse
import http.client
import json as text_json
import sys

import msgspec

from router.errors import ConfigError, HeadgateError

_TIMEOUT_S = 10.0
_MOST_BYTES = 16 * 1024 * 1024
_MOST_ERROR = 100
_NUMBERS = ("in flight", "running", "waiting", "KV", "restarts", "USD/hour")


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown of a member's state."""

    ready: bool = False
    breaker_open: bool = False
    running: int = 0
    waiting: int = 0
    kv_use: float = 0.0  #: 0..1


class Start(msgspec.Struct, frozen=True, kw_only=True):
    stage: str = ""
    percent: int = 0
    left_s: float | None = None


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One member of the admin port's answer; what another release tells beyond it is ignored."""

    name: str
    kind: str = ""
    phase: str = ""
    state: Load = Load()
    restarts: int = 0
    last_error: str = ""
    in_flight: int = 0
    start: Start | None = None
    devices: tuple[str, ...] = ()
    memory_share: float | None = None
    usd_per_hour: float = 0.0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    members: tuple[Shown, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--admin", default="127.0.0.1:8001", metavar="HOST:PORT", help="(default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="all that the server tells, as JSON")


def run(args: argparse.Namespace) -> int:
    body = _asked(args.admin)
    try:
        answer = msgspec.json.decode(body, type=Answer)
    except msgspec.DecodeError as error:
        raise HeadgateError(f"{args.admin}: expected the members of a Headgate server: {error}") from error
    if args.json:
        print(text_json.dumps(text_json.loads(body), indent=2))
    else:
        _table(answer.members)
    return 0


def state_of(member: Shown) -> str:
    """The phase, and what else keeps requests away from it or says when they can come."""
    if member.start is not None:
        left = "" if member.start.left_s is None else f", about {member.start.left_s:.0f} s left"
        return f"{member.phase}: {member.start.stage}, {member.start.percent} %{left}"
    return f"{member.phase}, breaker open" if member.state.breaker_open else member.phase


def devices_of(member: Shown) -> str:
    """Which, and the share of the memory of each."""
    if not member.devices:
        return "-"
    share = "" if member.memory_share is None else f", {100 * member.memory_share:.0f} %"
    return ",".join(member.devices) + share


def _table(members: tuple[Shown, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("member", "state", "devices", *_NUMBERS, "last error"):
        table.add_column(name, justify="right" if name in _NUMBERS else "left")
    for member in members:
        load = member.state
        numbers = (member.in_flight, load.running, load.waiting, f"{100 * load.kv_use:.0f} %", member.restarts)
        usd = f"{member.usd_per_hour:.2f}"
        error = member.last_error[:_MOST_ERROR]
        table.add_row(*map(_plain, (member.name, state_of(member), devices_of(member), *map(str, numbers), usd, error)))
    console = Console() if sys.stdout.isatty() else Console(width=300)  # a pipe gets lines that are not folded
    console.print(table)


def _plain(text: str) -> str:
    """Neither a style of rich's nor a terminal's."""
    from rich.markup import escape

    return escape("".join(c if c.isprintable() else " " for c in text))


def _asked(address: str) -> bytes:
    """The answer of `GET /members`. Raises `ConfigError` on a bad address, `HeadgateError` where nobody answers."""
    host, _, port = address.removeprefix("http://").rstrip("/").rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and int(port) < 65_536):
        raise ConfigError(f"--admin: expected HOST:PORT, got {address!r}")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/members")
        answer = connection.getresponse()
        body = answer.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise HeadgateError(
            f"no server answers at {address}: {error}; `--admin` says where the admin port is"
        ) from error
    finally:
        connection.close()
    if answer.status != 200:
        raise HeadgateError(f"{address}: status {answer.status}; expected the admin port of a Headgate server")
    return body
