"""What a simulated run came to: figures by the names and definitions of `headgate bench`, over one or several seeds.

The first tenth of the time is warm-up, in no figure of latency or quality. Requests that were refused count against the
SLO, and their quality is 0.
"""

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from router.learn.bench.figures import GOOD, QUANTILES, Estimate
from router.learn.bench.plan import Slo
from router.learn.simulate.run import Outcome
from router.learn.simulate.traffic import Floats
from router.native.simulator import STATUSES

Flags = npt.NDArray[np.bool_]
WARM = 0.1  #: of the time in which requests come


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One model of the pool, over all its engines."""

    name: str
    engines: int
    share: float  #: of the answers
    within: float | None  #: share of these within the SLO; None: there is none, or it gave no answer
    busy: float  #: share of the time in which its engines worked
    preemptions: int
    running: float  #: mean sequences in a step that gave tokens


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Of one pool under one load. Estimates: means over seeds, with the lowest and the highest of several."""

    label: str
    rate: float  #: requests a second, on average
    requests: int  #: of one seed
    refused: dict[str, int]  #: by reason, over all seeds
    devices: int
    usd_per_hour: float
    copies: dict[str, int]  #: of each group
    price: float
    figures: dict[str, Estimate]
    members: tuple[Member, ...]
    x: float = math.nan  #: of a sweep: what was varied


def of(outcomes: Sequence[Outcome], label: str, slo: Slo | None, *, price: float, x: float = math.nan) -> Figures:
    """`outcomes`: of the same pool and rate by several seeds, at least one."""
    first = outcomes[0]
    rows = [values(one, slo) for one in outcomes]
    names = [name for name in rows[0] if all(name in row for row in rows)]
    refused: dict[str, int] = {}
    for one in outcomes:
        for status, count in enumerate(np.bincount(one.status, minlength=len(STATUSES))):
            if count and STATUSES[status] != "answered":
                refused[STATUSES[status]] = refused.get(STATUSES[status], 0) + int(count)
    return Figures(
        label=label, rate=first.traffic.rate, requests=len(first.status), refused=refused, devices=first.pool.devices,
        usd_per_hour=first.pool.usd_per_hour, copies={group.name: group.copies for group in first.pool.groups},
        price=price, figures={name: _estimate([row[name] for row in rows]) for name in names},
        members=_members(outcomes, slo), x=x,
    )  # fmt: skip


def _estimate(found: Sequence[float]) -> Estimate:
    if len(found) == 1:
        return Estimate(found[0])
    return Estimate(math.fsum(found) / len(found), min(found), max(found))


def values(one: Outcome, slo: Slo | None) -> dict[str, float]:
    """Figures of one run by name."""
    at_s = one.traffic.at_s
    begin_s, end_s = float(at_s[0]), float(at_s[-1])
    warm_s = begin_s + WARM * (end_s - begin_s)
    counted = at_s >= warm_s
    window_s = end_s - warm_s
    ended_s = at_s + one.total_s
    inside = one.answered & (ended_s >= warm_s) & (ended_s <= end_s)
    out = {"answered_share": float(one.answered[counted].mean())}
    if window_s > 0:
        out |= {
            "requests_per_s": float(inside.sum() / window_s),
            "output_tokens_per_s": float(one.output[inside].sum() / window_s),
        }
    out |= _quality(one, counted) | _latency(one, counted & one.answered)
    if slo is not None:
        kept = within(one, slo)
        out["slo_share"] = float(kept[counted].mean())
        if window_s > 0:
            out["goodput_per_s"] = float((kept & inside).sum() / window_s)
    return out | _dollars(one) | {"in_flight_most": float(in_flight_most(one))}


def in_flight_most(one: Outcome) -> int:
    """Requests that were past the gate at once."""
    at_s = one.traffic.at_s[one.answered]
    begun, ended = np.sort(at_s + one.gate_s[one.answered]), np.sort(at_s + one.total_s[one.answered])
    if not len(begun):
        return 0
    return int((np.arange(1, len(begun) + 1) - np.searchsorted(ended, begun, side="right")).max())


