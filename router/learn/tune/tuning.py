"""Finds the price or threshold for a pool, prompts and a target, from the policy's own terms, and verifies it by the
policy's own decisions. Computes neither costs nor hard rules itself."""

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
import numpy as np

from router.errors import ConfigError, RouterError
from router.learn.tune import operating_point as op
from router.learn.tune.operating_point import Dial, Indices, Interval, Point, Terms
from router.pipeline.decider import Decider
from router.policy import Settings
from router.types import Decision, Query, Scores, Snapshot

OnStep = Callable[[], None]
Scored = tuple[Query, Scores]


class Ask(msgspec.Struct, frozen=True):
    """`share`: of the requests, on the strongest member. `budget`: the most dollars per 1,000 requests. `quality`: the
    least mean predicted quality, as a part of the strongest member's."""

    kind: Literal["share", "budget", "quality"]
    amount: float


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Where the dial was put, and what the policy then does with the prompts."""

    setting: Literal["price", "threshold"]  #: of the config's `routing`
    before: float | None  #: its value until now
    value: float
    ask: Ask
    members: tuple[str, ...]
    strong: int
    prompts: int  #: that were decided
    refused: int  #: that no member may serve
    realised: Point  #: by the policy's own decisions
    share_interval: Interval | None  #: central 95 %, of traffic like these prompts; None of one prompt
    usd_interval: Interval | None
    quality_interval: Interval | None
    now: Point  #: by the routing that stands in the config
    strong_quality: float  #: mean predicted quality, were the strongest always asked
    curve: tuple[Point, ...]
    seen: bool = False  #: the router was trained on this very file
    few: bool = False  #: so few prompts that their shares say little of others


def tune(
    decider: Decider,
    queries: Sequence[Query],
    ask: Ask,
    *,
    threshold: bool = False,
    snapshot: Snapshot | None = None,
    on_step: OnStep = lambda: None,
) -> Found:
    """Finds lambda, or with `threshold` that of RouteLLM's rule, and puts the decider to it. `on_step` is called once a
    prompt. Raises ConfigError where the ask cannot be met, saying what can be."""
    pool, routing, auto = snapshot or decider.assumed, decider.routing, decider.names.settings("auto")
    if auto.rule == "threshold" and not threshold:
        raise ConfigError("`routing.threshold` is set, so `auto` reads no price: remove it, or give --threshold")
    rule = msgspec.structs.replace(auto, rule="threshold" if threshold else "utility")
    scored, told = _told(decider, queries, pool, rule, on_step)
    dial = _dial(_terms(told), rule)
    value = dial.value(_stretch(dial, ask, decider, rule))
    setting: Literal["price", "threshold"] = "threshold" if threshold else "price"
    decider.reload(msgspec.structs.replace(routing, **{setting: value}))
    chosen = _chosen(decider, scored, pool, decider.names.settings("auto"))
    realised, rows = op.point(dial.terms, value, chosen), np.arange(len(scored))
    before = getattr(routing, setting)
    return Found(
        setting=setting,
        before=before,
        value=value,
        ask=ask,
        members=tuple(member.name for member in pool.members),
        strong=rule.strong,
        prompts=len(scored),
        refused=len(queries) - len(scored),
        realised=realised,
        share_interval=op.wilson(realised.shares[rule.strong], len(scored)),
        usd_interval=op.mean_interval(1000 * dial.terms.cost_usd[rows, chosen]),
        quality_interval=op.share_interval(dial.terms.quality[rows, chosen]),
        now=op.point(dial.terms, _setting(auto), _chosen(decider, scored, pool, auto)),
        strong_quality=_always(dial, rule.strong),
        curve=tuple(dial.curve()),
        few=len(scored) < op.FEW,
    )


def _told(
    decider: Decider, queries: Sequence[Query], pool: Snapshot, rule: Settings, on_step: OnStep
) -> tuple[list[Scored], list[Decision]]:
    """The queries that can be served, scored, and what the policy says of each. Rules do not read price or threshold:
    what is refused once is refused always."""
    scored: list[Scored] = []
    told: list[Decision] = []
    refusal: RouterError | None = None
    for query in queries:
        scores = decider.scoring.score(query)
        try:
            told.append(decider.choose(query, scores, pool, rule))
            scored.append((query, scores))
        except RouterError as error:
            refusal = error
        on_step()
    if not scored:
        raise ConfigError(f"none of the {len(queries)} prompts can be served: {refusal}")
    return scored, told


def _terms(told: Sequence[Decision]) -> Terms:
    """A member is open where the same rule as for the chosen one, mostly none, rules it out: soft rules are given up
    for all at once."""
    excluded = [_column(decision, "excluded") for decision in told]
    return Terms(
        np.array([_column(decision, "quality") for decision in told], np.float64),
        np.array([_column(decision, "cost_usd") for decision in told], np.float64),
        np.array([[rule == rules[d.member] for rule in rules] for d, rules in zip(told, excluded, strict=True)]),
        np.array([d.score if d.reason == "threshold" else np.nan for d in told], np.float64),
    )


def _column(decision: Decision, name: str) -> Sequence[float | str | None]:
    assert decision.numbers is not None
    return decision.numbers.column(name)


def _dial(terms: Terms, rule: Settings) -> Dial:
    if rule.rule == "threshold":
        return op.threshold_dial(terms, rule.strong, rule.weak, rule.price)
    return op.price_dial(terms, rule.strong)


def _chosen(decider: Decider, scored: Sequence[Scored], pool: Snapshot, settings: Settings) -> Indices:
    return np.array([decider.choose(query, scores, pool, settings).member for query, scores in scored])


def _setting(settings: Settings) -> float:
    """What such settings are set to."""
    return settings.threshold if settings.rule == "threshold" else settings.price


def _stretch(dial: Dial, ask: Ask, decider: Decider, rule: Settings) -> int:
    """Raises ConfigError naming what is within reach."""
    names = [member.name for member in decider.assumed.members]
    if not len(dial.steps):
        raise ConfigError(_stuck(dial, names))
    strong, member = names[rule.strong], _always(dial, rule.strong)
    if ask.kind == "share":
        found, shares = op.for_share(dial, ask.amount), dial.shares()
        flag, within = (
            "--large-share",
            f"{shares.min():.1%} to {shares.max():.1%} of these prompts can go to {strong!r}",
        )
        if rule.rule == "utility":
            within += (
                "; a price of 0 or more sends it none where another is predicted to be better: RouteLLM's rule can"
                " (--threshold)"
            )
    elif ask.kind == "budget":
        found, least = op.for_budget(dial, ask.amount), dial.point(len(dial.steps)).usd_per_1k
        flag, within = "--budget", f"these prompts cost ${least:.4g} per 1,000 or more"
    else:
        found, most = op.for_quality(dial, ask.amount * member), dial.point(dial.peak).quality / member
        flag, within = (
            "--quality",
            f"at most {most:.4g} times the predicted mean of {strong!r}, {member:.4f}, is in reach",
        )
    if found is None:
        raise ConfigError(f"{flag} {ask.amount:g}: {within}")
    return found


def _stuck(dial: Dial, names: Sequence[str]) -> str:
    shares = ", ".join(
        f"{share:.0%} {name!r}" for name, share in zip(names, dial.point(0).shares, strict=True) if share
    )
    why = f"nothing moves any of these prompts: at every setting they go {shares}"
    cost = dial.terms.cost_usd
    if len(names) > 1 and (cost == cost[:, :1]).all():
        why += (
            ". All members cost the same here, as rates are learnt while serving: give their gpu_share or usd_per_hour,"
            " prefill_tokens_per_s, time_per_output_token_s and mean_output_tokens, or --load with a running server's"
        )
    return why


def _always(dial: Dial, member: int) -> float:
    """Mean predicted quality of a member over all prompts."""
    return float(dial.terms.quality[:, member].mean())
