"""Who gets the slot, and who is refused: priority, keys, deadlines. On a clock of the test."""

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import Overloaded, RouterError
from tests.gate.conftest import GateKit


def waits(log: list[str], name: str, permit: Any) -> None:
    assert permit.waiting
    permit.wait(lambda: log.append(name), lambda error: log.append(f"{name} refused {error.retry_after_s:.3f}"))


def body(name: str, priority: object = 0) -> bytes:
    return f'{{"messages": [], "user": "{name}", "priority": {priority}}}'.encode()


def test_the_lowest_priority_number_gets_the_slot_first_be_it_the_headers_or_the_bodys(kit: Any) -> None:
    made, log = kit(in_flight=1, queue_requests=9), list[str]()
    first = made.gate.take("", b"{}")
    waits(log, "plain", made.gate.take("", b"{}"))
    waits(log, "body", made.gate.take("", body("b", -5)))
    waits(log, "header", made.gate.take("", body("h", 7), -9))
    waits(log, "low", made.gate.take("", body("l", 3)))
    waits(log, "words", made.gate.take("", body("w", '"high"')))
    first.settle()
    for _ in range(5):
        made.loop.run_for(0)
        made.gate.slots.end(0.0)
    made.loop.run_for(0)
    assert log == ["header", "body", "plain", "words", "low"]


def test_a_deadline_that_is_told_later_moves_a_request_forward_among_those_of_its_key(kit: Any) -> None:
    made, log = kit(in_flight=1, queue_requests=9), list[str]()
    first = made.gate.take("", b"{}")
    waits(log, "old", made.gate.take("", b"1"))
    late, soon = made.gate.take("", b"2"), made.gate.take("", b"3")
    waits(log, "late", late)
    waits(log, "soon", soon)
    made.gate.rank(late, 0, 9.0)
    made.gate.rank(soon, 0, 5.0)
    first.settle()
    for _ in range(3):
        made.loop.run_for(0)
        made.gate.slots.end(0.0)
    assert log == ["soon", "late", "old"]


def test_keys_take_turns_however_many_requests_each_has(kit: Any) -> None:
    made, log = kit(in_flight=1, queue_requests=50), list[str]()
    first = made.gate.take("a", b"{}")
    for i in range(6):
        waits(log, "a", made.gate.take("a", b"%d" % i))
    for i in range(3):
        waits(log, "b", made.gate.take("b", b"%d" % i))
    first.settle()
    for _ in range(6):
        made.loop.run_for(0)
        made.gate.slots.end(0.0)
    assert log == ["a", "b", "a", "b", "a", "b"]


def test_where_the_queue_is_full_one_of_lower_priority_makes_room_and_is_told_when_to_come_back(kit: Any) -> None:
    made, log = kit(in_flight=8, queue_requests=2), list[str]()
    for _ in range(8):
        made.gate.take("", b"{}")
    waits(log, "low", made.gate.take("", body("low", 1)))
    waits(log, "lower", made.gate.take("", body("lower", 2)))
    waits(log, "plain", made.gate.take("", body("plain")))
    assert log == [], "not in the midst of another's admission"
    made.loop.run_for(0)
    assert [line.split()[:2] for line in log] == [["lower", "refused"]]
    assert float(log[0].split()[2]) > 0
    with pytest.raises(Overloaded, match=r"^8 requests are in flight, the most allowed, and 2 wait$"):
        made.gate.take("", body("lowest", 3))
    assert (made.gate.slots.waiting, len(made.gate._queue)) == (2, 2)
    assert b'headgate_refusals_total{reason="displaced"} 1.0' in made.metrics.render()


def test_where_the_queue_is_full_a_key_with_fewer_takes_the_place_of_one_with_most(kit: Any) -> None:
    made, log = kit(in_flight=8, queue_requests=4), list[str]()
    for _ in range(8):
        made.gate.take("a", b"{}")
    for i in range(4):
        waits(log, f"a{i}", made.gate.take("a", b"%d" % i))
    waits(log, "b0", made.gate.take("b", b"0"))
    waits(log, "b1", made.gate.take("b", b"1"))
    made.loop.run_for(0)
    assert [line.split()[0] for line in log] == ["a3", "a2"]
    with pytest.raises(Overloaded):
        made.gate.take("a", b"more")
    with pytest.raises(Overloaded):
        made.gate.take("b", b"more")


def test_one_that_left_before_it_was_told_hears_no_more(kit: Any) -> None:
    made, errors = kit(in_flight=8, queue_requests=1), list[RouterError]()
    for _ in range(8):
        made.gate.take("", b"{}")
    gone = made.gate.take("", body("low", 1))
    gone.wait(lambda: None, errors.append)
    made.gate.take("", body("plain"))
    gone.settle()
    gone.settle()
    assert (made.gate.slots.waiting, len(made.gate._queue)) == (1, 1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-1, 1)), min_size=1, max_size=60), st.integers(0, 10_000))
@settings(max_examples=60)
def test_every_request_gets_a_slot_or_an_error_and_the_counts_return_to_nothing(
    asked: list[tuple[str, int]], seed: int
) -> None:
    made, source = GateKit(in_flight=3, queue_requests=6), random.Random(seed)
    ends, running, told = Counter[int](), list[Any](), list[float]()

    def begin(i: int, permit: Any) -> None:
        ends[i] += 1
        running.append(permit)

    for i, (key, priority) in enumerate(asked):
        try:
            permit = made.gate.take(key, b"%d" % i, priority)
        except Overloaded as error:
            told.append(error.retry_after_s or 0.0)
            ends[i] += 1
            continue
        if permit.waiting:
            permit.wait(lambda i=i, permit=permit: begin(i, permit), lambda error, i=i: ends.update([i]))
        else:
            begin(i, permit)
        if running and source.random() < 0.4:
            running.pop(source.randrange(len(running))).settle()
        made.loop.run_for(source.choice([0.0, 0.01, 1.0]))
    while running:
        running.pop().settle()
        made.loop.run_for(0.01)
    made.loop.run_for(30.0)
    assert ends == dict.fromkeys(range(len(asked)), 1)
    assert all(0 < seconds <= 600 for seconds in told)
    slots = made.gate.slots
    assert (slots.running, slots.waiting, slots.lined, slots.pending_bytes, len(made.gate._queue)) == (0, 0, 0, 0, 0)
