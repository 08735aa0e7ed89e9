"""Which engine of a model takes a request: by predicted finish, by what it has of the prompt, by two draws of many."""

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import NoEngine
from router.ipc.messages import Load
from router.native import large_body
from router.native import policy as native
from router.native.fleet import Fleet, Picks
from router.native.lane import Lane, LaneLoad
from router.policy import Settings, decide
from router.types import MemberState, Query, Scores, Timings, Turn, Usage
from tests.policy import replicas_twin as twin

CHAT = frozenset({"chat"})
SETTINGS = Settings(most_waiting=100)
WORDS = "the quick brown fox jumps over the lazy dog and runs away "


def lane(*, ready: bool = True, able: frozenset[str] = CHAT, **load: Any) -> Lane:
    """`load`: of its last load frame; without, it has told none."""
    made = Lane(LaneLoad(200.0, 10_000.0, 0.01), 0.001)
    made.ready = ready
    made.described(able, 32_768)
    if load:
        made.load.reported(Load(**load))
    return made


def ask(*texts: str, max_tokens: int | None = None, adapter: str = "", slo_s: float | None = None) -> Query:
    turns = tuple(Turn("assistant" if i % 2 else "user", text) for i, text in enumerate(texts))
    return Query(
        kind="chat",
        model="auto",
        turns=turns,
        max_tokens=max_tokens,
        needs=CHAT,
        adapter=adapter,
        slo_ttft_s=slo_s,
    )


def pick(fleet: Fleet, query: Query, tokens: int = 100, now_s: float = 0.0, **only: Any) -> Picks:
    return fleet.pick(query, tokens, SETTINGS, now_s, **only)


def chosen(lanes: Sequence[Lane], query: Query | None = None, **only: Any) -> int:
    return pick(Fleet([lanes], ["m"]), query or ask("hello"), **only).replica(0)


# By predicted finish


def test_the_engine_that_is_predicted_to_finish_first_takes_it() -> None:
    assert chosen([lane(running=4, waiting=9), lane(running=4), lane(running=4, waiting=2)]) == 1


def test_of_equal_engines_the_one_with_fewer_sequences_takes_it_then_the_first() -> None:
    lanes = [lane(running=3), lane(running=2), lane(running=2)]
    assert chosen(lanes, ask("hello", max_tokens=0)) == 1
    assert chosen([lane(), lane()]) == 0


def test_requests_that_come_between_two_load_frames_are_spread() -> None:
    lanes = [lane(running=0) for _ in range(4)]
    fleet = Fleet([lanes], ["m"])
    for _ in range(40):
        lanes[pick(fleet, ask("hello")).replica(0)].load.submitted(100)
    assert [each.load.in_flight for each in lanes] == [10] * 4


@pytest.mark.parametrize(
    "worse",
    [
        lane(ready=False),
        lane(able=frozenset({"embeddings"})),
        lane(running=1, waiting=100),
    ],
    ids=["not ready", "not able", "queue full"],
)
def test_an_engine_that_a_rule_shuts_out_takes_nothing_while_another_may_whatever_it_would_cost(worse: Lane) -> None:
    assert chosen([worse, lane(running=60, waiting=99)]) == 1


def test_an_engine_whose_breaker_is_open_is_passed_over_until_it_closes() -> None:
    broken = lane()
    broken.open_until_s = 10.0
    lanes = [broken, lane(running=60, waiting=99)]
    assert [chosen(lanes, now_s=9.0), chosen(lanes, now_s=10.0)] == [1, 0]


def test_an_engine_within_the_objective_goes_before_one_that_finishes_sooner() -> None:
    lanes = [lane(running=1, waiting=5), lane(running=200)]  # 10 s until it begins, and 12 s of tokens in a large batch
    assert [chosen(lanes), chosen(lanes, ask("hello", slo_s=1.0))] == [0, 1]


def test_where_no_engine_may_take_it_the_model_is_shown_by_the_one_that_is_nearest_to_it() -> None:
    assert chosen([lane(ready=False), lane(running=1, waiting=100), lane(able=frozenset())]) == 1


def test_an_engine_that_failed_takes_it_not_again_and_is_not_ready_where_it_is_the_only_one_up() -> None:
    failed, sibling = lane(), lane(running=60, waiting=50)
    assert chosen([failed, sibling], barred=failed) == 1
    sibling.ready = False
    picks = pick(Fleet([[failed, sibling]], ["m"]), ask("hello"), barred=failed)
    with pytest.raises(NoEngine, match=r"no model of the pool can take this request now \(m: not_ready\)"):
        decide(ask("hello"), Scores((0.5,), 100), picks, SETTINGS)