def within(one: Outcome, slo: Slo) -> Flags:
    """Which requests kept every bound."""
    kept = one.answered.copy()
    for bound_ms, seconds in ((slo.ttft_ms, one.first_s), (slo.tpot_ms, tpot_s(one)), (slo.e2e_ms, one.total_s)):
        if bound_ms is not None:
            kept &= ~(seconds * 1e3 > bound_ms)  # an answer of one token has no time per token to exceed
    return kept


def tpot_s(one: Outcome) -> Floats:
    """Mean time per token after the first; NaN of an answer of one token."""
    gaps = np.where(one.output > 1, one.output - 1, np.nan)
    return np.asarray((one.total_s - one.first_s) / gaps)


def _quality(one: Outcome, counted: Flags) -> dict[str, float]:
    """Of all that were asked, and over that of the best member, were it to answer all of them."""
    true = one.traffic.true_quality
    got = np.where(one.answered, true[np.arange(len(true)), np.maximum(one.model, 0)], 0.0)
    best = float(one.traffic.best_quality[counted].mean())
    quality = float(got[counted].mean())
    good = float((got[counted & one.answered] >= GOOD).sum())
    out = {"quality": quality, "good_answers": good}
    return out | ({"quality_ratio": quality / best} if best > 0 else {})


def _latency(one: Outcome, counted: Flags) -> dict[str, float]:
    out: dict[str, float] = {}
    for name, seconds in (("ttft", one.first_s), ("tpot", tpot_s(one)), ("e2e", one.total_s), ("gate", one.gate_s)):
        known = seconds[counted]
        known = known[~np.isnan(known)]
        if len(known):
            found = np.percentile(known, QUANTILES)
            out |= {f"{name}_p{q}_ms": float(ms) for q, ms in zip(QUANTILES, found * 1e3, strict=True)}
    return out


def _dollars(one: Outcome) -> dict[str, float]:
    """Rent of all devices until the last request ended."""
    usd = one.pool.usd_per_hour * one.seconds / 3600
    worked = math.fsum(engine["worked_s"] for engine in one.engines)
    out = {"usd": usd, "busy": worked / (len(one.engines) * one.seconds) if one.seconds > 0 else 0.0}
    tokens, answers = int(one.output.sum()), int(one.answered.sum())
    if tokens:
        out["usd_per_million_tokens"] = usd / tokens * 1e6
    if answers:
        out |= {"usd_per_thousand_answers": usd / answers * 1e3, "engine_s_per_request": worked / answers}
    true = one.traffic.true_quality
    good = int((true[np.arange(len(true)), np.maximum(one.model, 0)][one.answered] >= GOOD).sum())
    if good:
        out["usd_per_thousand_good"] = usd / good * 1e3
    return out


def _members(outcomes: Sequence[Outcome], slo: Slo | None) -> tuple[Member, ...]:
    kept = [within(one, slo) for one in outcomes] if slo is not None else []
    pool = outcomes[0].pool
    engines = pool.engines()
    out = []
    for i, model in enumerate(pool.models):
        mine = [one.engines[j] for one in outcomes for j, engine in enumerate(engines) if engine.model == i]
        answers = sum(int(one.answered.sum()) for one in outcomes)
        given = sum(int((one.model == i).sum()) for one in outcomes)
        seconds = math.fsum(one.seconds for one in outcomes) * pool.groups[model.group].copies
        steps = sum(engine["steps"] for engine in mine)
        out.append(
            Member(
                name=model.name, engines=pool.groups[model.group].copies, share=given / answers if answers else 0.0,
                within=sum(int((ok & (one.model == i)).sum()) for one, ok in zip(outcomes, kept, strict=True)) / given
                if kept and given else None,
                busy=math.fsum(engine["worked_s"] for engine in mine) / seconds if seconds > 0 else 0.0,
                preemptions=sum(engine["preemptions"] for engine in mine),
                running=sum(engine["output_tokens"] for engine in mine) / steps if steps else 0.0,
            )
        )  # fmt: skip
    return tuple(out)


def holds(found: Figures, attain: float, keep: float | None) -> bool:
    """Whether the SLO is kept by `attain` of the requests (without one: all are answered), and `keep` of the best
    constant's quality."""
    figures: Mapping[str, Estimate] = found.figures
    share = figures.get("slo_share", figures["answered_share"]).value
    ratio = figures.get("quality_ratio")
    return share >= attain and (keep is None or (ratio is not None and ratio.value >= keep))
