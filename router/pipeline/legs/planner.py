"""What the plan says of one request: which model begins and how it is watched, whether a draft is enough, who goes on
with a text. Puts a decision's terms and a judge's estimates before the rule (`policy.plan`); decides nothing itself.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from router.pipeline.legs.rates import Rates, rates_of
from router.policy.plan import Option
from router.types import Choice, Decision, Query, Term
from router.verify.evidence import Evidence
from router.verify.judged import Running
from router.verify.odds import logit, probability
from router.watched import Figures, Statistic, WatchSettings

#: What a watch that was once overruled leaves an answer, in tokens, until it may stop it again.
_TOKENS_BETWEEN = 32


class Judge(Protocol):
    """Estimates of quality by evidence (`verify.judging`)."""

    gains: dict[
        str, float
    ]  #: held-out, of `cascade`, `handoff` and `first`; not above 0: off where it is not asked for
    correlation: float

    def quality(self, prior: float, evidence: Evidence, model: str) -> float: ...

    def running(self, prior: float, model: str, expected_tokens: float | None = None) -> Running: ...

    def spread(self, model: str) -> float: ...

    def first(self, model: str, prior: float = 0.5) -> tuple[npt.NDArray[np.float32], float] | None: ...


class Plan(Protocol):
    @property
    def next(self) -> int:
        """Which option to run; below 0: stop."""


class Handover(Protocol):
    def knots(self) -> tuple[tuple[float, float], ...]: ...

    def worth(self, tokens: float, statistic: float = 0.0) -> tuple[float, float]:
        """Of going on and of handing over."""


class Rule(Protocol):
    """`policy.plan`, by its functions."""

    def plan(self, options: Sequence[Option], price: float, correlation: float = 0.0) -> Plan: ...

    def handover(
        self,
        running: Running,
        prior: float,
        token_usd: float,
        large_quality: float,
        large_cost_at: Callable[[float], float],
        price: float,
        spread: float = 0.0,
        correlation: float = 0.0,
        large_spread: float = 0.0,
        *,
        after: bool = True,
    ) -> Handover: ...


class Way(msgspec.Struct, frozen=True):
    """How a request may be decided again."""

    cascade: bool = False
    handoff: bool = False
    first: bool = False  #: at the first token, by the model's own estimate


class Opening(msgspec.Struct, frozen=True):
    """How a leg is run: its text held back until it is judged, and the watch on it."""

    hold: bool = False
    watch: WatchSettings | None = None


class Planner:
    """Of one pool's routing settings. Pure: knows neither requests nor members."""

    def __init__(self, judge: Judge, rule: Rule, choice: Choice, hold_s: float) -> None:
        """`choice`: where a request says none."""
        self.hold_s = hold_s
        self._judge, self._rule, self._choice = judge, rule, choice
        self.common = self._way(choice, stream=True) is not None  #: requests that say nothing may have several legs

    def way(self, query: Query) -> Way | None:
        """None: it is decided before only."""
        way = self._way(query.choice or self._choice, stream=query.stream)
        return way if way is not None and _may_follow(query) else None

    def _way(self, choice: Choice, *, stream: bool) -> Way | None:
        gains = self._judge.gains
        if choice == "cascade":
            return Way(cascade=True)
        if choice == "handoff":
            return Way(handoff=True, first=gains.get("first", 0.0) > 0)
        if choice == "before":
            return None
        cascade, handoff = gains.get("cascade", 0.0), gains.get("handoff", 0.0)
        if stream and cascade > 0 and handoff > 0:  # what is told as it comes cannot be dropped
            cascade, handoff = (cascade, 0.0) if cascade > handoff else (0.0, handoff)
        way = Way(cascade=cascade > 0, handoff=handoff > 0, first=gains.get("first", 0.0) > 0)
        return way if way.cascade or way.handoff or way.first else None

    def first(self, decision: Decision, price: float) -> int:
        """The model to begin with; `decision` is today's."""
        plan = self._rule.plan([self._prior(term) for term in decision.terms], price, self._judge.correlation)
        return decision.member if plan.next < 0 else plan.next

    def opening(self, way: Way, decision: Decision, price: float, able: Sequence[bool], *, stream: bool) -> Opening:
        """For a leg from the prompt on by `decision`. `able`: by model, whether it can go on with another's text."""
        terms, at = decision.terms, decision.member
        better = [i for i, term in enumerate(terms) if term.excluded is None and term.quality > terms[at].quality]
        if not better:
            return Opening()
        watch, rates = WatchSettings(), rates_of(decision)
        if way.handoff and able[at] and (heir := _best(decision, price, [i for i in better if able[i]])) is not None:
            running = self._running(terms[at], rates[at])
            if running.tokens:
                found = self._handover(running, decision, rates, heir, price, after=way.cascade and not stream)
                watch = WatchSettings(statistic=running.statistic, knots=found.knots())
        if way.first and (heir := _best(decision, price, better)) is not None:
            watch = self._by_first_token(watch, decision, rates, heir, price)
        return Opening(hold=way.cascade, watch=watch)

    def judged(self, decision: Decision, evidence: Evidence) -> float:
        """P(right) of the answer of `decision`'s model."""
        term = decision.terms[decision.member]
        expected = rates_of(decision)[decision.member].output_tokens
        evidence = msgspec.structs.replace(evidence, expected_tokens=expected, quality=term.quality)
        return self._judge.quality(term.quality, evidence, term.model)

    def after(self, decision: Decision, qualities: Mapping[str, float], price: float) -> int:
        """What to run next, by index; below 0 for nothing. `decision` is one for the rest as it is now, `qualities`
        those of the models whose answers are there, by name."""
        options = [
            Option(quality=quality, cost_usd=0.0, run=True, prior=term.quality)
            if (quality := qualities.get(term.model)) is not None
            else self._prior(term)
            for term in decision.terms
        ]
        return self._rule.plan(options, price, self._judge.correlation).next

    def during(
        self,
        way: Way,
        decision: Decision,
        writer: int,
        figures: Figures | None,
        tokens: int,
        first_logits: bytes,
        price: float,
        able: Sequence[bool],
        *,
        stream: bool,
    ) -> int:
        """Who goes on with a text that the watch stopped after `tokens` of its writer. `decision` is one for the others
        as they are now."""
        terms, rates = decision.terms, rates_of(decision)
        heirs = [i for i, term in enumerate(terms) if i != writer and able[i] and term.excluded is None]
        heir = _best(decision, price, heirs)
        if heir is None:
            return writer
        if tokens == 0 and (estimate := self._estimate(terms[writer], first_logits)) is not None:
            return heir if estimate < self._least(decision, rates, writer, heir, price) else writer
        running = self._running(terms[writer], rates[writer])
        if not running.tokens or not way.handoff:
            return writer
        after = way.cascade and not stream  # the end may still be judged, and another model asked
        found = self._handover(running, decision, rates, heir, price, writer=writer, after=after)
        on, over = found.worth(float(tokens), statistic_of(running.statistic, figures or Figures()))
        return heir if over > on else writer

    # Within

    def _prior(self, term: Term) -> Option:
        return Option(
            quality=term.quality,
            cost_usd=term.cost_usd,
            spread=self._judge.spread(term.model),
            excluded=term.excluded is not None,
            favour=term.favour,
        )

    def _running(self, term: Term, rates: Rates) -> Running:
        return self._judge.running(term.quality, term.model, rates.output_tokens or None)

    def _handover(
        self,
        running: Running,
        decision: Decision,
        rates: Sequence[Rates],
        heir: int,
        price: float,
        *,
        writer: int | None = None,
        after: bool,
    ) -> Handover:
        terms, at = decision.terms, decision.member if writer is None else writer
        return self._rule.handover(
            running,
            terms[at].quality,
            rates[at].output_token,
            terms[heir].quality,
            lambda tokens: terms[heir].cost_usd + rates[heir].prompt_token * tokens,
            price,
            self._judge.spread(terms[at].model),
            self._judge.correlation,
            self._judge.spread(terms[heir].model),
            after=after,
        )

    def _by_first_token(
        self, watch: WatchSettings, decision: Decision, rates: Sequence[Rates], heir: int, price: float
    ) -> WatchSettings:
        """With a bound on what the model itself says of its chance."""
        term = decision.terms[decision.member]
        probe = self._judge.first(term.model, term.quality)
        if probe is None:
            return watch
        bound = logit(self._least(decision, rates, decision.member, heir, price))
        weights = tuple(float(weight) for weight in probe[0])
        return msgspec.structs.replace(watch, first_bound=bound, first_weights=weights, first_bias=probe[1])

    def _least(self, decision: Decision, rates: Sequence[Rates], writer: int, heir: int, price: float) -> float:
        """The quality at which one's own answer is worth as much as the heir's, its prompt being read."""
        terms, own = decision.terms, rates[writer].output_token * rates[writer].output_tokens
        return terms[heir].quality - price * (terms[heir].cost_usd - own)

    def _estimate(self, term: Term, first_logits: bytes) -> float | None:
        """The model's own, of its first token; None where it says nothing."""
        probe = self._judge.first(term.model, term.quality) if first_logits else None
        logits = np.frombuffer(first_logits, np.float16).astype(np.float32)
        if probe is None or logits.size != probe[0].size:
            return None
        return probability(float(logits @ probe[0]) + probe[1])


def _may_follow(query: Query) -> bool:
    """Only text that one engine wrote can be judged, or gone on with by another one."""
    return (
        query.kind in ("chat", "completions")
        and query.choices == 1
        and query.needs <= {"chat", "completions"}
        and not (query.adapter or query.response_id or query.token_ids or query.background)
    )


def _best(decision: Decision, price: float, among: Sequence[int]) -> int | None:
    terms = decision.terms
    return max(among, key=lambda i: terms[i].quality - price * terms[i].cost_usd, default=None)


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
    return WatchSettings(statistic=watch.statistic, knots=tuple(behind[:8]))
