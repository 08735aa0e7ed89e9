"""What a simulation found, as it is written down."""

import platform
import time
from collections.abc import Mapping, Sequence

import msgspec

from router.learn.simulate.figures import Figures
from router.learn.simulate.pool import Pool
from router.learn.simulate.search import Candidate
from router.learn.simulate.traffic import Traffic
from router.version import __version__

#: Figures of a step model that is less sure than this are told as such.
DOUBT = 0.25


class Found(msgspec.Struct, frozen=True, kw_only=True):
    headgate: str
    python: str
    date: str
    command: str
    seed: int
    runs: int
    traffic: str
    requests: int
    rate: float
    slo: str
    attain: float
    keep: float | None
    laws: dict[str, dict[str, float]]  #: of each member: what its steps take
    points: list[Figures]
    swept: str = ""  #: what `points` vary
    candidates: list[Candidate] = []
    notes: list[str] = []  #: to be known before a figure is believed
    simulated_s: float = 0.0
    took_s: float = 0.0


def found(
    pool: Pool, traffic: Traffic, points: Sequence[Figures], *, command: str, seeds: Sequence[int], slo: str,
    attain: float, keep: float | None, swept: str = "", candidates: Sequence[Candidate] = (), took_s: float = 0.0,
) -> Found:  # fmt: skip
    return Found(
        headgate=__version__, python=platform.python_version(), date=time.strftime("%Y-%m-%d"), command=command,
        seed=seeds[0], runs=len(seeds), traffic=traffic.about, requests=len(traffic.at_s), rate=traffic.rate, slo=slo,
        attain=attain, keep=keep, laws={model.name: msgspec.structs.asdict(model.engine.law) for model in pool.models},
        points=list(points), swept=swept, candidates=list(candidates), took_s=took_s,
        notes=notes(pool, traffic) + gate_notes(pool, candidates),
        simulated_s=traffic.seconds,
    )  # fmt: skip


def notes(pool: Pool, traffic: Traffic) -> list[str]:
    out = list(pool.assumed)
    for model in pool.models:
        known = model.engine.known
        for what, error in (("engine seconds", known.cost_error), ("time to the first token", known.first_token_error)):
            if error > DOUBT:
                out.append(f"{model.name}: its step model was wrong by {error:.0%} in {what} (median)")
    if traffic.moved:
        out.append(f"{traffic.moved:,} rows of the trace stood behind a later one, and were put in order")
    out += [f"left out: {count:,}: {why}" for why, count in traffic.left_out.items()]
    if traffic.quality is None:
        out.append("quality is as predicted: no answer was graded")
    if traffic.about.startswith("journal"):
        out.append("an answer of another model is taken to be as long as the one that was given")
    return out


def gate_notes(pool: Pool, candidates: Sequence[Candidate]) -> list[str]:
    """Of what a search found, which leaves the gate's bound out."""
    best = next((one.found for one in candidates if one.best and one.found is not None), None)
    most = 0 if best is None else int(best.figures["in_flight_most"].value)
    if most <= pool.in_flight:
        return []
    return [
        f"{most:,} requests are in flight at once: server.limits.in_flight must allow as many, not {pool.in_flight:,}"
    ]


def refused(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {why}" for why, count in sorted(found.items())) or "-"
