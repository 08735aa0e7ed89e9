"""What one more token of each model costs now, by the numbers that a decision was made of."""

from collections.abc import Mapping, Sequence

import msgspec

from router.types import Decision


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """In dollars; 0 where it is not known."""

    prompt_token: float
    output_token: float
    output_tokens: float  #: expected of an answer; 0: not known


def rates_of(decision: Decision) -> list[Rates]:
    """Of each model. A decision made of words tells none."""
    members = {} if decision.numbers is None else decision.numbers.record().members
    return [
        _rates(members, i, term.cost_usd / term.gpu_s if term.gpu_s > 0 else 0.0)
        for i, term in enumerate(decision.terms)
    ]


def _rates(members: Mapping[str, Sequence[object]], at: int, usd_per_s: float) -> Rates:
    prefill = _column(members, "prefill_tokens_per_s", at)
    return Rates(
        prompt_token=usd_per_s / prefill if prefill > 0 else 0.0,
        output_token=usd_per_s * _column(members, "time_per_output_token_s", at),
        output_tokens=_column(members, "mean_output_tokens", at),
    )


def _column(members: Mapping[str, Sequence[object]], name: str, at: int) -> float:
    column = members.get(name)
    value = None if column is None else column[at]
    return float(value) if isinstance(value, int | float) else 0.0
