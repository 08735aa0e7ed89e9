"""Requests wait before the engines, are decided for as room comes, in order; under overload first the small model is
chosen, then the last ones are refused. On simulated time; over a router further below."""

import statistics
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import NoEngine, Overloaded
from tests.pipeline.late_world import Asked, World


def test_where_there_is_room_nothing_waits_at_all() -> None:
    world = World(sizes=(4, 4))
    for _ in range(50):
        world.ask()
        world.loop.run_for(1.0)
        assert world.lined == 0
    world.loop.run_for(10.0)
    world.check_over()
    assert {asked.model for asked in world.asked} == {"large"}
    assert b"headgate_queue_seconds_count 0" in world.metrics.render()


def test_two_wait_in_the_engine_and_the_others_before_it() -> None:
    world = World(sizes=(4, 4))
    for _ in range(10):
        world.ask(pinned=1)
    assert (len(world.large.running), len(world.large.waiting), world.lined) == (4, 2, 4)
    world.check()
    world.loop.run_for(30.0)
    world.check_over()
    assert world.large.most_waiting == 2
    assert [asked.number for asked in world.begun] == list(range(10)), "the oldest first"


def test_a_model_is_chosen_when_room_comes_not_when_the_request_came() -> None:
    world = World(sizes=(4, 4))
    first = [world.ask() for _ in range(7)]
    assert (world.lined, first[6].model) == (1, "")
    world.large.lose()
    world.loop.run_for(0.1)
    assert (first[6].model, first[6].phase) == ("small", "waiting")
    world.loop.run_for(10.0)
    assert [asked.ends for asked in first] == [["lost"]] * 6 + [["answered"]]


def test_those_that_wait_for_a_lost_engine_by_its_name_are_told_so() -> None:
    world = World(sizes=(4, 4))
    asked = [world.ask(pinned=1) for _ in range(30)]
    world.large.lose()
    world.loop.run_for(1.0)
    world.check_over()
    assert Counter(str(each.ends) for each in asked) == {"['lost']": 6, "['refused']": 24}
    assert all(isinstance(each.error, NoEngine) for each in asked[6:])


def test_those_that_wait_by_name_for_one_that_is_drained_go_to_it_first_and_the_others_elsewhere() -> None:
    world = World(sizes=(4, 4))
    asked = [world.ask(pinned=1) for _ in range(8)] + [world.ask() for _ in range(3)]
    assert world.lined == 5
    world.large.drain(True)
    assert len(world.large.running) + len(world.large.waiting) == 8
    world.loop.run_for(30.0)
    world.check_over()
    assert {each.model for each in asked[:8]} == {"large"}
    assert {each.model for each in asked[8:]} == {"small"}
    assert {str(each.ends) for each in asked} == {"['answered']"}


def test_who_leaves_while_it_waits_is_not_begun_and_counted_no_more() -> None:
    world = World(sizes=(1, 1))
    asked = [world.ask(pinned=1) for _ in range(6)]
    for each in asked[3:5]:
        each.over("left")
    world.check()
    world.loop.run_for(20.0)
    world.check_over()
    assert [each.number for each in world.begun] == [0, 1, 2, 5]


def test_a_turn_that_raises_ends_its_request_alone(caplog: pytest.LogCaptureFixture) -> None:
    world = World(sizes=(1, 1))
    asked = [world.ask(pinned=1) for _ in range(5)]
    asked[3]._decide = lambda settings: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    world.loop.run_for(30.0)
    world.check_over()
    assert [each.ends[0] for each in asked] == ["answered"] * 3 + ["refused", "answered"]
    assert str(asked[3].error) == "internal error; the server's log says more"
    assert "a request whose turn came could not be begun" in caplog.text


def test_the_lowest_number_comes_first_and_keys_take_turns() -> None:
    world = World(sizes=(1, 1))
    for _ in range(3):
        world.ask("a", pinned=1)
    for _ in range(4):
        world.ask("a", pinned=1)
    urgent = world.ask("a", pinned=1, priority=-1)
    other = [world.ask("b", pinned=1) for _ in range(2)]
    said = world.ask("a", pinned=1, body=b'{"priority": -2}')
    world.loop.run_for(60.0)
    order = [each.number for each in world.begun[3:]]
    assert order[:2] == [said.number, urgent.number]
    assert order[2:6] == [3, other[0].number, 4, other[1].number]


def test_the_earliest_deadline_of_a_key_comes_first() -> None:
    world = World(sizes=(1, 1))
    for _ in range(3):
        world.ask(pinned=1)
    world.ask(pinned=1)
    late, soon = world.ask(pinned=1, deadline_s=50.0), world.ask(pinned=1, deadline_s=20.0)
    world.loop.run_for(30.0)
    assert [each.number for each in world.begun[3:]] == [soon.number, late.number, 3]


# The ladder


def test_a_model_is_waited_for_until_that_takes_too_long_and_then_the_small_one_is_chosen() -> None:
    """The large one begins 2 a second: more than 20 waiting would take more than 10 s."""
    world = World(sizes=(40, 4))
    asked = [world.ask() for _ in range(40)]
    assert 15 <= world.lined <= 25
    first = [each.model for each in asked if each.model]
    assert set(first) == {"small", "large"}
    world.loop.run_for(40.0)
    world.check_over()
    assert {str(each.ends) for each in asked} == {"['answered']"}


