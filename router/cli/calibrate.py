"""`headgate calibrate`: config, prompts and an ask to the lambda or threshold that meets it, put into the config."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from router.cli import config_edit
from router.cli.bar import Bar
from router.cli.naming import refusals_of
from router.cli.paths import home_path
from router.errors import ConfigError

if TYPE_CHECKING:
    from router.learn.tune.operating_point import Point
    from router.learn.tune.tuning import Ask, Found
    from router.pipeline.decider import Decider
    from router.types import Snapshot

MOST_USD = 1e9
ROWS = 13  #: of the curve, in the table
SEEN = """\
The router was trained on these very prompts and is surer of them than of new ones: shares of new ones may be several
points off. Choose on prompts that it has not seen, where you have some."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=home_path, metavar="headgate.yaml")
    asked = parser.add_argument_group("what is asked for").add_mutually_exclusive_group(required=True)
    asked.add_argument(
        "--large-share", type=_share, metavar="X", help="share of requests on the strongest model: 0.3 or 30%%"
    )
    asked.add_argument("--budget", type=_budget, metavar="USD/1k", help="dollars per 1,000 requests: 2.50/1k")
    asked.add_argument(
        "--quality", type=_quality, metavar="X", help="least mean predicted quality, as a part of the strongest model's"
    )
    parser.add_argument(
        "--on", type=home_path, required=True, metavar="FILE",
        help="prompts like yours: a table of requests, prompts or outcomes, or a text file with a prompt a line",
    )  # fmt: skip
    parser.add_argument(
        "--threshold", action="store_true", help="set RouteLLM's threshold instead of lambda (`routing.price`)"
    )
    parser.add_argument(
        "--load",
        type=home_path,
        metavar="FILE",
        help="rates and queues as the admin port's /members tells them, not idle",
    )
    parser.add_argument("--dry-run", action="store_true", help="leave the config as it is")
    parser.add_argument(
        "--plot", type=home_path, metavar="PNG", help="draw share, dollars and quality over the setting"
    )
    parser.add_argument("--json", action="store_true", help="all that was found as one JSON object")


def run(args: argparse.Namespace) -> int:
    import msgspec

    try:
        found = _found(args)
    except ModuleNotFoundError as error:
        raise ConfigError(f"calibrating needs {error.name}: pip install 'headgate-router[train]'") from error
    if not args.dry_run:
        config_edit.put(args.config, "routing", found.setting, found.value)
    print(msgspec.json.encode(found).decode() if args.json else _text(found, args))
    return 0


def _found(args: argparse.Namespace) -> "Found":
    import msgspec

    from router import config as configuration
    from router import heads
    from router.learn import output as files
    from router.learn.data import queries, records
    from router.learn.tune.tuning import tune
    from router.pipeline.decider import Decider

    if args.plot:
        files.check_picture("--plot", args.plot, (args.config, args.on))
    with refusals_of(args.config):
        decider = Decider(configuration.load(args.config))
    pool = _loaded(args.load, decider) if args.load else None
    with Bar(shown=not args.json) as bar:
        bar.stage(f"read {args.on.name}", 1)
        prompts = queries.read(args.on)
        bar.step()
        bar.stage(f"score {len(prompts)} prompts", len(prompts))
        found = tune(decider, prompts, _ask(args), threshold=args.threshold, snapshot=pool, on_step=bar.step)
    if args.plot:
        from router.learn.tune.tuning_plot import draw

        draw(found, args.plot)
    data = heads.servable(decider.routing.checkpoint).meta.data
    digest = records.digest(args.on)
    return msgspec.structs.replace(found, seen=digest in {table.sha256 for table in data})


def _share(text: str) -> float:
    return _fraction(text, 1)


def _quality(text: str) -> float:
    return _fraction(text, 2)


def _fraction(text: str, most: float) -> float:
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = -1
    if not 0 <= number <= most:
        raise argparse.ArgumentTypeError(f"expected 0 to {most} or a percentage, got {text!r}")
    return number


def _budget(text: str) -> float:
    """Dollars per 1,000 requests."""
    match = re.fullmatch(r"\$?([0-9]{1,30}(?:\.[0-9]*)?|\.[0-9]+)/([0-9]{1,30})(k?)", text)
    if match is None or int(match[2]) == 0:
        raise argparse.ArgumentTypeError(f"expected dollars for a number of requests, as in 2.50/1k, got {text!r}")
    usd_per_1k = float(match[1]) * 1000 / (int(match[2]) * (1000 if match[3] else 1))
    if not usd_per_1k <= MOST_USD:
        raise argparse.ArgumentTypeError(f"expected at most {MOST_USD:g} dollars per 1,000 requests, got {text!r}")
    return usd_per_1k