def test_the_only_engine_that_can_takes_it_whatever_its_queue() -> None:
    stored = lane(running=60, waiting=50)
    assert chosen([lane(), stored, lane()], only=stored) == 1


# The numbers

_figure = st.sampled_from([0.0, 0.01, 0.5, 3.0])


@st.composite
def engine(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "ready": draw(st.sampled_from([True, True, True, False])),
        "able": draw(st.sampled_from([CHAT, CHAT, CHAT, frozenset[str]()])),
        "running": draw(st.integers(0, 5)),
        "waiting": draw(st.sampled_from([0, 0, 1, 40, 100])),
        "prefix_hit": draw(st.sampled_from([0.0, 0.25, 1.0])),
        "prefill_tokens_per_s": draw(st.sampled_from([0.0, 1_000.0, 9_000.0])),
        "time_per_output_token_s": draw(st.sampled_from([0.0, 0.01, 0.02])),
        "context_tokens": draw(st.integers(0, 9_000)),
    }


@given(st.lists(engine(), min_size=2, max_size=8), st.integers(0, 100_000), st.sampled_from([None, 0, 7]), _figure)
def test_the_choice_and_its_numbers_are_those_of_the_twin(
    engines: list[dict[str, Any]], tokens: int, max_tokens: int | None, slo_s: float
) -> None:
    lanes = [lane(**each) for each in engines]
    states = [
        MemberState(
            name="m",
            ready=each["ready"],
            capabilities=each["able"],
            context_tokens=32_768,
            **made.load.figures(),
        )
        for each, made in zip(engines, lanes, strict=True)
    ]
    query = ask(max_tokens=max_tokens, slo_s=slo_s or None)
    expected = twin.best(states, query, tokens, SETTINGS)
    picks = pick(Fleet([lanes], ["m"]), query, tokens)
    assert picks.replica(0) == expected[0]
    found = native.decide(query, Scores((0.5,), tokens), picks, SETTINGS).record().members
    told = tuple(found.get(name, (0,))[0] for name in ("replica", "rival", "finish_s", "rival_finish_s"))
    assert told == expected
    assert found["replicas"] == (len(lanes),)


def test_a_model_of_one_engine_has_no_number_of_engines_and_none_is_named() -> None:
    picks = pick(Fleet([[lane()]], ["m"]), ask("hello"))
    numbers = native.decide(ask("hello"), Scores((0.5,), 9), picks, SETTINGS)
    assert numbers.replica == -1
    assert not {"replicas", "replica", "rival", "finish_s"} & numbers.record().members.keys()


# Of many, two are drawn


def test_of_a_thousand_engines_the_fullest_of_a_thousand_requests_has_few() -> None:
    lanes = [lane(running=0) for _ in range(1_000)]
    fleet = Fleet([lanes], ["m"], seed=1)
    for i in range(1_000):
        lanes[pick(fleet, ask(f"{i} {WORDS * 3}")).replica(0)].load.submitted(100)
    most = max(each.load.in_flight for each in lanes)
    drawn = random.Random(1)
    alone = max(Counter(drawn.randrange(1_000) for _ in range(1_000)).values())
    assert most <= 4 < alone + 1  # ln ln n / ln 2 + 1 against ln n / ln ln n


def test_the_same_seed_draws_the_same_engines_and_another_one_others() -> None:
    lanes = [lane(running=0) for _ in range(1_000)]
    runs = [
        [pick(fleet, ask("a")).replica(0) for _ in range(9)] for fleet in (Fleet([lanes], ["m"], s) for s in (7, 7, 8))
    ]
    assert runs[0] == runs[1] != runs[2]


def test_of_a_thousand_engines_of_which_one_is_up_that_one_takes_it() -> None:
    lanes = [lane(ready=i == 617) for i in range(1_000)]
    fleet = Fleet([lanes], ["m"])
    assert {pick(fleet, ask("hello")).replica(0) for _ in range(20)} == {617}


def test_of_a_thousand_engines_none_of_which_is_up_one_says_so() -> None:
    fleet = Fleet([[lane(ready=False) for _ in range(1_000)]], ["m"])
    with pytest.raises(NoEngine, match="m: not_ready"):
        decide(ask("hello"), Scores((0.5,), 9), pick(fleet, ask("hello")), SETTINGS)