def test_an_objective_on_the_first_token_passes_over_a_model_with_a_long_line() -> None:
    world = World(sizes=(40, 4))
    for _ in range(12):
        world.ask()
    assert world.lined == 6
    assert world.ask(slo_ttft_s=1.0).model == "small"
    assert world.ask(slo_ttft_s=8.0).model == ""


def test_those_that_wait_too_long_since_an_engine_became_slow_go_to_the_small_one() -> None:
    world = World(sizes=(4, 4))
    asked = [world.ask() for _ in range(20)]
    assert world.lined == 14
    for each in [*world.large.running]:  # it hangs: nothing of it ends any more
        each.ends.append("hung")
    world.large.running = []
    world.large._load.reported(world_load(running=1, waiting=0))
    world.loop.run_for(40.0)
    assert sum(each.model == "small" for each in asked) == 9, "five are begun in ten seconds, as it seems"


def world_load(**fields: int) -> Any:
    from router.ipc.messages import Load

    return Load(**fields)


def test_where_waiting_is_bounded_the_last_ones_by_priority_are_refused_and_told_when_to_come_back() -> None:
    world = World(sizes=(1, 4), wait_s=3.0)
    low = [world.ask(pinned=1, priority=1) for _ in range(30)]
    world.loop.run_for(0)
    waiting = world.lined
    assert 3 <= waiting <= 8
    assert [each.ends for each in low[6 + waiting :]] == [["refused"]] * (30 - 6 - waiting)
    high = [world.ask(pinned=1, priority=0) for _ in range(4)]
    world.loop.run_for(0)
    assert (world.lined, [each.ends for each in high]) == (waiting, [[]] * 4)
    assert [each.ends for each in low[2 + waiting : 6 + waiting]] == [["refused"]] * 4, "the latest of the lower ones"
    told = [each.error.retry_after_s for each in low if isinstance(each.error, Overloaded)]
    assert all(0 < (seconds or 0) < 60 for seconds in told)
    world.loop.run_for(30.0)
    world.check_over()
    assert b'headgate_refusals_total{reason="wait"}' in world.metrics.render()


def test_who_comes_back_when_it_was_told_is_let_in_then_and_the_engine_never_idles() -> None:
    """Two seconds each, 8 at once, and half as many again as that: clients obey."""
    world = World(sizes=(1, 8), wait_s=2.0)
    told: dict[bytes, tuple[float, float]] = {}  #: of those refused: when, and the first wait that was told
    errors: list[float] = []

    def ended(asked: Asked) -> None:
        if isinstance(asked.error, Overloaded):
            wait_s = asked.error.retry_after_s or 0.0
            told.setdefault(asked.body, (world.loop.now_s, wait_s))
            world.loop.call_later(wait_s, lambda: ask(asked.body))
        elif asked.body in told:
            since_s, wait_s = told.pop(asked.body)
            errors.append((asked.asked_s - since_s) / wait_s - 1)

    def ask(body: bytes) -> None:
        world.ask(pinned=1, body=body, on_end=ended)

    for i in range(300):
        ask(b"client %d" % i)
        world.loop.run_for(world.source.expovariate(6.0))
    seconds = world.loop.now_s - 1000.0
    served = sum(each.ends == ["answered"] for each in world.asked)
    world.loop.run_for(200.0)
    world.check_over()
    assert len(errors) > 50
    assert statistics.quantiles(map(abs, errors), n=20)[-1] <= 0.25
    assert served > 0.9 * 4 * seconds


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(-1, 1), st.integers(-1, 1), st.sampled_from([0.0, 0.05, 0.7])),
        min_size=1,
        max_size=80,
    ),
    st.sampled_from([None, 1.0, 4.0]),
    st.integers(0, 60),
)
@settings(max_examples=60)
def test_whatever_comes_every_request_ends_once_and_no_engine_idles_while_one_waits_for_it(
    asked: list[tuple[str, int, int, float]], wait_s: float | None, lost_at: int
) -> None:
    world = World(sizes=(2, 2), in_flight=20, queue_requests=10, wait_s=wait_s)
    for i, (key, priority, pinned, pause_s) in enumerate(asked):
        world.ask(key, priority=priority, pinned=pinned)
        if i == lost_at:
            world.small.lose()
        if i == lost_at + 10:
            world.small.phase = "ready"
        world.loop.run_for(pause_s)
        world.check()
        for engine in world.pool:
            assert engine.load.lined == 0 or not engine.has_room
    world.small.phase = "ready"
    world.loop.run_for(120.0)
    world.check_over()


@given(st.lists(st.integers(1, 12), min_size=2, max_size=6), st.integers(0, 1000))
@settings(max_examples=30)
def test_no_key_waits_for_its_first_answer_while_another_gets_two_more(counts: list[int], seed: int) -> None:
    world = World(sizes=(1, 2))
    world.source.seed(seed)
    for _ in range(4):
        world.ask("filler", pinned=1)
    order = [f"key {i}" for i, many in enumerate(counts) for _ in range(many)]
    world.source.shuffle(order)
    for key in order:
        world.ask(key, pinned=1)
    world.loop.run_for(200.0)
    begun = [asked.query.key_id for asked in world.begun[4:]]
    for i in range(len(counts)):
        before = Counter(begun[: begun.index(f"key {i}")])
        assert max(before.values(), default=0) <= 1