def _ask(args: argparse.Namespace) -> "Ask":
    from router.learn.tune.tuning import Ask

    if args.large_share is not None:
        return Ask("share", args.large_share)
    return Ask("budget", args.budget) if args.budget is not None else Ask("quality", args.quality)


def _loaded(path: Path, decider: "Decider") -> "Snapshot":
    """The pool as a running server told it. Raises ConfigError where it is another pool."""
    import msgspec

    from router.types import MemberState, Snapshot

    class Member(msgspec.Struct):
        state: MemberState

    class Members(msgspec.Struct):
        members: tuple[Member, ...]

    try:
        told = msgspec.json.decode(path.read_bytes(), type=Members).members
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected what the admin port's /members answers: {error}") from error
    states = {member.state.name: member.state for member in reversed(told)}  # of several engines the first
    wanted, got = [m.name for m in decider.assumed.members], list(dict.fromkeys(m.state.name for m in told))
    if wanted != got:
        raise ConfigError(f"{path}: members: expected {', '.join(wanted)} as in the config, got {', '.join(got)}")
    return Snapshot(tuple(states[name] for name in got))


def _text(found: "Found", args: argparse.Namespace) -> str:
    then, strong = found.realised, found.members[found.strong]
    part = f", which is {then.quality / found.strong_quality:.1%} of {strong}'s" if found.strong_quality else ""
    refused = f"; {found.refused} more cannot be served by any member" if found.refused else ""
    return "\n".join(
        [
            *_table(found),
            "",
            f"On {found.prompts} prompts of {args.on.name}{refused}, decided by the policy itself:",
            f"  {then.shares[found.strong]:.1%} go to {strong} {_interval(found.share_interval, '.1%')}",
            f"  ${then.usd_per_1k:.4g} per 1,000 requests {_interval(found.usd_interval, '.4g')}",
            f"  predicted quality {then.quality:.4f} {_interval(found.quality_interval, '.4f')}{part}",
            *(
                ["In brackets, where the mean over many more prompts of this kind lies (95 %)."]
                if found.prompts > 1
                else []
            ),
            *([_few(found)] if found.few else []),
            *([SEEN] if found.seen else []),
            "",
            _done(found, args),
        ]
    )


def _few(found: "Found") -> str:
    from router.learn.tune.operating_point import FEW

    count = "one prompt says" if found.prompts == 1 else f"{found.prompts} prompts say"
    return f"Warning: {count} little of others; the setting may be far off. Expected {FEW} or more."


def _interval(bounds: tuple[float, float] | None, form: str) -> str:
    if bounds is None:
        return "(of one prompt)"
    return f"[{bounds[0]:{form}}, {bounds[1]:{form}}]"


def _done(found: "Found", args: argparse.Namespace) -> str:
    setting = f"routing.{found.setting}"
    before = "it was not set" if found.before is None else f"it was {config_edit.shown(found.before)}"
    before += f"; until now {found.now.shares[found.strong]:.1%} went to {found.members[found.strong]}"
    if args.dry_run:
        return f"{args.config}: left as it is; {setting} would be {config_edit.shown(found.value)} ({before})"
    return f"{args.config}: {setting} is now {config_edit.shown(found.value)} ({before})"


def _table(found: "Found") -> list[str]:
    """The curve in a few rows, with the chosen point among them."""
    step = max(1, (len(found.curve) - 1) // (ROWS - 1))
    rows = sorted({*found.curve[::step], found.curve[-1], found.realised}, key=lambda point: point.dial)
    widths = [max(8, len(member)) for member in found.members]
    members = "  ".join(f"{member:>{width}}" for member, width in zip(found.members, widths, strict=True))
    name = "lambda" if found.setting == "price" else "threshold"
    head = f"  {name:>12}  {members}  {'$ per 1k':>10}  {'quality':>8}"
    return [head, *(_row(point, widths, ">" if point == found.realised else " ") for point in rows)]


def _row(point: "Point", widths: list[int], mark: str) -> str:
    shares = "  ".join(f"{share:>{width}.1%}" for share, width in zip(point.shares, widths, strict=True))
    return f"{mark} {point.dial:>12.6g}  {shares}  {point.usd_per_1k:>10.4g}  {point.quality:>8.4f}"