def test_of_a_thousand_engines_the_one_that_has_the_prompt_is_compared_beside_the_two_that_are_drawn() -> None:
    lanes = [lane(running=0) for _ in range(1_000)]
    fleet, session = Fleet([lanes], ["m"]), ask(WORDS * 100)
    send(fleet, session, lanes[421])
    assert {pick(fleet, session, 1_500).replica(0) for _ in range(20)} == {421}
    assert {pick(fleet, ask(WORDS[1:] * 100), 1_500).replica(0) for _ in range(5)} != {421}


# What an engine has of a prompt


def share(fleet: Fleet, query: Query, engine: Lane) -> float:
    """Of its prompt, which a decision expects the engine to have."""
    picks = pick(fleet, query, only=engine)
    found = native.decide(query, Scores((0.5,), 100), picks, SETTINGS).record().members.get("prefix_hit", (0.0,))[0]
    assert isinstance(found, float)
    return found


def send(fleet: Fleet, query: Query, engine: Lane) -> float:
    """The share of its prompt that the engine was sent before."""
    return pick(fleet, query, only=engine).note(0)


def test_a_conversation_that_goes_on_finds_what_was_said_before_where_it_was_said_and_nowhere_else() -> None:
    lanes = [lane(), lane()]
    fleet, said = Fleet([lanes], ["m"]), (WORDS * 20, WORDS * 4)
    assert send(fleet, ask(*said), lanes[1]) == 0.0
    longer = ask(*said, WORDS * 6)
    assert share(fleet, longer, lanes[0]) == 0.0
    assert 0.7 < share(fleet, longer, lanes[1]) < 24 / 30
    assert share(fleet, ask("X" + WORDS * 20), lanes[1]) == 0.0  # differs from the first block on


def test_a_text_that_is_sent_again_is_found_but_for_its_last_block() -> None:
    lanes = [lane(), lane()]
    for size in (1, 30, 400, 4_000):  # up to 232,000 bytes
        fleet = Fleet([lanes], ["m"])
        send(fleet, ask(WORDS * size), lanes[0])
        assert share(fleet, ask(WORDS * size), lanes[0]) > (0.9 if size > 1 else -1)


def test_what_a_lora_adapter_read_is_not_taken_for_what_the_model_read() -> None:
    lanes = [lane(), lane()]
    fleet = Fleet([lanes], ["m"])
    send(fleet, ask(WORDS * 20, adapter="sql"), lanes[0])
    assert share(fleet, ask(WORDS * 20), lanes[0]) == 0.0
    assert share(fleet, ask(WORDS * 20, adapter="sql"), lanes[0]) > 0.9


@pytest.mark.parametrize("ends", [LaneLoad.forget, LaneLoad.emptied], ids=["engine lost", "cache reset"])
def test_an_engine_that_was_lost_or_told_to_drop_its_cache_has_nothing_any_more(
    ends: Callable[[LaneLoad], None],
) -> None:
    lanes = [lane(), lane()]
    fleet = Fleet([lanes], ["m"])
    for each in lanes:
        send(fleet, ask(WORDS * 20), each)
    ends(lanes[0].load)
    assert share(fleet, ask(WORDS * 20), lanes[0]) == 0.0
    assert share(fleet, ask(WORDS * 20), lanes[1]) > 0.9


