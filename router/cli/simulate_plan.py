"""What `headgate simulate` is to simulate, of its flags: pool, traffic, policies, and the question."""

import argparse
from functools import lru_cache

import msgspec
import numpy as np

from router import config as configuration
from router.cli.bar import Bar
from router.config import Config, cache_folder
from router.errors import ConfigError
from router.learn.bench.arrivals import Arrivals, Burst
from router.learn.bench.plan import Slo
from router.learn.simulate import configured, journal, quality, study, traffic
from router.learn.simulate.pool import Pool
from router.learn.simulate.quality import Qualities, Score
from router.learn.simulate.search import Need
from router.learn.simulate.study import Make, Study, Sweep
from router.learn.simulate.traffic import Floats, Ints, Traffic
from router.observe.journal import Reader
from router.pipeline.scoring import Scoring
from router.policy import Settings
from router.types import Query, Turn

_SECONDS = 300.0
_BLOCK_BYTES = 1 << 20  #: of a journal, for a step of the bar
_KEPT = 8  #: traffics that are kept for further points


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    study: Study
    traffic: Traffic  #: of the first seed
    sweep: Sweep | None = None
    need: Need | None = None
    prices: tuple[float, ...] = ()  #: that a search is to try; none: it chooses


def of(args: argparse.Namespace, bar: Bar) -> Planned:
    """Raises ConfigError."""
    if args.find and args.sweep is not None:
        raise ConfigError("--find: expected it without --sweep")
    if args.find and args.policy:
        raise ConfigError("--find: expected it without --policy: it compares auto with each member alone")
    if args.keep is not None and not args.find:
        raise ConfigError("--keep: expected it with --find")
    config = Config() if args.config is None else configuration.load(args.config)
    pool = _pool(args, config)
    make = _make(args, config, pool, bar)
    first = make(None, args.seed)
    names = tuple(dict.fromkeys(args.policy)) or ("auto",)
    seeds = (args.seed,) if args.journal is not None else tuple(range(args.seed, args.seed + args.runs))
    made = Study(
        pool=pool, make=make, policies=study.policies(names, pool, first), seeds=seeds,
        slo=Slo(**args.slo) if args.slo else None,
    )  # fmt: skip
    return Planned(
        study=made, traffic=first, sweep=study.sweep_of(args.sweep, pool) if args.sweep else None,
        need=Need(attain=args.attain, keep=args.keep, most_devices=args.most_devices) if args.find else None,
        prices=() if args.price is None else (args.price,),
    )  # fmt: skip


def _pool(args: argparse.Namespace, config: Config) -> Pool:
    routing, limits = config.routing, config.server.limits
    settings = Settings(
        rule="utility" if routing.threshold is None else "threshold", threshold=routing.threshold or 0.0,
        price=routing.price if args.price is None else args.price, slo_ttft_s=routing.slo_ttft_s,
        most_waiting=limits.waiting,
    )  # fmt: skip
    flags = [configured.engine_flag(text) for text in args.engine]
    models = configured.step_models(args.costs) if args.costs else configured.kept_models(cache_folder())
    return configured.pool_of(config, flags, models, settings)


def _make(args: argparse.Namespace, config: Config, pool: Pool, bar: Bar) -> Make:
    if args.journal is not None:
        if args.quality or args.outcomes:
            raise ConfigError("--journal: expected it without --quality and --outcomes: its decisions tell the scores")
        recorded = _journal(args, pool, bar)
        return lambda rate, seed: at_rate(recorded, rate if rate is not None else args.rate)
    if args.trace is not None:
        at_s, prompt, output, moved = traffic.of_trace(args.trace, 1.0)
        kept = (at_s, prompt, output, moved)
    else:
        kept = None
    if args.ramp is not None and (args.rate is not None or args.burst is not None or kept is not None):
        raise ConfigError("--ramp: expected it without --rate, --burst and --trace")
    score = _score(args, config, pool)

    @lru_cache(_KEPT)
    def make(rate: float | None, seed: int) -> Traffic:
        return _drawn(args, config, pool, kept, score, rate if rate is not None else args.rate, seed)

    return make


