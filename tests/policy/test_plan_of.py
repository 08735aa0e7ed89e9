"""The plan of a decision: its terms, hard rules and price; beliefs that are kept with its numbers and read again."""

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from test_numbers import Asked, asked

from router.native import plan as native
from router.native import policy
from router.native.policy import Numbers, numbers_of
from router.policy import Settings
from router.policy.plan import Option, plan, plan_of
from router.types import DecisionNumbers, MemberState, Query, Scores, Snapshot

ASKED = Query(kind="chat", model="auto", turns=())
SCORES = Scores((0.55, 0.8, 0.65), 100)
PRICE = 30.0


def numbers(members: dict[int, dict[str, Any]] | None = None, draw: float = 0.0, **settings: Any) -> Numbers:
    """Of three models: small, large, middle."""
    states = [MemberState(name=n, usd_per_s=p) for n, p in (("small", 0.0002), ("large", 0.002), ("middle", 0.001))]
    for at, fields in (members or {}).items():
        states[at] = msgspec.structs.replace(states[at], **fields)
    return policy.decide(ASKED, SCORES, Snapshot(tuple(states)), Settings(**{"price": PRICE, **settings}), draw)


@hypothesis_settings(max_examples=200, deadline=None)
@given(asked(), st.sampled_from([0.0, 0.3, 1.0]))
def test_without_beliefs_it_runs_what_was_decided(question: Asked, draw: float) -> None:
    decided = policy.decide(*question, draw)
    found = plan_of(decided)
    assert (found.next, found.then, found.answer) == (decided.member, -1, -1)


def test_it_is_the_plan_of_the_terms() -> None:
    decided = numbers()
    believed = native.believe(decided, [0.2, 0.05, 0.1], 0.3)
    terms = decided.terms()
    options = [Option(term.quality, term.cost_usd, s) for term, s in zip(terms, (0.2, 0.05, 0.1), strict=True)]
    assert plan_of(believed) == plan(options, PRICE, 0.3)
    assert plan_of(believed).set == (0, 1)
    assert plan_of(decided).set == (decided.member,)


def test_an_answer_that_was_seen_is_the_one_to_stop_with_or_moves_what_is_thought_of_the_others() -> None:
    decided = numbers()
    terms = decided.terms()
    seen = native.believe(decided, [0.2, 0.05, 0.1], 0.3, {0: 0.2})
    options = [Option(term.quality, term.cost_usd, s) for term, s in zip(terms, (0.2, 0.05, 0.1), strict=True)]
    options[0] = Option(0.2, 0.0, 0.2, run=True, prior=0.55)
    assert plan_of(seen) == plan(options, PRICE, 0.3)
    assert plan_of(seen).next == 1
    assert plan_of(native.believe(decided, [0.2, 0.05, 0.1], 0.3, {0: 0.9})).next == -1


def test_what_a_partial_answer_still_costs_takes_the_place_of_the_terms_cost() -> None:
    decided = numbers()
    dear = max(term.cost_usd for term in decided.terms())
    handed = plan_of(native.believe(decided, [0.0, 0.0, 0.0], 0.0, cost_usd={0: 0.0, 1: dear, 2: dear}))
    assert handed.value_next == pytest.approx(max(0.55, 0.8 - PRICE * dear))


def test_what_is_believed_is_recorded_and_planned_again() -> None:
    believed = native.believe(numbers(), [0.2, 0.05, 0.1], 0.3, {0: 0.2}, {1: 0.001})
    record = believed.record()
    assert record.question["correlation"] == 0.3
    assert record.beliefs == {
        "spread": (0.2, 0.05, 0.1),
        "run": (True, False, False),
        "seen": (0.2, None, None),
        "cost_usd": (None, 0.001, None),
    }
    written = msgspec.json.encode(record)
    for kept in (numbers_of(msgspec.json.decode(written, type=DecisionNumbers)), copy.copy(believed)):
        assert plan_of(kept) == plan_of(believed)
        assert kept.record() == record
    assert plan_of(policy.decide_again(believed, Settings(price=1e9))).next == -1


def test_numbers_without_beliefs_are_recorded_as_before() -> None:
    record = numbers().record()
    assert "correlation" not in record.question
    assert b"beliefs" not in msgspec.json.encode(record)


@pytest.mark.parametrize("state", [{"ready": False}, {"waiting": 99_999}, {"context_tokens": 10}])
def test_a_member_that_a_hard_rule_excludes_is_not_run(state: dict[str, Any]) -> None:
    believed = native.believe(numbers({1: state}), [0.2, 0.2, 0.2], 0.0)
    assert 1 not in plan_of(believed).set
    seen = native.believe(numbers({1: state, 2: state}), [0.2, 0.2, 0.2], 0.0, {0: 0.01})
    assert (plan_of(seen).next, plan_of(seen).answer) == (-1, 0)


def test_a_rule_that_is_given_up_where_it_leaves_no_member_stands_once_there_is_an_answer() -> None:
    states = {at: {"breaker_open": True} for at in range(3)}
    decided = numbers(states)
    assert plan_of(native.believe(decided, [0.0] * 3, 0.0)).next == decided.member >= 0
    assert plan_of(native.believe(decided, [0.0] * 3, 0.0, {0: 0.01})).next == -1


def test_a_member_that_was_tried_is_not_run_again_and_its_answer_counts() -> None:
    believed = native.believe(numbers(excluded=frozenset({0})), [0.2, 0.0, 0.0], 0.0, {0: 0.99})
    assert (plan_of(believed).next, plan_of(believed).answer) == (-1, 0)


@pytest.mark.parametrize(
    ("settings", "member"),
    [({"rule": "pinned", "pinned": 2}, 2), ({"rule": "threshold", "strong": 1, "weak": 0, "threshold": 0.99}, 0)],
)
def test_by_another_rule_one_model_answers_whatever_is_believed(settings: dict[str, Any], member: int) -> None:
    decided = numbers(**settings)
    found = plan_of(native.believe(decided, [0.3, 0.3, 0.3], 0.0))
    assert (found.next, found.then, found.set) == (member, -1, (member,))
    assert plan_of(native.believe(decided, [0.3] * 3, 0.0, {member: 0.01})).next == -1


def test_a_canary_takes_what_the_plan_sends_to_its_member() -> None:
    decided = numbers({2: {"canary_of": 1, "canary_weight": 1.0}}, draw=0.5, price=0.0)
    assert decided.member == 2
    assert plan_of(native.believe(decided, [0.0, 0.0, 0.0], 0.0)).next == 2
    assert plan_of(native.believe(decided, [0.2, 0.0, 0.0], 0.0, {0: 0.1})).next == 2


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (([0.1, 0.1],), "spread: expected 3 values, in the pool's order, got 2"),
        (([0.1, 0.1, -1.0],), "spread: expected a number of at least 0, got -1.0"),
        (([0.1] * 3, 1.1), "correlation: expected 0 to 1, got 1.1"),
        (([0.1] * 3, 0.0, {3: 0.5}), "seen: expected indices of 3 members, got 3"),
        (([0.1] * 3, 0.0, {0: 1.5}), "seen: expected 0 to 1, got 1.5"),
        (([0.1] * 3, 0.0, None, {0: float("nan")}), "cost_usd: expected a number of at least 0, got nan"),
    ],
)
def test_what_is_no_belief_is_refused_by_name(told: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        native.believe(numbers(), *told)
