"""The decision as a pure function: utility, threshold, pins, hard rules, and what is said when none can serve."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_twin import DEFAULT_OUTPUT_TOKENS, DEFAULT_PREFILL_TOKENS_PER_S, DEFAULT_TIME_PER_OUTPUT_TOKEN_S

from router.errors import BadRequest, ContextTooLong, NoEngine, Overloaded
from router.native.policy import win_rate
from router.policy import Settings, decide
from router.types import Decision, MemberState, Query, Scores, Snapshot, Turn

CHAT = frozenset({"chat"})


def member(name: str, **fields: Any) -> MemberState:
    return MemberState(name=name, **{"capabilities": CHAT, "context_tokens": 1000, "usd_per_s": 0.001, **fields})


def query(**fields: Any) -> Query:
    return Query(kind="chat", model="auto", turns=(Turn("user", "x"),), needs=CHAT, **fields)


def choose(
    *members: MemberState,
    quality: tuple[float, ...] = (0.4, 0.8),
    tokens: int = 100,
    ask: Query | None = None,
    **rule: Any,
) -> Decision:
    return decide(ask or query(), Scores(quality, tokens), Snapshot(members), Settings(**rule), id="d1")


SMALL, LARGE = member("small"), member("large", usd_per_s=0.01)


def test_cost_is_prefill_and_output_times_the_share() -> None:
    rates = {"prefill_tokens_per_s": 1000.0, "time_per_output_token_s": 0.02, "mean_output_tokens": 50.0}
    one = member("one", prefix_hit=0.5, queued_gpu_s=0.3, **rates)
    (term,) = choose(one, quality=(0.5,), ask=query(choices=2), price=3.0).terms
    assert term.gpu_s == pytest.approx(100 * 0.5 / 1000 + 2 * 50 * 0.02)
    assert term.cost_usd == pytest.approx(term.gpu_s * 0.001)
    assert term.wait_s == pytest.approx(0.3 + 0.05)
    assert term.utility == pytest.approx(0.5 - 3.0 * term.cost_usd)


def test_unknown_rates_have_defaults_and_max_tokens_bounds_the_output() -> None:
    (free,) = choose(member("one"), quality=(0.5,)).terms
    assert free.gpu_s == pytest.approx(
        100 / DEFAULT_PREFILL_TOKENS_PER_S + DEFAULT_OUTPUT_TOKENS * DEFAULT_TIME_PER_OUTPUT_TOKEN_S
    )
    (bound,) = choose(member("one"), quality=(0.5,), ask=query(max_tokens=10)).terms
    assert bound.gpu_s == pytest.approx(100 / DEFAULT_PREFILL_TOKENS_PER_S + 10 * DEFAULT_TIME_PER_OUTPUT_TOKEN_S)


def test_price_moves_the_choice() -> None:
    dear = choose(SMALL, LARGE, price=1000.0)
    assert (dear.model, dear.reason, dear.runner_up) == ("small", "utility", "large")
    free = choose(SMALL, LARGE, price=0.0)
    assert (free.model, free.member, free.runner_up) == ("large", 1, "small")
    assert free.margin == pytest.approx(0.4)
    assert free.score == 0.8


def test_of_equals_the_cheaper_then_the_first() -> None:
    assert choose(LARGE, SMALL, quality=(0.5, 0.5)).model == "small"
    assert choose(member("a"), member("b"), quality=(0.5, 0.5)).model == "a"


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1000))
def test_with_two_models_it_is_a_threshold_on_the_quality_difference(weak: float, strong: float, price: float) -> None:
    """strong iff q_s - q_w > lambda (c_s - c_w), as docs/design.md has it."""
    decision = choose(SMALL, LARGE, quality=(weak, strong), price=price)
    cheap, dear = decision.terms
    gain = (strong - weak) - price * (dear.cost_usd - cheap.cost_usd)
    if abs(gain) > 1e-9:
        assert decision.model == ("large" if gain > 0 else "small")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0, 100))
def test_the_best_is_chosen_and_the_next_named(quality: list[float], price: float) -> None:
    members = [member(f"m{i}", usd_per_s=0.0001 * i) for i in range(len(quality))]
    decision = choose(*members, quality=tuple(quality), price=price)
    ranked = sorted((-term.utility, term.cost_usd, i) for i, term in enumerate(decision.terms))
    assert decision.member == ranked[0][2]
    if len(ranked) > 1:
        assert -decision.terms[int(decision.runner_up[1:])].utility == ranked[1][0]
        assert decision.margin >= 0


# RouteLLM's rule


def test_win_rate_is_the_sigmoid_of_the_logits_difference() -> None:
    assert win_rate(0.5, 0.5) == 0.5
    assert win_rate(0.8, 0.5) == pytest.approx(0.8)
    assert win_rate(1.0, 0.0) == pytest.approx(1.0)
    assert win_rate(0.0, 1.0) == pytest.approx(0.0, abs=1e-9)
    assert win_rate(0.7, 0.6) == pytest.approx(1 / (1 + math.exp(math.log(0.6 / 0.4) - math.log(0.7 / 0.3))))


@pytest.mark.parametrize(("threshold", "model"), [(0.0, "large"), (0.8, "large"), (0.86, "small"), (1.0, "small")])
def test_strong_iff_its_win_rate_reaches_the_threshold(threshold: float, model: str) -> None:
    decision = choose(SMALL, LARGE, rule="threshold", threshold=threshold, strong=1, weak=0)
    assert (decision.model, decision.reason, decision.threshold) == (model, "threshold", threshold)
    assert decision.score == pytest.approx(win_rate(0.8, 0.4))
    assert decision.margin == pytest.approx(abs(decision.score - threshold))


def test_a_threshold_without_one_of_its_two_falls_back_to_utility() -> None:
    down = member("large", ready=False)
    decision = choose(SMALL, down, rule="threshold", threshold=0.0, strong=1, weak=0)
    assert (decision.model, decision.reason) == ("small", "only_candidate")


# Hard rules


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"ready": False}, "not_ready"),
        ({"breaker_open": True}, "breaker_open"),
        ({"capabilities": frozenset()}, "capability"),
        ({"context_tokens": 49}, "context"),
        ({"waiting": 2048}, "queue_full"),
    ],
)
def test_a_member_that_breaks_a_rule_is_passed_over(fields: dict[str, Any], rule: str) -> None:
    decision = choose(SMALL, member("large", **fields))
    assert (decision.model, decision.reason) == ("small", "only_candidate")
    assert [term.excluded for term in decision.terms] == [None, rule]


def test_an_unknown_context_and_an_estimate_in_doubt_are_no_reason() -> None:
    assert choose(SMALL, member("large", context_tokens=0)).model == "large"
    assert choose(SMALL, member("large", context_tokens=51)).model == "large"


def test_a_prompt_of_any_length_counts_as_one_that_fits_the_shortest_context() -> None:
    large = member("large", context_tokens=20, prefill_tokens_per_s=1000.0)
    decision = choose(SMALL, large, tokens=100_000, ask=query(any_length=True))
    assert (decision.model, [term.excluded for term in decision.terms]) == ("large", [None, None])
    assert decision.terms[1].wait_s == pytest.approx(20 / 1000)
    assert choose(member("one", context_tokens=0), quality=(0.5,), ask=query(any_length=True)).model == "one"


def test_an_objective_for_the_first_token() -> None:
    slow = member("large", queued_gpu_s=5.0)
    assert choose(SMALL, slow, slo_ttft_s=1.0).model == "small"
    assert choose(SMALL, slow, ask=query(slo_ttft_s=1.0)).terms[1].excluded == "slo"
    assert choose(SMALL, slow, ask=query(slo_ttft_s=9.0), slo_ttft_s=1.0).model == "large", "the request's own wins"
    # Better slow than refused.
    assert choose(slow, quality=(0.5,), slo_ttft_s=1.0).model == "large"


def test_breakers_open_everywhere_let_a_request_through() -> None:
    assert choose(member("a", breaker_open=True), quality=(0.5,)).model == "a"
    # An open breaker is worse than a missed objective.
    assert choose(member("a", breaker_open=True), member("b", queued_gpu_s=9.0), slo_ttft_s=1.0).model == "b"


def test_members_tried_before_are_passed_over() -> None:
    decision = choose(SMALL, LARGE, excluded=frozenset({1}))
    assert (decision.model, decision.terms[1].excluded) == ("small", "tried")


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        (({"ready": False}, {"waiting": 3000}), Overloaded, "full queue .small: not_ready, large: queue_full"),
        (({"ready": False}, {"capabilities": frozenset()}), NoEngine, "now .small: not_ready, large: capability"),
        (({"context_tokens": 1}, {"capabilities": frozenset()}), ContextTooLong, "longer than the context of any"),
        (({"capabilities": frozenset()},) * 2, BadRequest, "can do what this request asks"),
    ],
)
def test_what_is_said_when_none_can_serve(fields: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        choose(member("small", **fields[0]), member("large", **fields[1]))


# Pins


def test_a_pin_is_no_choice() -> None:
    decision = choose(SMALL, LARGE, rule="pinned", pinned=0)
    assert (decision.model, decision.reason, decision.runner_up, decision.score) == ("small", "pinned", None, 0.4)
    assert choose(member("a", breaker_open=True), quality=(0.5,), rule="pinned", pinned=0).model == "a"
    assert choose(member("a", capabilities=frozenset()), quality=(0.5,), rule="pinned", pinned=0).model == "a"


@pytest.mark.parametrize(("fields", "error"), [({"ready": False}, NoEngine), ({"waiting": 2048}, Overloaded)])
def test_a_pin_goes_nowhere_else(fields: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match="model 'small'"):
        choose(member("small", **fields), LARGE, rule="pinned", pinned=0)


# Purity


def test_scores_must_be_in_the_pools_order() -> None:
    with pytest.raises(ValueError, match="quality: expected 2 values"):
        choose(SMALL, LARGE, quality=(0.5,))


def test_the_same_input_gives_the_same_decision() -> None:
    assert choose(SMALL, LARGE, price=5.0) == choose(SMALL, LARGE, price=5.0)
