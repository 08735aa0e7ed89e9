"""Which turn weighs what."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.features import segments
from router.native.spec import TurnWeights
from router.types import Turn

WEIGHTS = TurnWeights(earlier=0.25, decay=0.5, system=0.1)


def weigh(*turns):
    return dict(segments([Turn(role, text) for role, text in turns], WEIGHTS))


def test_one_turn():
    assert weigh(("user", "q")) == {"q": 1.0}
    assert weigh(("system", "q")) == {"q": 1.0}


def test_no_turns():
    assert segments([]) == (("", 1.0),)


def test_only_empty_turns():
    assert segments([Turn("user", ""), Turn("assistant", "")]) == (("", 1.0),)


def test_system_and_history():
    weights = weigh(("system", "s"), ("user", "u1"), ("assistant", "a1"), ("user", "u2"))
    assert weights == pytest.approx({"s": 0.1, "u1": 0.25 / 3, "a1": 0.5 / 3, "u2": 1.0})


def test_instructions_share():
    assert weigh(("system", "s"), ("developer", "d"), ("user", "u")) == pytest.approx({"s": 0.05, "d": 0.05, "u": 1.0})


def test_what_follows_the_last_question_is_history():
    weights = weigh(("user", "u"), ("assistant", "call"), ("tool", "result"))
    assert weights == pytest.approx({"u": 1.0, "call": 0.25 / 3, "result": 0.5 / 3})


def test_without_a_user_the_last_turn_asks():
    assert weigh(("system", "s"), ("assistant", "a"), ("tool", "t")) == pytest.approx({"s": 0.1, "a": 0.25, "t": 1.0})


def test_without_user_instructions_do_not_ask():
    assert weigh(("assistant", "a"), ("system", "s")) == pytest.approx({"a": 1.0, "s": 0.1})


def test_only_instructions():
    assert weigh(("system", "s1"), ("system", "s2")) == pytest.approx({"s1": 0.1, "s2": 1.0})


def test_empty_turns_take_no_share():
    weights = weigh(("user", "u1"), ("assistant", ""), ("user", "u2"))
    assert weights == pytest.approx({"u1": 0.25, "u2": 1.0})


ROLES = st.sampled_from(["system", "developer", "user", "assistant", "tool", "odd"])


@settings(deadline=None)
@given(turns=st.lists(st.tuples(ROLES, st.sampled_from(["", "x", "y"])), max_size=30))
def test_shares_add_up(turns):
    made = segments([Turn(role, text) for role, text in turns], WEIGHTS)
    weights = [weight for _, weight in made]
    assert max(weights) == 1.0
    assert sum(weights) <= 1.35 + 1e-9
    assert all(weight >= 0 for weight in weights)


def test_long_histories_fade():
    history = [("user" if i % 2 else "assistant", f"t{i}") for i in range(2_000)]
    weights = weigh(*history, ("user", "last"))
    assert sum(weights.values()) == pytest.approx(1.25)
    assert weights["t1999"] > weights["t1998"] >= weights["t0"] >= 0
