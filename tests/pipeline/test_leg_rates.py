"""What one more token of each model costs, and how many are expected, by the numbers of a decision."""

import pytest

from router.pipeline.legs.rates import rates_of
from router.policy import Settings, decide
from router.types import MemberState, Query, Scores, Snapshot, Turn

_ASKED = Query(kind="chat", model="auto", turns=(Turn("user", "x"),))


def _member(name: str, surplus: float = 0.0) -> MemberState:
    return MemberState(
        name=name, usd_per_s=0.001, prefill_tokens_per_s=1000.0, time_per_output_token_s=0.01,
        mean_output_tokens=200.0, output_surplus=surplus,
    )  # fmt: skip


def _rates(scores: Scores, surplus: float = 0.0) -> list[tuple[float, float, float]]:
    pool = Snapshot((_member("small", surplus), _member("large")))
    decision = decide(_ASKED, scores, pool, Settings(price=1.0), id="x")
    return [(one.prompt_token, one.output_token, one.output_tokens) for one in rates_of(decision)]


def test_tokens_are_those_that_the_head_expects_of_the_query_at_the_members_level() -> None:
    small, large = _rates(Scores((0.4, 0.8), 100, (40.0, 80.0), (0.3, 0.3)), surplus=0.5)
    assert (small[2], large[2]) == (pytest.approx(60.0), pytest.approx(80.0))


def test_without_lengths_tokens_are_the_members_mean_and_cost_what_its_rates_say() -> None:
    for prompt_token, output_token, output_tokens in _rates(Scores((0.4, 0.8), 100)):
        assert output_tokens == 200.0
        assert prompt_token == pytest.approx(1e-6)
        assert output_token == pytest.approx(1e-5)
