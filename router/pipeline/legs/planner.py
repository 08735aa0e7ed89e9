"""What the plan says of one request: which model begins and how it is watched, whether a draft is enough, who goes on
with a text. Puts a decision's terms and a judge's estimates before the rule (`policy.plan`); decides nothing itself.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from router.types import Decision, Query, Term
from router.watched import Figures, Statistic, WatchSettings

Choice = Literal["", "before", "cascade", "handoff", "auto"]
#: What a watch that was once overruled leaves an answer, in tokens, until it may stop it again.
_TOKENS_BETWEEN = 32


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One model before the rule. Quality in [0, 1], dollars still to be spent."""

    quality: float
    cost_usd: float
    spread: float = 0.0  #: deviation of the posterior mean once its evidence is seen
    run: bool = False  #: its answer is there
    excluded: bool = False


class Plan(Protocol):
    @property
    def next(self) -> int:
        """Which option to run; below 0: stop."""

    @property
    def answer(self) -> int:
        """The best of those run; below 0: none was."""


class Running(Protocol):
    """logit P(right | it still runs after `tokens[k]`, statistic x) = intercept[k] + slope[k] x + prior_weight[k] logit
    prior."""

    statistic: Statistic
    tokens: tuple[float, ...]
    intercept: tuple[float, ...]
    slope: tuple[float, ...]
    prior_weight: tuple[float, ...]
    left: tuple[float, ...]  #: tokens still expected


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an answer that is complete."""

    prompt: str  #: the user's last turn
    text: str | None
    figures: Figures | None
    finish_reason: str
    output_tokens: int


class Judge(Protocol):
    """Estimates of quality by evidence, learnt from labels."""

    correlation: float  #: between models' posterior means

    def gain(self, way: Literal["cascade", "handoff", "first"]) -> float:
        """Held-out gain over deciding before only; not above 0: that way is off where it is not asked for."""
        ...

    def quality(self, prior: float, seen: Seen, model: str) -> float: ...

    def running(self, prior: float, model: str) -> Running | None: ...

    def spread(self, model: str) -> float: ...


class Knots(Protocol):
    """Where the watch stops an answer: (tokens, bound) of the running statistic, at most 8."""

    def __call__(
        self, running: Running, prior: float, small: "Rates", large: "Rates", price: float
    ) -> Sequence[tuple[float, float]]: ...


class Rule(Protocol):
    def __call__(self, options: Sequence[Option], price: float, correlation: float) -> Plan: ...


class Way(msgspec.Struct, frozen=True):
    """How a request may be decided again."""

    cascade: bool
    handoff: bool


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """What one model's work costs now, in dollars."""

    quality: float  #: prior
    whole: float  #: of a whole answer from here
    prompt_token: float
    output_token: float


class Opening(msgspec.Struct, frozen=True):
    """How a leg is run: its text held back until it is judged, and the watch on it."""

    hold: bool = False
    watch: WatchSettings | None = None


class Planner:
    """Of one pool's routing settings. Pure: knows neither requests nor members."""

    def __init__(self, judge: Judge, rule: Rule, knots: Knots, choice: Choice, hold_s: float) -> None:
        """`choice`: where a request says none."""
        self.hold_s = hold_s
        self._judge, self._rule, self._knots, self._choice = judge, rule, knots, choice

    def way(self, query: Query) -> Way | None:
        """None: it is decided before only."""
        asked: Choice = getattr(query, "choice", "") or self._choice or "auto"
        if asked == "before" or not _may_follow(query):
            return None
        if asked != "auto":
            return Way(cascade=asked == "cascade", handoff=asked == "handoff")
        cascade, handoff = self._judge.gain("cascade"), self._judge.gain("handoff")
        if query.stream and cascade > 0 and handoff > 0:  # one is told as it comes, of the other nothing is told before
            return Way(cascade=cascade > handoff, handoff=handoff >= cascade)
        return Way(cascade=cascade > 0, handoff=handoff > 0) if cascade > 0 or handoff > 0 else None

    def first(self, decision: Decision, price: float) -> int:
        """The model to begin with; `decision` is today's."""
        options = [self._prior(term) for term in decision.terms]
        plan = self._rule(options, price, self._judge.correlation)
        return decision.member if plan.next < 0 else plan.next

    def opening(self, way: Way, decision: Decision, price: float, able: Sequence[bool]) -> Opening:
        """For a leg from the prompt on by `decision`. `able`: by model, whether it can go on with another's text."""
        terms, chosen = decision.terms, decision.member
        better = [i for i, term in enumerate(terms) if term.excluded is None and term.quality > terms[chosen].quality]
        if not better:
            return Opening()
        heirs = [i for i in better if able[i]] if way.handoff and able[chosen] else []
        knots: tuple[tuple[float, float], ...] = ()
        statistic: Statistic = "logprob"
        running = self._judge.running(terms[chosen].quality, terms[chosen].model) if heirs else None
        if running is not None:
            heir = max(heirs, key=lambda i: terms[i].quality - price * terms[i].cost_usd)
            rates = rates_of(decision)
            knots = tuple(self._knots(running, terms[chosen].quality, rates[chosen], rates[heir], price))
            statistic = running.statistic
        return Opening(hold=way.cascade, watch=WatchSettings(statistic=statistic, knots=knots))

    def judged(self, prior: float, seen: Seen, model: str) -> float:
        return self._judge.quality(prior, seen, model)

    def after(self, decision: Decision, qualities: Mapping[str, float], price: float) -> tuple[int, int]:
        """What to run next, below 0 for nothing, and the best of those run, by index. `decision` is one for the rest as
        it is now, `qualities` those of the models whose answers are there, by name."""
        options = [
            self._prior(term)
            if term.model not in qualities
            else Option(quality=qualities[term.model], cost_usd=0.0, run=True)
            for term in decision.terms
        ]
        plan = self._rule(options, price, self._judge.correlation)
        return plan.next, plan.answer

    def during(
        self,
        decision: Decision,
        writer: int,
        figures: Figures | None,
        tokens: int,
        text_tokens: int,
        price: float,
        able: Sequence[bool],
    ) -> int:
        """Who goes on with a text of `text_tokens` that the watch stopped after `tokens` of its writer, which may
        itself. `decision` is one for the others as they are now."""
        terms, rates = decision.terms, rates_of(decision)
        running = self._judge.running(terms[writer].quality, terms[writer].model)
        if running is None or not any(able[i] and terms[i].excluded is None for i in range(len(terms)) if i != writer):
            return writer
        quality, left = still_right(running, terms[writer].quality, figures or Figures(), tokens)
        options = [
            Option(
                quality=term.quality,
                cost_usd=term.cost_usd + rates[i].prompt_token * text_tokens,
                spread=self._judge.spread(term.model),
                excluded=term.excluded is not None or not able[i],
            )
            for i, term in enumerate(terms)
        ]
        spread = self._judge.spread(terms[writer].model)
        options[writer] = Option(quality=quality, cost_usd=left * rates[writer].output_token, spread=spread)
        plan = self._rule(options, price, self._judge.correlation)
        return writer if plan.next < 0 else plan.next

    def _prior(self, term: Term) -> Option:
        return Option(
            quality=term.quality,
            cost_usd=term.cost_usd,
            spread=self._judge.spread(term.model),
            excluded=term.excluded is not None,
        )


