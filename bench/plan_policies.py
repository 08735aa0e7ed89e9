"""What each policy does with a table's prompts, at every setting of its one knob: quality and cost of each prompt.

Works on numbers. A prompt costs the small model's tokens as far as they are made, and the large model's where it is
asked. Handed over in the middle, the large one reads what was drafted, too. How well it goes on with a draft and how
much of it that saves no table tells: it is taken to write as much, and to be as good, as from the beginning.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from plan_tables import RATIO, READ, Fitted, Floats, Table

from router.native import plan as native
from router.policy.plan import Option, handover, plan

KNOBS = 40
Rows = npt.NDArray[np.bool_]
DEAREST = 4.0  #: highest price, in quality points for what a large answer costs more


class Curve(msgspec.Struct, frozen=True):
    """[knobs, prompts] each: what one policy reaches and spends."""

    quality: Floats
    cost: Floats

    def at(self, levels: Floats, counts: npt.NDArray[np.floating] | None = None) -> Floats:
        """The most that is reached at each mean cost: knobs may be mixed, and money may be left. `counts` [prompts]: a
        bootstrap's."""
        weights = np.ones(self.quality.shape[1]) if counts is None else counts
        cost, quality = (values @ weights / weights.sum() for values in (self.cost, self.quality))
        return np.asarray(np.interp(levels, *hull(cost, quality)))


def hull(cost: Floats, quality: Floats) -> tuple[list[float], list[float]]:
    """The points of the least non-decreasing concave line above all, in the order of cost."""
    kept: list[tuple[float, float]] = []
    for x, y in sorted(zip(cost.tolist(), quality.tolist(), strict=True), key=lambda point: (point[0], -point[1])):
        if kept and y <= kept[-1][1]:
            continue
        while len(kept) > 1 and _flatter(kept[-2], kept[-1], (x, y)):
            kept.pop()
        kept.append((x, y))
    return [x for x, _ in kept], [y for _, y in kept]


def _flatter(low: tuple[float, float], middle: tuple[float, float], high: tuple[float, float]) -> bool:
    """The middle one lies on or below the line from the low one to the high one."""
    return (middle[1] - low[1]) * (high[0] - low[0]) <= (high[1] - low[1]) * (middle[0] - low[0])


def large_cost(table: Table) -> float:
    return RATIO * table.large_tokens


Amount = TypeVar("Amount", float, Floats)


def handed_cost(table: Table, made: Amount) -> Amount:
    """Of the large model, from a draft of so many tokens."""
    return large_cost(table) + READ * made


def drafted(table: Table, answered: Rows, made: Floats | None = None, judged: bool = True) -> Curve:
    """Of one knob: the small model makes `made` tokens (all), and the large one answers where `answered`. `judged`:
    whole drafts are."""
    tokens = table.tokens if made is None else made
    over, whole = answered & (tokens < table.tokens), tokens >= table.tokens
    large = np.where(over, handed_cost(table, tokens), large_cost(table)) * answered
    cost = tokens + table.draft_cost * (judged & whole) + large
    return Curve(np.where(answered, table.large_right, table.right)[None], cost[None])


def stacked(curves: Sequence[Curve]) -> Curve:
    return Curve(np.concatenate([one.quality for one in curves]), np.concatenate([one.cost for one in curves]))


def router(table: Table) -> Curve:
    """Before: by the difference of what was thought of both."""
    gain = table.large - table.small
    found = []
    for knob in _knobs(gain):
        large = gain > knob
        cost = np.where(large, large_cost(table), table.tokens)
        found.append(Curve(np.where(large, table.large_right, table.right)[None], cost[None]))
    return stacked(found)


def cascade(table: Table) -> Curve:
    """After: the large one answers where the draft is judged below a threshold."""
    ends = [drafted(table, np.zeros(len(table.tokens), np.bool_), judged=False)]
    return stacked(ends + [drafted(table, table.judged < knob) for knob in _knobs(table.judged)])


def length(table: Table) -> Curve:
    """During: whatever still runs after so many tokens is handed over."""
    return stacked([
        drafted(table, table.tokens > knob, np.minimum(table.tokens, max(knob, 0)), judged=False)
        for knob in _knobs(table.tokens)
    ])  # fmt: skip


