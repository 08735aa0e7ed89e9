"""`headgate simulate`: a pool in simulated time, by the policy that serves: a run, a sweep, its smallest size."""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from router.cli import numbers
from router.cli.bar import Bar
from router.cli.command_line import again
from router.cli.paths import home_path
from router.cli.quantities import burst, lengths, not_negative, positive, share, slo, two

if TYPE_CHECKING:
    from router.cli.simulate_plan import Planned
    from router.learn.simulate.figures import Figures
    from router.learn.simulate.search import Candidate

_PARTS = 100  #: steps of a bar that shows one run
_ABOUT = """\
Engines are what their step models say: of the config's members as `headgate profile` and serving have learnt them, or
  --engine NAME,step_s=.006,running_s=1.2e-4,context_s=4e-8,prefill_s=3e-5,max_num_seqs=256,kv_tokens=400000,
           copies=2,devices=1,usd_per_hour=2.5,beside=OTHER

  headgate simulate headgate.yaml --journal journal/ --sweep price=10,30,100,300
  headgate simulate headgate.yaml --rate 500 --quality small=.6,large=.9 --find --keep .97 --slo ttft_ms=300

Nothing is started or asked. docs/simulate.md says what it can tell, and what it cannot."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _ABOUT
    _who(parser.add_argument_group("who answers"))
    _load(parser.add_argument_group("what is asked, and when"))
    _quality(parser.add_argument_group("how good answers are"))
    _question(parser.add_argument_group("what is to be known"))


def _who(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("config", nargs="?", type=home_path, metavar="headgate.yaml", help="pool, routing and limits")
    group.add_argument(
        "--engine", action="append", default=[], metavar="NAME,KEY=VALUE,...",
        help="a member, or what differs from the config's; may be given again",
    )  # fmt: skip
    group.add_argument(
        "--costs", type=home_path, metavar="PATH",
        help="step models: a folder with costs.json, or what `profile --json` wrote (default: the cache folder)",
    )  # fmt: skip
    group.add_argument("--price", type=not_negative, metavar="LAMBDA", help="instead of the config's")
    group.add_argument(
        "--policy", action="append", default=[], metavar="NAME",
        help="auto, a member's name, router-mf-T; may be given again (default: auto)",
    )  # fmt: skip


def _load(group: "argparse._ArgumentGroup") -> None:
    recorded = group.add_mutually_exclusive_group()
    recorded.add_argument("--journal", type=home_path, metavar="PATH", help="replay a journal: a folder, or one file")
    recorded.add_argument(
        "--trace", type=home_path, metavar="FILE", help="replay a trace: times, and lengths if it has"
    )
    group.add_argument("--rate", type=positive, metavar="R", help="requests a second (default: 1, or as recorded)")
    group.add_argument("--seconds", type=positive, metavar="S", help="(default: 300)")
    group.add_argument("--arrivals", choices=("poisson", "constant"), default="poisson", help="(default: poisson)")
    group.add_argument("--burst", type=burst, metavar="FACTOR,S,EVERY", help="so much more for S seconds out of EVERY")
    group.add_argument("--ramp", type=two, metavar="FROM,TO", help="a rate that changes evenly, instead of --rate")
    group.add_argument("--tokens", type=lengths, default=(500, 200), metavar="IN,OUT", help="means (default: 500,200)")
    group.add_argument(
        "--token-spread", type=not_negative, default=0.8, metavar="X",
        help="standard deviation of lengths over their mean; 0: all alike (default: .8)",
    )  # fmt: skip
    group.add_argument(
        "--prefix-hit", type=not_negative, default=0.0, metavar="X", help="share of prompts that is cached (default: 0)"
    )


def _quality(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--quality", type=_means, metavar="NAME=MEAN,...",
        help="drawn, of such means (default: the strengths in the config)",
    )  # fmt: skip
    group.add_argument("--outcomes", type=home_path, metavar="TABLE", help="drawn from a labelled table")
    group.add_argument(
        "--scores", choices=("checkpoint", "labels"), default="checkpoint",
        help="what decisions go by: the config's checkpoint, or the labels themselves (default: checkpoint)",
    )  # fmt: skip


def _question(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--find", action="store_true", help="the cheapest pool that holds: copies and lambda")
    group.add_argument(
        "--sweep", metavar="KEY=V,V,...", help="rate, price, slo_ttft_ms, copies.NAME, kv_tokens.NAME ..."
    )
    group.add_argument("--slo", type=slo, metavar="KEY=MS,...", help="ttft_ms, tpot_ms, e2e_ms")
    group.add_argument(
        "--attain", type=share, default=0.95, metavar="X", help="share of requests within the SLO (default: .95)"
    )
    group.add_argument("--keep", type=share, metavar="X", help="of the best member's quality, with --find")
    group.add_argument(
        "--most-devices", type=numbers.whole(1, 100_000), default=1_000, metavar="N", help="with --find (default: 1000)"
    )
    group.add_argument("--runs", type=numbers.whole(1, 100), default=1, metavar="N", help="seeds (default: 1)")
    group.add_argument("--seed", type=numbers.seed, default=0, help="(default: 0)")
    group.add_argument(
        "--out",
        type=home_path,
        default=Path("headgate-simulate"),
        metavar="FOLDER",
        help="(default: headgate-simulate)",
    )
    group.add_argument("--no-pictures", action="store_true", help="no PNG and no page: needs no matplotlib")
    group.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    from router.cli import simulate_plan
    from router.cli.drawing import check_drawing
    from router.learn.simulate import output, results, text

    if not args.no_pictures:
        check_drawing("router.learn.simulate.pictures")
    began_s = time.monotonic()
    with Bar(shown=not args.json, left=True) as bar:
        planned = simulate_plan.of(args, bar)
        points, candidates = _answers(planned, bar)
    study = planned.study
    found = results.found(
        study.pool, planned.traffic, points, command=again("simulate"), seeds=study.seeds,
        slo=study.slo.text() if study.slo else "", attain=args.attain, keep=args.keep,
        swept=planned.sweep.name if planned.sweep else "", candidates=candidates, took_s=time.monotonic() - began_s,
    )  # fmt: skip
    written = output.write(found, args.out, pictures=not args.no_pictures)
    if args.json:
        print(output.json(found))
    else:
        text.show(found)
        print(f"Written: {', '.join(str(path) for path in written)}")
    return 1 if planned.need is not None and all(one.found is None for one in candidates) else 0


def _answers(planned: "Planned", bar: Bar) -> "tuple[list[Figures], list[Candidate]]":
    from router.learn.simulate import search
    from router.learn.simulate.study import swept

    study = planned.study
    if planned.need is not None:
        bar.stage("search", search.steps_of(study.pool, planned.prices, planned.traffic, planned.need))
        first = True

        def told(_: str) -> None:
            nonlocal first
            if not first:
                bar.step()
            first = False

        return [], search.search(study, planned.need, prices=planned.prices, told=told)
    if planned.sweep is not None:
        bar.stage(f"sweep of {planned.sweep.name}", _PARTS * len(study.policies) * len(planned.sweep.values))
        return swept(study, planned.sweep, lambda policy, value: _parts(bar)), []
    bar.stage("simulate", _PARTS * len(study.policies))
    return [study.figures(name, progress=_parts(bar)) for name in study.policies], []


def _parts(bar: Bar) -> Callable[[float], None]:
    """Of one point: moves the bar by the parts that have been done."""
    done = 0

    def progress(share: float) -> None:
        nonlocal done
        while done < math.floor(share * _PARTS + 1e-9):
            bar.step()
            done += 1

    return progress


def _means(text: str) -> dict[str, float]:
    out: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.rpartition("=")
        if not equals or not name or name in out:
            raise argparse.ArgumentTypeError(f"expected NAME=MEAN,... as in small=.6,large=.9, got {text!r}")
        out[name] = share(value)
    return out
