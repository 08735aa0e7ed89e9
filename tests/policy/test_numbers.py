"""The native numbers against the twin, to the last bit; what is kept of a decision decides it again."""

import copy
import math
import pickle
import struct
from typing import Any, get_args

import msgspec
import numpy as np
import policy_twin as twin
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from router.errors import RouterError
from router.native import policy as native
from router.policy import Settings, decide, decide_again
from router.types import Capability, Cause, Decision, DecisionNumbers, MemberState, Query, Scores, Snapshot, Term

CAPABILITIES = get_args(Capability)
Asked = tuple[Query, Scores, Snapshot, Settings]

odd = st.sampled_from([0.0, -0.0, 0.5, 1.0, -1.0, 5e-324, 1e300, math.inf, -math.inf, math.nan])
rate = st.one_of(st.sampled_from([0.0, 0.001, 0.02, 300.0, 8_000.0]), odd)
needs = st.frozensets(st.sampled_from(CAPABILITIES), max_size=2)
count = st.sampled_from([0, 1, 10, 100, 4096, 2**53 + 1, 2**62])


@st.composite
def member(draw: st.DrawFn, name: str) -> MemberState:
    return MemberState(
        name=name,
        ready=draw(st.sampled_from([True, True, True, False])),
        breaker_open=draw(st.sampled_from([False, False, True])),
        context_tokens=draw(st.sampled_from([0, 10, 100, 4096])),
        capabilities=draw(st.one_of(st.just(frozenset(CAPABILITIES)), needs)),
        waiting=draw(st.sampled_from([0, 1, 5, 2048])),
        prefix_hit=draw(st.floats(0, 1) | odd),
        prefill_tokens_per_s=draw(rate),
        time_per_output_token_s=draw(rate),
        mean_output_tokens=draw(rate),
        queued_gpu_s=draw(st.floats(0, 20) | odd),
        usd_per_s=draw(st.sampled_from([0.0, 0.0003, 0.01]) | odd),
        canary_of=draw(st.integers(0, 5)),
        canary_weight=draw(st.sampled_from([0.0, 0.0, 0.3, 1.0])),
        running=draw(st.sampled_from([0, 1, 7, 256]) | count),
        held_tokens=draw(count),
        queued_tokens=draw(st.floats(0, 1e5) | odd),
        queued_steps=draw(st.floats(0, 1e3) | odd),
        busy=draw(st.floats(0, 1) | odd),
        step_s=draw(rate),
        step_running_s=draw(rate),
        step_context_s=draw(rate),
        step_prefill_s=draw(rate),
        overhead_s=draw(st.floats(0, 1) | odd),
        cost_trust=draw(st.sampled_from([0.0, 0.0, 0.5, 1.0]) | odd),
        wait_trust=draw(st.sampled_from([0.0, 0.0, 0.5, 1.0]) | odd),
        surcharge=draw(st.sampled_from([0.0, 0.0, 0.25, 40.0]) | odd),
        surcharge_of=draw(st.sampled_from(get_args(Cause))),
        favour=draw(st.sampled_from([0.0, 0.0, -0.2, 0.3, 1e6]) | odd),
        output_surplus=draw(st.sampled_from([0.0, 0.0, -0.4, 1.5]) | odd),
    )


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    size = draw(st.integers(1, 6) | st.integers(1, 32))
    members = tuple(draw(member(f"m{i}")) for i in range(size))
    quality = tuple(draw(st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0]) | odd) for _ in range(size))
    index = st.integers(0, size - 1)
    tokens = st.lists(st.sampled_from([0.0, 1.0, 180.5, 3e4, 2.0**31]) | odd, min_size=size, max_size=size)
    spread = st.lists(st.sampled_from([0.0, 0.1, 0.8, 9.0]) | odd, min_size=size, max_size=size)
    return (
        Query(
            kind="chat",
            model="auto",
            turns=(),
            choices=draw(st.integers(1, 4)),
            max_tokens=draw(st.sampled_from([None, 1, 50, 100_000])),
            needs=draw(needs),
            slo_ttft_s=draw(st.sampled_from([None, None, 0.1, 5.0, math.inf])),
        ),
        Scores(
            quality,
            draw(st.integers(0, 10_000) | count),
            draw(st.just(()) | tokens.map(tuple)),
            draw(st.just(()) | spread.map(tuple)),
        ),
        Snapshot(members),
        draw(settings_of(index)),
    )