@pytest.mark.parametrize("size", [200_000, 2_000_000])
def test_a_long_conversation_is_found_by_its_beginning_whether_it_was_read_natively_or_not(size: int) -> None:
    lanes = [lane(), lane()]
    fleet, text = Fleet([lanes], ["m"]), (WORDS * (size // len(WORDS) + 1))[:size]
    said = large_body.read_chat(json.dumps({"messages": [{"role": "user", "content": text}]}).encode())
    assert said is not None
    send(fleet, msgspec.structs.replace(ask(), turns=said[1]), lanes[0])
    most = min(1.0, 256 * 1024 / size)
    assert share(fleet, ask(text, "and this"), lanes[0]) == pytest.approx(most, abs=0.05)


def test_of_more_prompts_than_are_remembered_the_latest_are() -> None:
    lanes = [lane(), lane()]
    fleet = Fleet([lanes], ["m"])
    for i in range(40_000):
        send(fleet, ask(f"{i:08} {WORDS * 8}"), lanes[i % 2])
    found = [share(fleet, ask(f"{i:08} {WORDS * 8}"), lanes[0]) > 0 for i in range(0, 400, 2)]
    assert sum(found) < 20  # a place may be written by no later one
    assert share(fleet, ask(f"{39_998:08} {WORDS * 8}"), lanes[0]) > 0.7


def test_a_block_that_more_engines_have_than_are_remembered_is_known_of_the_latest() -> None:
    lanes = [lane() for _ in range(40)]
    fleet = Fleet([lanes], ["m"])
    for each in lanes:
        send(fleet, ask(WORDS * 20), each)
    has = [share(fleet, ask(WORDS * 20), each) > 0 for each in lanes]
    assert has == [False] * 27 + [True] * 13


def test_a_session_stays_while_its_prefix_is_worth_more_than_an_emptier_engine_and_then_moves() -> None:
    lanes = [lane(running=0, prefill_tokens_per_s=1_000.0) for _ in range(2)]
    fleet, session = Fleet([lanes], ["m"]), ask(WORDS * 300)
    send(fleet, session, lanes[1])
    stayed = []
    for waiting in range(0, 40, 4):  # each costs 200 tokens of 10 ms in a batch of 4
        lanes[1].load.reported(Load(running=4, waiting=waiting, prefill_tokens_per_s=1_000.0))
        stayed.append(pick(fleet, session, 4_000).replica(0) == 1)
    assert stayed[0]
    assert not stayed[-1]
    assert stayed == sorted(stayed, reverse=True)
    assert pick(fleet, ask(WORDS[1:] * 300), 4_000).replica(0) == 0  # who has no prefix there goes where it is emptier


def answered(engine: Lane, id: int, matched: float, cached: int) -> None:
    engine.load.submitted(1_000, id, matched)
    engine.load.answered(Usage(1_000, 50, cached), Timings(0.1, 1.0), id)
    engine.load.ended()


def test_an_engine_that_has_dropped_what_it_was_sent_is_expected_to_have_less() -> None:
    kept, drops = lane(), lane()
    fleet = Fleet([[kept, drops]], ["m"])
    for each in (kept, drops):
        send(fleet, ask(WORDS * 20), each)
    for id in range(1, 200):
        answered(kept, id, 0.9, 900)
        answered(drops, id, 0.9, 0)
    assert share(fleet, ask(WORDS * 20), kept) > 0.85
    assert share(fleet, ask(WORDS * 20), drops) < 0.05


def test_what_engines_have_of_prompts_that_nobody_is_known_to_have_sent_them_is_learnt() -> None:
    engine = lane(running=0, prefix_hit=0.8)
    fleet = Fleet([[engine, lane()]], ["m"])
    assert share(fleet, ask(WORDS * 20), engine) == pytest.approx(0.8)  # the engine's own share, as nothing is learnt
    for id in range(1, 200):
        answered(engine, id, 0.0, 300)
    assert share(fleet, ask(WORDS * 20), engine) == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("matched", [-1.0, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("cached", [0, 500, 1_000, 5_000])
def test_the_share_that_is_expected_stays_within_0_and_1_whatever_engines_say(matched: float, cached: int) -> None:
    engine = lane()
    fleet = Fleet([[engine, lane()]], ["m"])
    send(fleet, ask(WORDS * 20), engine)
    for id in range(1, 50):
        answered(engine, id, matched, cached)
    assert 0.0 <= share(fleet, ask(WORDS * 20), engine) <= 1.0


def test_a_url_is_not_taken_to_have_what_it_was_sent() -> None:
    url = lane()
    url.framed = False
    fleet = Fleet([[url]], ["m"])
    assert send(fleet, ask(WORDS * 20), url) == -1.0
    assert share(fleet, ask(WORDS * 20), url) == 0.0


# The pool changes


def test_what_is_known_of_the_engines_stays_when_others_come_and_go() -> None:
    stays, goes, comes = lane(), lane(), lane()
    fleet = Fleet([[goes, stays]], ["m"])
    for each in (goes, stays):
        send(fleet, ask(WORDS * 20), each)
    fleet.hold([[stays, comes]], ["m"])
    assert share(fleet, ask(WORDS * 20), stays) > 0.9
    assert [stays.replica, comes.replica] == [0, 1]


def test_an_engine_that_has_left_is_none_of_those_that_are_compared_though_it_has_the_prompt() -> None:
    lanes = [lane(running=0) for _ in range(20)]
    fleet, leaves = Fleet([lanes], ["m"]), lanes[-1]
    send(fleet, ask(WORDS * 20), leaves)
    fleet.hold([lanes[:-1]], ["m"])
    assert {pick(fleet, ask(WORDS * 20)).replica(0) for _ in range(50)} <= set(range(19))
    fleet.hold([[lane(ready=False), *lanes]], ["m"])  # back, at another place
    assert pick(fleet, ask(WORDS * 20), 2_000).replica(0) == leaves.replica == 20


def test_a_model_without_an_engine_is_refused() -> None:
    with pytest.raises(ValueError, match="groups: expected at least one engine of each of 2 models"):
        Fleet([[lane()], []], ["a", "b"])