def planned(table: Table, *, during: bool = True) -> Curve:
    """The plan at every price; `during` False: never in the middle of an answer."""
    fitted = _fitted(table)
    return stacked([_priced(table, fitted, price, _each(during)) for price in _prices(table)])


def fixed(table: Table) -> Curve:
    """By the value of sets that are paid as a whole, before and after."""
    fitted = _fitted(table)
    return stacked([_priced(table, fitted, price, _by_sets) for price in _prices(table)])


Choice = tuple[float, bool]  # tokens that the small model makes; whether the large one answers
Decide = Callable[[Table, Fitted, int, float], Choice]
Fits = dict[int, Fitted]  # by fold


def _fitted(table: Table) -> Fits:
    return {int(fold): table.fitted(int(fold)) for fold in np.unique(table.folds)}


def _priced(table: Table, fitted: Fits, price: float, decide: Decide) -> Curve:
    made, answered = np.empty(len(table.tokens)), np.empty(len(table.tokens), np.bool_)
    for i, fold in enumerate(table.folds.tolist()):
        made[i], answered[i] = decide(table, fitted[fold], i, price)
    return drafted(table, answered, made)


def _each(during: bool) -> Decide:
    def decide(table: Table, fit: Fitted, i: int, price: float) -> Choice:
        small, large = _options(table, fit, i)
        found = plan([small, large], price, fit.correlation)
        values = {course.models: course.value for course in found.courses}
        first = max(value for models, value in values.items() if models[0] == 0)
        if during:
            first = max(first, _begun(table, fit, i, price))
        if first < values[1,]:
            return 0.0, True
        stopped = _stopped(table, fit, i, price) if during else None
        if stopped is not None:
            return float(stopped), True
        return float(table.tokens[i]), _asks(table, fit, i, price)

    return decide


def _options(table: Table, fit: Fitted, i: int) -> tuple[Option, Option]:
    small = Option(float(table.small[i]), fit.tokens + table.draft_cost, fit.spread)
    return small, Option(float(table.large[i]), large_cost(table))


def _asks(table: Table, fit: Fitted, i: int, price: float) -> bool:
    small, large = _options(table, fit, i)
    seen = Option(float(table.judged[i]), 0.0, small.spread, run=True, prior=small.quality)
    return plan([seen, large], price, fit.correlation).next == 1


def _running(table: Table, fit: Fitted, i: int, price: float, by_length: bool) -> native.Handover:
    running = fit.lengths if by_length else fit.running
    return handover(
        running, float(table.small[i]), 1.0, float(table.large[i]), lambda at: handed_cost(table, at), price,
        fit.left_spread, fit.correlation,
    )  # fmt: skip


def _begun(table: Table, fit: Fitted, i: int, price: float) -> float:
    """Of beginning with the small model, when it can be stopped on the way."""
    at = fit.lengths.tokens[0]
    return _running(table, fit, i, price, True).worth(at)[0] - price * (at + table.draft_cost)


def _stopped(table: Table, fit: Fitted, i: int, price: float) -> int | None:
    """The token at which the answer is handed over."""
    knots = _running(table, fit, i, price, not table.traces).knots()
    if not knots:
        return None
    tokens, bounds = np.array(knots).T
    if not table.traces:
        at = int(np.ceil(tokens[0]))
        return at if table.tokens[i] > at else None
    first = int(np.ceil(tokens[0]))
    trace = table.traces[i][first - 1 : -1]
    below = np.flatnonzero(trace < np.interp(np.arange(first, first + len(trace)), tokens, bounds))
    return first + int(below[0]) if len(below) else None


def _by_sets(table: Table, fit: Fitted, i: int, price: float) -> Choice:
    options = _options(table, fit, i)
    values = {s: native.fixed_value(options, s, price, fit.correlation) for s in ((0,), (1,), (0, 1))}
    if max(values, key=lambda s: values[s]) == (1,):
        return 0.0, True
    return float(table.tokens[i]), _asks(table, fit, i, price)


def _knobs(values: Floats) -> Floats:
    """From one that is above all values to one below all."""
    inner = np.quantile(values, np.linspace(1, 0, KNOBS))
    return np.concatenate([[values.max() + 1], inner, [values.min() - 1]])


def _prices(table: Table) -> Floats:
    dearer = large_cost(table) - table.tokens.mean()
    return np.concatenate([[0.0], np.geomspace(0.004, DEAREST, KNOBS) / dearer])