def _journal(args: argparse.Namespace, pool: Pool, bar: Bar) -> Traffic:
    due = _BLOCK_BYTES
    bar.stage(args.journal.name or "journal", Reader(args.journal).total_bytes() // _BLOCK_BYTES)

    def progress(read_bytes: int) -> None:
        nonlocal due
        while read_bytes >= due:
            bar.step()
            due += _BLOCK_BYTES

    return journal.of_journal(args.journal, pool.names, 1.0, progress)


def at_rate(recorded: Traffic, rate: float | None) -> Traffic:
    """Its gaps stretched or squeezed, so that so many requests come a second on average."""
    if rate is None or not recorded.rate:
        return recorded
    return msgspec.structs.replace(recorded, at_s=recorded.at_s * (recorded.rate / rate))


def _drawn(
    args: argparse.Namespace, config: Config, pool: Pool, kept: tuple[Floats, Ints, Ints, int] | None,
    score: Score | None, rate: float | None, seed: int,
) -> Traffic:  # fmt: skip
    rng = np.random.default_rng([seed, 1])
    if kept is None:
        at_s, about = _moments(args, rate, seed)
        prompt, output, moved = np.zeros(len(at_s), np.int32), np.zeros(len(at_s), np.int32), 0
    else:
        at_s, prompt, output, moved = kept
        about = f"trace {args.trace.name}"
    size = len(at_s)
    mean_in, mean_out = args.tokens
    prompt = np.where(prompt > 0, prompt, traffic.lengths(mean_in, args.token_spread, size, rng)).astype(np.int32)
    told = output > 0
    output = np.where(told, output, traffic.lengths(mean_out, args.token_spread, size, rng)).astype(np.int32)
    found = _qualities(args, config, pool, size, rng, score)
    if found.output is not None and not told.any():
        output = found.output
    made = traffic.made(
        about, pool.names, at_s, prompt, output, found.score, found.quality, cached_share=args.prefix_hit, moved=moved
    )
    return made if kept is None else at_rate(made, rate)


def _moments(args: argparse.Namespace, rate: float | None, seed: int) -> tuple[Floats, str]:
    how = Arrivals(poisson=args.arrivals == "poisson", burst=Burst(*args.burst) if args.burst else None)
    begin, end = args.ramp or (None, None)
    per_s = rate if rate is not None else begin if begin is not None else 1.0
    ends = None if end is None else end * per_s / begin  # of a sweep of rates, the whole ramp grows
    at_s = traffic.moments(how, per_s, args.seconds or _SECONDS, seed, ends)
    if not len(at_s):
        raise ConfigError(f"--rate, --seconds: expected at least one request, got none at {per_s:g} a second")
    shape = f"ramp from {per_s:g} to {ends:g} a second" if ends is not None else f"{args.arrivals} arrivals"
    return at_s, f"{shape}, {args.tokens[0]} tokens in and {args.tokens[1]} out"


def _qualities(
    args: argparse.Namespace, config: Config, pool: Pool, size: int, rng: np.random.Generator, score: Score | None
) -> Qualities:
    if args.outcomes is not None and args.quality:
        raise ConfigError("--outcomes: expected it without --quality")
    if args.outcomes is not None:
        return quality.of_table(args.outcomes, pool.names, size, rng, score)
    if args.quality:
        return quality.drawn(args.quality, pool.names, size, rng)
    if len(pool.models) == 1:
        return Qualities(score=np.ones((size, 1)), quality=None)
    strengths = {member.name: member.strength for member in config.pool}
    missing = [name for name in pool.names if strengths.get(name) is None]
    if missing:
        raise ConfigError(
            f"it is not known how good answers are: give --quality {'=..., '.join(pool.names)}=..., --outcomes TABLE,"
            f" or a strength in the config; {missing[0]!r} has none"
        )
    return quality.drawn({name: strengths[name] or 0.0 for name in pool.names}, pool.names, size, rng)


def _score(args: argparse.Namespace, config: Config, pool: Pool) -> Score | None:
    """The config's checkpoint, where it is asked."""
    if args.outcomes is None or args.scores == "labels" or args.config is None:
        return None
    if pool.names != tuple(member.name for member in config.pool):
        raise ConfigError("--scores checkpoint: expected members of the config alone, as it scores no others")
    scoring = Scoring.load(config.routing.checkpoint, config.pool)

    def score(text: str) -> tuple[float, ...]:
        return scoring.score(Query(kind="chat", model="auto", turns=(Turn("user", text),))).quality

    return score
