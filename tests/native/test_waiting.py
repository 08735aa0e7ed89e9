"""Who comes first in the queue of requests that wait, whatever was added, served and removed before."""

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.native.waiting import FairQueue
from tests.native.queue_twin import Twin


def drained(queue: FairQueue[Any]) -> list[Any]:
    return [queue.next() for _ in range(len(queue))]


def test_of_one_key_the_lowest_number_comes_first_then_the_earliest_deadline_then_the_oldest() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.add("late", "k", 0, 20.0, 1.0)
    queue.add("old", "k", 0, math.inf, 1.0)
    queue.add("new", "k", 0, math.inf, 3.0)
    queue.add("older", "k", 0, math.inf, 0.5)
    queue.add("soon", "k", 0, 10.0, 4.0)
    queue.add("low", "k", 1, 5.0, 0.0)
    queue.add("urgent", "k", -1, math.inf, 9.0)
    assert drained(queue) == ["urgent", "soon", "late", "older", "old", "new", "low"]


def test_a_key_with_a_thousand_waiting_and_one_with_two_take_turns() -> None:
    queue: FairQueue[str] = FairQueue()
    for i in range(1000):
        queue.add(f"many {i}", "many", since_s=float(i))
    queue.add("few 0", "few", since_s=5000.0)
    queue.add("few 1", "few", since_s=5001.0)
    assert [queue.next() for _ in range(5)] == ["many 0", "few 0", "many 1", "few 1", "many 2"]


def test_a_key_with_deadlines_cannot_starve_one_without() -> None:
    queue: FairQueue[str] = FairQueue()
    for i in range(50):
        queue.add(f"hasty {i}", "hasty", deadline_s=1.0 + i)
    queue.add("patient", "patient")
    assert "patient" in [queue.next() for _ in range(2)]


def test_a_key_that_comes_back_at_once_after_each_turn_is_served_no_more_often_than_another() -> None:
    queue: FairQueue[str] = FairQueue()
    for i in range(40):
        queue.add("steady", "steady", since_s=float(i))
    queue.add("hopping", "hopping", since_s=-1.0)
    served = Counter[str]()
    for _ in range(40):
        item = queue.next()
        served[item] += 1
        if item == "hopping":
            queue.add("hopping", "hopping", since_s=-1.0)
    assert abs(served["steady"] - served["hopping"]) <= 1


def test_a_key_that_was_idle_gains_nothing_by_it() -> None:
    queue: FairQueue[str] = FairQueue()
    for i in range(100):
        queue.add("busy", "busy", since_s=float(i))
    for _ in range(50):
        queue.next()
    for i in range(20):
        queue.add("new", "new", since_s=100.0 + i)
    served = Counter(queue.next() for _ in range(20))
    assert abs(served["busy"] - served["new"]) <= 2


def test_the_last_one_is_of_the_highest_number_and_of_the_key_with_most_there() -> None:
    queue: FairQueue[str] = FairQueue()
    for i in range(9):
        queue.add(f"a {i}", "a", 0)
    queue.add("b", "b", 1)
    for i in range(3):
        queue.add(f"c {i}", "c", 1, since_s=float(i))
    assert queue.last() == "c 2"
    queue.add("d", "d", 2)
    assert queue.last() == "d"
    assert len(queue) == 14, "it waits on"


def test_of_keys_with_equally_many_the_last_one_is_of_the_one_that_got_so_many_last() -> None:
    queue: FairQueue[str] = FairQueue()
    for key in ("a", "b", "c"):
        queue.add(key, key)
    assert queue.last() == "c"


def test_what_is_removed_is_not_served_and_its_place_is_not_taken_twice() -> None:
    queue: FairQueue[object] = FairQueue()
    one, other = object(), object()
    place = queue.add(one, "k")
    queue.add(other, "k")
    queue.remove(place, one)
    with pytest.raises(LookupError, match=f"it does not wait at place {place}"):
        queue.remove(place, one)
    assert drained(queue) == [other]


def test_an_empty_queue_has_no_first_and_no_last() -> None:
    queue: FairQueue[object] = FairQueue()
    with pytest.raises(LookupError, match="nobody waits"):
        queue.next()
    with pytest.raises(LookupError, match="nobody waits"):
        queue.last()
    assert (len(queue), queue.ahead(5)) == (0, 0)


@pytest.mark.parametrize("field", ["deadline_s", "since_s"])
def test_a_time_that_is_no_number_is_refused_and_nothing_waits(field: str) -> None:
    queue: FairQueue[object] = FairQueue()
    with pytest.raises(ValueError, match=r"deadline_s, since_s: expected numbers, got .*nan"):
        queue.add(object(), "k", **{field: math.nan})
    with pytest.raises(OverflowError):
        queue.add(object(), "k", 1 << 40)
    assert len(queue) == 0


def test_those_ahead_are_of_the_same_or_a_lower_number() -> None:
    queue: FairQueue[object] = FairQueue()
    for priority in (0, 0, 1, 5):
        queue.add(object(), "k", priority)
    assert [queue.ahead(priority) for priority in (-1, 0, 1, 4, 5)] == [0, 2, 3, 3, 4]


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"),
            st.sampled_from("abcde"),
            st.integers(-1, 1),
            st.one_of(st.just(math.inf), st.integers(0, 5).map(float)),
            st.integers(0, 3).map(float),
        ),
        st.tuples(st.just("next")),
        st.tuples(st.just("remove"), st.integers(0, 50)),
    ),
    max_size=120,
)


@given(steps)
def test_whatever_was_done_before_it_agrees_with_its_twin(steps: list[Any]) -> None:
    queue: FairQueue[object] = FairQueue()
    twin, places = Twin(), dict[object, int]()
    for step in steps:
        if step[0] == "add":
            item = object()
            places[item] = queue.add(item, *step[1:])
            twin.add(item, *step[1:])
        elif not len(twin):
            continue
        elif step[0] == "next":
            assert queue.next() is twin.next()
        else:
            item = twin.rows[step[1] % len(twin)].item
            queue.remove(places[item], item)
            twin.remove(item)
        assert len(queue) == len(twin)
        if len(twin):
            assert any(queue.last() is item for item in twin.lasts())
            assert queue.ahead(0) == sum(row.priority <= 0 for row in twin.rows)
    while len(twin):
        assert queue.next() is twin.next()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=400), st.integers(1, 5))
def test_no_key_is_served_twice_while_another_that_waits_is_served_never(keys: list[int], every: int) -> None:
    """Whoever comes and goes: between two turns of a key, every key that waited all the time has one."""
    queue: FairQueue[int] = FairQueue()
    waiting, order = Counter[int](), list[tuple[int, frozenset[int]]]()
    for at, key in enumerate(keys):
        queue.add(key, str(key), since_s=float(at))
        waiting[key] += 1
        if at % every == 0:
            served = queue.next()
            waiting[served] -= 1
            order.append((served, frozenset(other for other, count in waiting.items() if count)))
    for i, (key, _) in enumerate(order):
        again = [j for j in range(i + 1, len(order)) if order[j][0] == key][:1]
        for j in again:
            stayed = frozenset.intersection(*(still for _, still in order[i : j + 1]))
            assert stayed - {key} <= {served for served, _ in order[i : j + 1]}
