"""`headgate bench`: policies of a running pool, and other endpoints, under the same load; figures, pictures, a page."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from router.cli import admin_port, numbers
from router.cli.command_line import again
from router.cli.drawing import check_drawing
from router.cli.paths import home_path
from router.cli.quantities import burst, lengths, not_negative, positive, share, slo, three

if TYPE_CHECKING:
    from router.learn.bench.plan import Plan

_ABOUT = """\
A policy is what a request's `model` may be (auto, a member's name, router-mf-0.3), or
  random    each member equally often
  jsq       join the shortest queue: the member with the fewest of our requests in flight
  static    the best fixed threshold, tuned on the workload's own labels by held-out folds
Without --policy: auto, every member, random and jsq.

The same command goes on where a run was stopped. docs/bench.md says what each figure means."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _ABOUT
    _who(parser.add_argument_group("who answers"))
    _what(parser.add_argument_group("what is asked"))
    _load(parser.add_argument_group("load"))
    _figures(parser.add_argument_group("figures"))


def _who(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--url", default="http://127.0.0.1:8000", help="the running server (default: %(default)s)")
    group.add_argument("--admin", default=admin_port.DEFAULT, metavar="HOST:PORT", help="(default: %(default)s)")
    group.add_argument("--api-key", help="of the running server (default: the variable HEADGATE_API_KEY)")
    group.add_argument("--policy", action="append", default=[], metavar="NAME", help="see below; may be given again")
    group.add_argument(
        "--target", action="append", default=[], metavar="NAME=URL[,...]",
        help="another OpenAI endpoint, with model=M, key-env=VARIABLE, usd-hour=X, usd-per-million=IN/OUT, pid=PID+PID",
    )  # fmt: skip
    group.add_argument("--targets-only", action="store_true", help="no running server: the targets alone")


def _what(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--workload", type=home_path, metavar="FILE", help="questions: .jsonl, .json, .csv, .parquet")
    group.add_argument(
        "--grade", metavar="HOW",
        help="of rows with an expected answer: exact, number, choice, regex, or command:PROGRAM",
    )  # fmt: skip
    group.add_argument("--grade-limit", type=positive, default=10.0, metavar="S", help="for one answer (default: 10)")
    group.add_argument("--skip-broken", action="store_true", help="leave broken rows of the workload out")
    group.add_argument(
        "--synthetic", type=lengths, metavar="IN,OUT", help="made-up prompts and answers of such lengths"
    )
    group.add_argument(
        "--max-tokens", type=numbers.whole(1), default=256, metavar="N", help="of an answer (default: 256)"
    )
    group.add_argument("--temperature", type=not_negative, default=0.0, metavar="T", help="(default: 0)")
    group.add_argument("--no-stream", action="store_true", help="whole answers: no times to the first token")
    group.add_argument("--extra", metavar="JSON", default="{}", help="an object of further fields of every body")
    group.add_argument("--timeout", type=positive, default=120.0, metavar="S", help="of a request (default: 120)")
    group.add_argument(
        "--retries",
        type=numbers.whole(0, 100),
        default=0,
        metavar="N",
        help="of a 429, after the time it says (default: 0)",
    )


def _load(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--rate", type=_rates, default=(1.0,), metavar="R,R,...", help="requests a second (default: 1)")
    group.add_argument(
        "--ramp", type=_ramp, metavar="FROM,FACTOR,MOST",
        help="instead: rates that grow by FACTOR until a policy does not hold one",
    )  # fmt: skip
    group.add_argument("--arrivals", choices=("poisson", "constant"), default="poisson", help="(default: poisson)")
    group.add_argument("--burst", type=burst, metavar="FACTOR,S,EVERY", help="so much more for S seconds out of EVERY")
    group.add_argument("--trace", type=home_path, metavar="FILE", help="instead: send as a recorded trace says")
    group.add_argument("--speed", type=positive, default=1.0, metavar="X", help="of the trace (default: 1)")
    group.add_argument("--seconds", type=positive, default=30.0, metavar="S", help="of each turn (default: 30)")
    group.add_argument("--warmup", type=not_negative, default=5.0, metavar="S", help="before each turn (default: 5)")
    group.add_argument("--rounds", type=numbers.whole(1, 1000), default=3, metavar="N", help="(default: 3)")
    group.add_argument("--seed", type=numbers.seed, default=0, help="(default: 0)")


def _figures(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--slo", type=slo, metavar="KEY=MS,...", help="ttft_ms, tpot_ms, e2e_ms")
    group.add_argument(
        "--attain", type=share, default=0.99, metavar="X", help="share within the SLO that holds a load (default: .99)"
    )
    group.add_argument(
        "--keep", type=share, default=0.95, metavar="X", help="of the strongest's quality, by `static` (default: .95)"
    )
    group.add_argument("--against", default="", metavar="POLICY", help="take ratios to it (default: the best constant)")
    group.add_argument("--draws", type=numbers.whole(1, 100_000), default=200, help="bootstrap draws (default: 200)")
    group.add_argument(
        "--out", type=home_path, default=Path("headgate-bench"), metavar="FOLDER", help="(default: headgate-bench)"
    )
    group.add_argument("--anew", action="store_true", help="forget what the folder holds of another run")
    group.add_argument("--no-pictures", action="store_true", help="no PNG and no page: needs no matplotlib")
    group.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    from router.errors import ConfigError
    from router.learn.bench import output, results, text
    from router.learn.bench import run as running
    from router.learn.bench.rows import Folder

    if not args.no_pictures:
        for module in ("page", "pictures"):
            check_drawing(f"router.learn.bench.{module}")
    plan = _plan(args)
    names = [policy.name for policy in plan.policies]
    if args.against and args.against not in names:
        raise ConfigError(f"--against: expected one of {', '.join(names)}; got {args.against!r}")
    folder = Folder(args.out, plan.fingerprint(), anew=args.anew)
    stopped = False
    try:
        running.run(plan, folder, _Stages(shown=not args.json))
    except KeyboardInterrupt:
        stopped = True
    finally:
        folder.close()
    found = results.found(
        plan, folder, command=again("bench"), workload=_workload_name(args), against=args.against, draws=args.draws
    )
    written = output.write(found, args.out, pictures=not args.no_pictures) if found.measured else []
    if args.json:
        print(output.json(found))
    elif found.measured:
        text.show(found)
        print(f"Written: {', '.join(str(path) for path in written)}")
    return 130 if stopped else 0


class _Stages:
    """A line a turn on standard error. No bar: the thread that draws one stops the load generator for milliseconds, ten
    times a second."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown

    def stage(self, name: str, steps: int) -> None:
        if self._shown:
            print(f"{name} ...", file=sys.stderr, flush=True)

    def step(self) -> None: ...


def _plan(args: argparse.Namespace) -> "Plan":
    from router.cli import bench_plan

    return bench_plan.of(args)


def _workload_name(args: argparse.Namespace) -> str:
    from router.learn.data.records import told

    if args.workload is not None:
        return told(args.workload.name)
    return told(args.trace.name) if args.trace is not None else "made-up prompts"


def _rates(text: str) -> tuple[float, ...]:
    return tuple(dict.fromkeys(positive(one) for one in text.split(",")))


def _ramp(text: str) -> tuple[float, ...]:
    first, factor, most = three(text, "FROM,FACTOR,MOST as in 1,1.5,64")
    if factor < 1.01 or most < first:
        raise argparse.ArgumentTypeError(f"expected a factor from 1.01 and MOST from FROM, got {text!r}")
    out = [first]
    while out[-1] * factor <= most * 1.000001:
        out.append(out[-1] * factor)
    return tuple(out)