def _may_follow(query: Query) -> bool:
    """Only text that one engine wrote can be judged, or gone on with by another one."""
    return (
        query.kind in ("chat", "completions")
        and query.choices == 1
        and query.needs <= {"chat", "completions"}
        and not (query.adapter or query.response_id or query.token_ids or query.background)
    )


def rates_of(decision: Decision) -> list[Rates]:
    """Of each model, by the numbers that `decision` was made of; without any, a token costs nothing beside the
    answer."""
    record = None if decision.numbers is None else decision.numbers.record()
    members = {} if record is None else record.members
    rates = []
    for i, term in enumerate(decision.terms):
        usd_per_s = term.cost_usd / term.gpu_s if term.gpu_s > 0 else 0.0
        prefill, per_token_s = (
            _column(members, "prefill_tokens_per_s", i),
            _column(members, "time_per_output_token_s", i),
        )
        rates.append(
            Rates(
                quality=term.quality,
                whole=term.cost_usd,
                prompt_token=usd_per_s / prefill if prefill > 0 else 0.0,
                output_token=usd_per_s * per_token_s,
            )
        )
    return rates


def still_right(running: Running, prior: float, figures: Figures, tokens: int) -> tuple[float, float]:
    """P(right | it still runs after `tokens`), and the tokens still expected: straight between the knots."""
    x = statistic_of(running.statistic, figures)
    logit = math.log(max(prior, 1e-6) / max(1 - prior, 1e-6))
    at = [
        intercept + slope * x + weight * logit
        for intercept, slope, weight in zip(running.intercept, running.slope, running.prior_weight, strict=True)
    ]
    return 1 / (1 + math.exp(-_between(running.tokens, at, tokens))), _between(running.tokens, running.left, tokens)


def statistic_of(statistic: Statistic, figures: Figures) -> float:
    if statistic == "tokens":
        return 0.0
    if statistic == "entropy":
        return figures.recent_entropy
    return figures.recent_logprob if statistic == "logprob" else figures.recent_margin


def knots_left(watch: WatchSettings, tokens: int) -> WatchSettings:
    """For an engine that goes on behind `tokens` that were watched: of the same boundary, after a pause."""
    behind = [(at - tokens, bound) for at, bound in watch.knots if at - tokens > _TOKENS_BETWEEN]
    if watch.knots and watch.statistic != "tokens":
        before = [bound for at, bound in watch.knots if at - tokens <= _TOKENS_BETWEEN]
        behind = [(float(_TOKENS_BETWEEN), before[-1] if before else behind[0][1]), *behind]
    return msgspec.structs.replace(watch, knots=tuple(behind))


def _between(knots: Sequence[float], values: Sequence[float], at: float) -> float:
    if at <= knots[0]:
        return values[0]
    for (left, low), (right, high) in zip(
        zip(knots, values, strict=True), zip(knots[1:], values[1:], strict=True), strict=False
    ):
        if at <= right:
            return low + (high - low) * (at - left) / (right - left)
    return values[-1]


def _column(members: Mapping[str, Sequence[object]], name: str, at: int) -> float:
    column = members.get(name)
    value = None if column is None else column[at]
    return float(value) if isinstance(value, int | float) else 0.0
