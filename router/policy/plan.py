"""The plan in words: what to run next of several models, or to stop, and when a running answer is handed over.

The rule and its arithmetic stand in csrc/plan.hpp and csrc/boundary.hpp; docs/moments.md has the formulas.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from router.native import plan as native
from router.native.policy import Numbers
from router.watched import MOST_KNOTS, Statistic

#: As natively told.
_Found = tuple[int, int, int, float | None, float | None, float, list[tuple[int, int, float]], list[int]]


class Option(msgspec.Struct, frozen=True):
    """One model, as a plan sees it. Qualities are chances in [0, 1]."""

    quality: float  #: P(acceptable answer): before it answers, or of its answer as it was seen
    cost_usd: float  #: from here on: of a part of an answer, of what is still to come; what is spent does not count
    spread: float = 0.0  #: standard deviation of the quality once its answer is seen, in quality points
    run: bool = False  #: it has answered
    excluded: bool = False  #: it cannot be run next
    favour: float = 0.0  #: quality points that it is worth to run it next
    #: Of one that has answered, its quality before that: what was learnt from the answer then moves the others, too.
    prior: float | None = None


class Course(msgspec.Struct, frozen=True):
    """Models by their place among the options, in the order of running: a second one only where the first one's answer
    asks for it. `value` in quality points."""

    models: tuple[int, ...]
    value: float


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do next. Places are those of the options; -1: none."""

    next: int  #: to be run; -1: stop
    then: int  #: what most likely follows, if that answer asks for it
    answer: int  #: the best of those that have answered
    value_stop: float | None  #: None: nothing has answered
    value_next: float | None  #: of the best course; None: nothing can be run
    cost_usd: float  #: expected, of what is still to be run
    set: tuple[int, ...]  #: what has answered, `next` and `then`
    courses: tuple[Course, ...]  #: that were looked at; those left out are worth less than the best


class Running(Protocol):
    """What is known of an answer of one model that still runs, at knots over its tokens: the columns are of one length.

    logit P(right | still running at tokens_k, statistic x) = intercept_k + slope_k * x + prior_weight_k * logit prior
    """

    @property
    def statistic(self) -> Statistic: ...
    @property
    def tokens(self) -> tuple[float, ...]: ...
    @property
    def intercept(self) -> tuple[float, ...]: ...
    @property
    def slope(self) -> tuple[float, ...]: ...
    @property
    def prior_weight(self) -> tuple[float, ...]: ...
    @property
    def left(self) -> tuple[float, ...]:
        """Expected tokens still to come."""
        ...


def plan(options: Sequence[Option], price: float, correlation: float = 0.0) -> Plan:
    """`price`: quality points for a dollar. `correlation`, 0..1, is that of what answers will tell of their models.

    Where nothing has run and no spread is above 0, `next` is what `decide` chooses. Raises ValueError.
    """
    return _told(native.plan(options, price, correlation))


def plan_of(numbers: Numbers) -> Plan:
    """Of a decision, by its terms, hard rules and price, and by what `native.plan.believe` told of its members."""
    return _told(native.plan_of(numbers))


def handover(
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
) -> native.Handover:
    """Of an answer that runs: `knots()` bound it for the watch, `worth(tokens, statistic)` tells what to do once it was
    stopped there. `running` has a knot at least.

    `prior`: the small model's quality before it answered; `token_usd`: of one of its tokens; `large_cost_at`: USD of
    handing over after so many tokens, prefill of what is not cached included. `after`: an answer that ended can still
    be given to the large model, as it can where nothing was shown yet. Raises ValueError.
    """
    tokens = running.tokens
    if not 1 <= len(tokens) <= MOST_KNOTS:
        raise ValueError(f"tokens: expected 1 to {MOST_KNOTS} knots, got {len(tokens)}")
    costs = [large_cost_at(at) for at in tokens]
    costs.append(large_cost_at(tokens[-1] + running.left[-1]) if running.left else 0.0)
    return native.Handover(
        running, prior, token_usd, large_quality, costs, price, spread, correlation, large_spread, after
    )


def words(plan: Plan, models: Sequence[str]) -> str:
    """One line for people; `models` in the options' order."""
    if plan.next < 0:
        if plan.answer < 0:
            return "nothing can be run"
        best = "" if plan.value_next is None else f"; the best way on is worth {plan.value_next:.3f}"
        return f"stop with the answer of {models[plan.answer]}: worth {plan.value_stop:.3f}{best}"
    then = "" if plan.then < 0 else f", then {models[plan.then]} where its answer asks for it"
    stop = "" if plan.value_stop is None else f"; to stop is worth {plan.value_stop:.3f}"
    return f"run {models[plan.next]}{then}: worth {plan.value_next:.3f}{stop}"


def _told(found: _Found) -> Plan:
    following, then, answer, stop, value, cost_usd, courses, run = found
    return Plan(
        next=following,
        then=then,
        answer=answer,
        value_stop=stop,
        value_next=value,
        cost_usd=cost_usd,
        set=tuple(sorted({*run, following, then} - {-1})),
        courses=tuple(Course((first,) if second < 0 else (first, second), worth) for first, second, worth in courses),
    )
