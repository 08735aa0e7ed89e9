"""`headgate members`: the members of a running server, as its admin port tells them, and verbs that change them."""

import argparse
import json as text_json
import sys

from router.cli import admin_port
from router.cli.members_shown import VERBS, Answer, devices_of, members_of, state_of, usd_of
from router.errors import ConfigError

_MOST_ERROR = 100
_NUMBERS = ("in flight", "running", "waiting", "KV", "restarts", "USD/hour")
_ABOUT = """\
show              all members, and those that come and go (the default)
add [FILE]        start one more beside the others; with `replaces`, a canary
remove NAME       no new requests; stopped once the running ones have ended
replace NAME [FILE]
                  start another one, and let it take the place of NAME once it is ready
drain NAME        no new requests, until `resume NAME`
promote NAME      the canary of NAME takes its place
rollback NAME     the canary of NAME goes
cancel            give up the change whose engine still starts

FILE holds a member as a config file's `pool` does, or a config with one member;
flags say the same, or change what the file says."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _ABOUT
    parser.add_argument("verb", nargs="?", default="show", choices=tuple(VERBS), metavar="VERB", help="see below")
    parser.add_argument("words", nargs="*", metavar="NAME", help="the member, and the file where the verb takes one")
    parser.add_argument("--admin", default=admin_port.DEFAULT, metavar="HOST:PORT", help="(default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="all that the server tells, as JSON")
    parser.add_argument("--cost", action="store_true", help="what the engines' steps take, as learnt (docs/price.md)")
    parser.add_argument("--prices", action="store_true", help="what devices' time costs now, and why (docs/price.md)")
    member = parser.add_argument_group("the member of `add` and `replace`")
    member.add_argument("--name", help="default: the file's; of `replace` the old one's")
    member.add_argument("--model", help="path or hub id of the weights")
    member.add_argument("--url", help="an OpenAI-compatible server instead")
    member.add_argument("--like", help="score it as this model of the checkpoint")
    member.add_argument("--strength", type=float, help="or by its MMLU-Pro accuracy, 0 to 1")
    member.add_argument("--usd-per-hour", type=float, help="price of its whole GPU")
    member.add_argument("--engine-arg", action="append", default=[], metavar="NAME=VALUE", help="a vLLM argument")
    member.add_argument("--replaces", metavar="NAME", help="it is a canary of this member")
    member.add_argument("--weight", type=float, help="of a canary: its share of that member's requests (default: .05)")
    member.add_argument("--stop-first", action="store_true", help="of `replace`: where there is no room for both")


def run(args: argparse.Namespace) -> int:
    if args.verb != "show":
        from router.cli.members_change import change

        return change(args)
    if args.words:
        raise ConfigError(f"members show: expected nothing behind it, got {args.words[0]!r}")
    body, answer = members_of(args.admin)
    if args.cost:
        from router.cli.members_cost import show

        show(answer, json=args.json)
    elif args.prices:
        from router.cli import members_prices

        members_prices.show(answer.prices, json=args.json)
    elif args.json:
        print(text_json.dumps(text_json.loads(body), indent=2))
    else:
        _table(answer)
    return 0


def _table(answer: Answer) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("member", "state", "devices", *_NUMBERS, "last error"):
        table.add_column(name, justify="right" if name in _NUMBERS else "left")
    for members, about in ((answer.members, ""), (answer.joining, "joining, "), (answer.leaving, "leaving, ")):
        for member in members:
            load = member.state
            numbers = (member.in_flight, load.running, load.waiting, f"{100 * load.kv_use:.0f} %", member.restarts)
            usd, error = usd_of(member), member.last_error[:_MOST_ERROR]
            words = (member.name, about + state_of(member), devices_of(member), *map(str, numbers), usd, error)
            table.add_row(*map(_plain, words))
    console = Console() if sys.stdout.isatty() else Console(width=300)  # a pipe gets lines that are not folded
    console.print(table)


def _plain(text: str) -> str:
    """Neither a style of rich's nor a terminal's."""
    from rich.markup import escape

    return escape("".join(c if c.isprintable() else " " for c in text))
