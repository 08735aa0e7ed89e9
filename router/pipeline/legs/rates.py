"""What one more token of each model costs now, by the numbers that a decision was made of."""

from collections.abc import Mapping, Sequence

import msgspec

from router.types import Decision, Term

_Columns = Mapping[str, Sequence[object]]


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """In dollars; 0 where it is not known."""

    prompt_token: float
    output_token: float
    output_tokens: float  #: expected of an answer; 0: not known


def rates_of(decision: Decision) -> list[Rates]:
    """Of each model. A decision made of words tells none."""
    if decision.numbers is None:
        return [Rates(prompt_token=0.0, output_token=0.0, output_tokens=0.0) for _ in decision.terms]
    record = decision.numbers.record()
    return [
        _rates(record.members, _expected(record.members, record.scores, i), i, term)
        for i, term in enumerate(decision.terms)
    ]


def _expected(members: _Columns, scores: _Columns, at: int) -> float:
    """Output tokens: what the head says of this query, corrected by what the member answered lately; else its mean."""
    told = _column(scores, "output_tokens", at) * (1 + _column(members, "output_surplus", at))
    return told or _column(members, "mean_output_tokens", at)


def _rates(members: _Columns, output_tokens: float, at: int, term: Term) -> Rates:
    """An output token costs what the decision counted for it: the term's cost less that of its prompt."""
    prefill = _column(members, "prefill_tokens_per_s", at)
    usd_per_s = term.cost_usd / term.gpu_s if term.gpu_s > 0 else 0.0
    by_rate = usd_per_s * _column(members, "time_per_output_token_s", at)
    return Rates(
        prompt_token=usd_per_s / prefill if prefill > 0 else 0.0,
        output_token=min(by_rate, term.cost_usd / output_tokens) if output_tokens > 0 else by_rate,
        output_tokens=output_tokens,
    )


def _column(columns: _Columns, name: str, at: int) -> float:
    column = columns.get(name)
    value = None if column is None else column[at]
    return float(value) if isinstance(value, int | float) else 0.0