@st.composite
def settings_of(draw: st.DrawFn, index: st.SearchStrategy[int]) -> Settings:
    return Settings(
        rule=draw(st.sampled_from(["utility", "threshold", "pinned"])),
        price=draw(st.sampled_from([0.0, 1.0, 100.0, 1e4]) | odd),
        threshold=draw(st.floats(0, 1)),
        strong=draw(index),
        weak=draw(index),
        pinned=draw(index),
        slo_ttft_s=draw(st.sampled_from([None, None, 0.1, 5.0, math.nan])),
        most_waiting=draw(st.sampled_from([2, 2048])),
        excluded=draw(st.frozensets(index, max_size=2)),
        price_of=draw(st.sampled_from(get_args(Cause))),
        shed_ttft_s=draw(st.sampled_from([None, None, None, 0.1, 5.0, math.nan])),
    )


def bits(value: object) -> object:
    """A number to the last bit; every NaN alike, as its payload says nothing."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("<d", value)
    if isinstance(value, tuple):
        return tuple(map(bits, value))
    if isinstance(value, Term):
        return bits(msgspec.structs.astuple(value))
    if isinstance(value, Decision):
        return bits(tuple(getattr(value, name) for name in Decision.__dataclass_fields__))
    return value


def decided(*question: Any, draw: float = 0.0) -> Decision | None:
    try:
        return decide(*question, draw=draw)
    except RouterError:
        return None


@hypothesis_settings(max_examples=300, deadline=None)
@given(asked(), st.sampled_from([0.0, 0.2, 0.3, 0.31, 1.0]))
def test_native_numbers_are_the_twins_to_the_last_bit(question: Asked, draw: float) -> None:
    found, expected = decided(*question, draw=draw), twin.decide(*question, draw=draw)
    assert bits(found) == bits(expected)
    assert bits(native.decide(*question).terms()) == bits(twin.terms(*question))


@hypothesis_settings(max_examples=120, deadline=None)
@given(asked(), st.data())
def test_kept_numbers_decide_again_by_the_same_and_by_other_settings(question: Asked, data: st.DataObject) -> None:
    query, scores, snapshot, _ = question
    other = data.draw(settings_of(st.integers(0, len(snapshot.members) - 1)))
    numbers = native.decide(*question, data.draw(st.sampled_from([0.0, 0.2])))
    written = msgspec.json.encode(numbers.record())
    for kept in (numbers, native.numbers_of(msgspec.json.decode(written, type=DecisionNumbers)), copy.copy(numbers)):
        again = native.decide_again(kept)
        assert (again.member, again.reason) == (numbers.member, numbers.reason)
        assert bits(again.terms()) == bits(numbers.terms())
        assert bits(native.decide_again(kept, other).terms()) == bits(twin.terms(query, scores, snapshot, other))
        assert native.decide_again(kept, other).member in (
            native.decide(query, scores, snapshot, other, draw).member for draw in (0.0, 0.2)
        )


@hypothesis_settings(max_examples=80, deadline=None)
@given(st.lists(asked(), min_size=2, max_size=4))
def test_a_decision_does_not_depend_on_those_before_it(questions: list[Asked]) -> None:
    """States and settings that are the same objects as before are not read again."""
    for query, scores, snapshot, settings in [*questions, *reversed(questions)]:
        members = tuple(msgspec.structs.replace(one) for one in snapshot.members[:1]) + snapshot.members[1:]
        for pool in (snapshot, Snapshot(members), Snapshot(snapshot.members)):
            assert bits(decided(query, scores, pool, settings)) == bits(twin.decide(query, scores, pool, settings))


@given(st.floats(), st.floats())
def test_win_rate_is_the_twins(strong: float, weak: float) -> None:
    assert bits(native.win_rate(strong, weak)) == bits(twin.win_rate(strong, weak))


@hypothesis_settings(max_examples=300, deadline=None)
@given(st.integers(1, 6), st.sampled_from([0.0, 0.5, 100.0, math.inf]), st.data())
def test_the_best_of_many_rows_is_the_twins_with_ties_to_the_cheaper(models: int, price: float, data: Any) -> None:
    row = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, math.nan]), min_size=models, max_size=models)
    quality = np.array(data.draw(st.lists(row, max_size=5)), np.float64).reshape(-1, models)
    cost = np.array([data.draw(row) for _ in quality], np.float64).reshape(-1, models)
    out = np.full(len(quality), -7, np.int32)
    native.best(quality, cost, price, out)
    assert out.tolist() == [twin.best(q, c, price) for q, c in zip(quality.tolist(), cost.tolist(), strict=True)]


def test_best_refuses_rows_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"got costs \[2, 2\] and out \[2\]"):
        native.best(np.zeros((2, 3)), np.zeros((2, 2)), 1.0, np.zeros(2, np.int32))


ASKED = Query(kind="chat", model="auto", turns=())
TWO = Snapshot((MemberState(name="a", usd_per_s=0.001), MemberState(name="b", usd_per_s=0.01)))
SCORES = Scores((0.4, 0.8), 100)


@pytest.mark.parametrize(
    ("query", "scores", "members", "settings", "message"),
    [
        ({}, Scores((0.5,), 9), {}, {}, "quality: expected 2 values, in the pool's order, got 1"),
        ({}, Scores((0.5, "x"), 9), {}, {}, "quality: expected a number, got 'x'"),  # type: ignore[arg-type]
        ({}, Scores((0.5, 0.5), 2**63), {}, {}, "prompt_tokens: expected a whole number, got 9223372036854775808"),
        ({"max_tokens": 10**400}, SCORES, {}, {}, "max_tokens: expected a number or None, got 1000"),
        ({}, SCORES, {"waiting": None}, {}, "waiting: expected a whole number, got None"),
        ({}, SCORES, {"surcharge_of": "rent"}, {}, "surcharge_of: expected one of queue, slo_ttft, .*, got 'rent'"),
        ({}, SCORES, {}, {"rule": "best"}, "rule: expected one of utility, threshold, pinned, got 'best'"),
        ({}, SCORES, {}, {"strong": 2**40}, "strong: expected an index, got 1099511627776"),
        ({}, SCORES, {}, {"rule": "pinned", "pinned": 2}, "pinned: expected the index of one of 2 members, got 2"),
        ({}, SCORES, {}, {"rule": "pinned"}, "pinned: expected the index of one of 2 members, got -1"),
    ],
)
def test_what_is_no_number_is_refused_by_name(
    query: dict[str, Any], scores: Scores, members: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    pool = Snapshot(tuple(msgspec.structs.replace(one, **members) for one in TWO.members))
    with pytest.raises(ValueError, match=message):
        decide(msgspec.structs.replace(ASKED, **query), scores, pool, Settings(**settings))


def test_a_need_that_we_do_not_know_is_met_by_no_member() -> None:
    told = Snapshot(tuple(msgspec.structs.replace(one, capabilities=frozenset({"smell"})) for one in TWO.members))
    numbers = native.decide(msgspec.structs.replace(ASKED, needs=frozenset({"smell"})), SCORES, told, Settings())
    for kept in (numbers, native.numbers_of(numbers.record())):
        assert (kept.member, kept.column("excluded")) == (-1, ["capability", "capability"])
    with pytest.raises(native.Refused, match="no member can serve") as refused:
        numbers.decision("d")
    assert refused.value.numbers is numbers


def canary(**fields: Any) -> Snapshot:
    """`b` with a canary that takes three of ten of its requests."""
    state = MemberState(name="c", usd_per_s=0.01, canary_of=1, canary_weight=0.3)
    return Snapshot((*TWO.members, msgspec.structs.replace(state, **fields)))


@pytest.mark.parametrize(("draw", "name"), [(0.0, "b"), (1e-9, "c"), (0.3, "c"), (0.31, "b"), (1.0, "b")])
def test_a_canary_takes_what_is_drawn_for_it_of_its_members_requests_and_nothing_else(draw: float, name: str) -> None:
    scores = Scores((0.4, 0.8, 0.99), 100)
    for settings in (Settings(), Settings(rule="pinned", pinned=1)):
        decision = decide(ASKED, scores, canary(), settings, draw=draw)
        assert decision.model == name
        assert (decision.reason == "canary") == (name == "c")
    assert decide(ASKED, scores, canary(), Settings(rule="pinned", pinned=0), draw=draw).model == "a"
    assert decide(ASKED, scores, canary(), Settings(rule="pinned", pinned=2), draw=1.0).model == "c"


@pytest.mark.parametrize("draw", [0.0, 0.3])
def test_a_decision_by_the_threshold_tells_it_and_one_for_a_canary_does_not(draw: float) -> None:
    question = (
        ASKED,
        Scores((0.4, 0.8, 0.99), 100),
        canary(),
        Settings(rule="threshold", threshold=0.5, strong=1, weak=0),
    )
    decision = decide(*question, draw=draw)
    assert (decision.model, decision.threshold) == (("c", None) if draw else ("b", 0.5))
    assert bits(decision) == bits(twin.decide(*question, draw=draw))


@pytest.mark.parametrize("state", [{"ready": False}, {"breaker_open": True}, {"context_tokens": 10}, {"waiting": 9999}])
def test_a_canary_that_could_not_take_the_request_leaves_it_to_its_member(state: dict[str, Any]) -> None:
    assert decide(ASKED, Scores((0.4, 0.8, 0.9), 100), canary(**state), Settings(), draw=0.1).model == "b"


def test_a_canary_is_no_candidate_when_all_others_are_away() -> None:
    away = Snapshot(tuple(msgspec.structs.replace(one, ready=one.name == "c") for one in canary().members))
    with pytest.raises(RouterError, match="a: not_ready, b: not_ready, c: canary"):
        decide(ASKED, Scores((0.4, 0.8, 0.9), 100), away, Settings(), draw=0.1)


def test_an_empty_pool_has_no_member_that_can_serve() -> None:
    assert native.decide(ASKED, Scores((), 0), Snapshot(()), Settings()).member == -1


def test_every_number_of_the_python_structs_is_read() -> None:
    """`running` and `kv_use` alone say nothing to a decision."""
    record = native.decide(ASKED, SCORES, TWO, Settings()).record()
    assert {"name", "kv_use"} == {*MemberState.__struct_fields__} - {*native.NAMES["members"]}
    by_rules = {"ruled_by", "ruled_out"}  # what is decided is within `excluded`, `pinned` and the scores
    assert {*native.NAMES["settings"], "excluded"} == {*Settings.__struct_fields__} - by_rules
    assert {*native.NAMES["scores"], "prompt_tokens", "ruled"} == {*Scores.__struct_fields__}
    assert {"model", *native.NAMES["terms"]} == {*Term.__struct_fields__}
    assert record.settings.keys() == {*native.NAMES["settings"]}
    assert record.question.keys() == {*native.NAMES["question"]}


def test_a_record_holds_what_is_not_zero_and_reads_what_it_does_not_know_as_zero() -> None:
    record = native.decide(ASKED, SCORES, TWO, Settings(price=2.0)).record()
    assert record.members == {"ready": (True, True), "usd_per_s": (0.001, 0.01)}
    assert record.scores == {"quality": (0.4, 0.8)}
    assert record.question == {
        "choices": 1.0,
        "max_tokens": None,
        "needs": "",
        "slo_ttft_s": None,
        "prompt_tokens": 100,
    }
    later = msgspec.structs.replace(record, members={**record.members, "colour": (1, 2)})
    assert native.numbers_of(later).record() == record
    with pytest.raises(ValueError, match="ready: expected 2 values, got 1"):
        native.numbers_of(msgspec.structs.replace(record, members={"ready": (True,)}))


# The decision in words


def test_terms_are_made_when_first_read_and_once() -> None:
    decision = decide(ASKED, SCORES, TWO, Settings(), id="d")
    slot = Decision.__dict__["terms"]._slot
    with pytest.raises(AttributeError):
        slot.__get__(decision)
    assert [term.model for term in decision.terms] == ["a", "b"]
    assert slot.__get__(decision) is decision.terms


def test_a_decision_is_equal_repeated_hashed_copied_and_encoded_as_one_made_of_words() -> None:
    def made() -> Decision:
        return decide(ASKED, SCORES, TWO, Settings(price=1.0), id="d")

    words = Decision(
        id="d",
        model="b",
        member=1,
        reason="utility",
        terms=made().terms,
        runner_up="a",
        margin=made().margin,
        score=0.8,
    )
    assert made() == words
    assert hash(made()) == hash(words)
    assert repr(made()) == repr(words)
    assert msgspec.json.encode(made()) == msgspec.json.encode(words)
    assert msgspec.json.decode(msgspec.json.encode(made()), type=Decision) == words
    assert pickle.loads(pickle.dumps(made())) == words == copy.copy(made())
    assert msgspec.json.encode(words).startswith(
        b'{"id":"d","model":"b","member":1,"reason":"utility","terms":[{"model":'
    )
    assert words.numbers is None
    with pytest.raises(AttributeError, match="cannot assign to field 'model'"):
        words.model = "a"  # type: ignore[misc]


def test_numbers_outlive_their_decision_and_decide_by_another_price() -> None:
    numbers = decide(ASKED, SCORES, TWO, Settings()).numbers
    assert isinstance(numbers, native.Numbers)
    assert decide_again(numbers, id="x").model == "b"
    assert decide_again(numbers, Settings(price=1e6), id="x").model == "a"
    assert pickle.loads(pickle.dumps(numbers)).record() == numbers.record()
