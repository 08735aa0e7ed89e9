"""One gate: who is let in, who waits, who is refused with what, and that the counts return to nothing."""

import logging
from typing import Any

import pytest

from router.config import Limits
from router.errors import NoEngine, Overloaded, RouterError
from router.gate.promises import name_of


class Turns:
    """What a gate calls for requests that wait."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.errors: dict[str, RouterError] = {}

    def wait(self, name: str, permit: Any) -> None:
        assert permit.waiting

        def refused(error: RouterError) -> None:
            self.log.append(f"{name} refused")
            self.errors[name] = error

        permit.wait(lambda: self.log.append(f"{name} begins"), refused)


def counts(gate: Any) -> tuple[int, int, int]:
    return gate.slots.running, gate.slots.waiting, gate.slots.pending_bytes


def refusals(made: Any) -> dict[str, float]:
    lines = [
        line for line in made.metrics.render().decode().splitlines() if line.startswith("headgate_refusals_total{")
    ]
    return {line.split('"')[1]: float(line.rpartition(" ")[2]) for line in lines}


def test_requests_beyond_the_slots_wait_and_begin_oldest_first(kit: Any) -> None:
    made, turns = kit(in_flight=2, queue_requests=3), Turns()
    first, second = made.gate.take("", b"1"), made.gate.take("", b"22")
    permits = [made.gate.take("", b"333") for _ in range(3)]
    for name, permit in zip("abc", permits, strict=True):
        turns.wait(name, permit)
    assert (first.waiting, second.waiting, counts(made.gate)) == (False, False, (2, 3, 12))
    assert b"headgate_queue_length 3.0" in made.metrics.render()
    first.settle()
    assert turns.log == [], "not in the midst of another's end"
    made.loop.run_for(0)
    second.settle()
    permits[0].settle()
    made.loop.run_for(0)
    assert turns.log == ["a begins", "b begins", "c begins"]
    assert counts(made.gate) == (2, 0, 6)
    for permit in permits:
        permit.settle()
    assert counts(made.gate) == (0, 0, 0)
    assert b"headgate_queue_seconds_count 3.0" in made.metrics.render()


def test_a_new_request_does_not_overtake_those_that_wait_though_a_slot_is_free(kit: Any) -> None:
    made, turns = kit(in_flight=1, queue_requests=4), Turns()
    first, second = made.gate.take("", b"1"), made.gate.take("", b"2")
    turns.wait("second", second)
    first.settle()
    assert counts(made.gate) == (0, 1, 1)
    third = made.gate.take("", b"3")
    turns.wait("third", third)
    made.loop.run_for(0)
    assert turns.log == ["second begins"]
    second.settle()
    made.loop.run_for(0)
    assert turns.log == ["second begins", "third begins"]


def test_of_many_that_wait_a_few_are_begun_in_each_turn_of_the_loop(kit: Any) -> None:
    made, turns = kit(in_flight=40, queue_requests=40), Turns()
    running = [made.gate.take("", b"") for _ in range(40)]
    for i in range(40):
        turns.wait(str(i), made.gate.take("", b"%d" % i))
    for permit in running:
        permit.settle()
    waiting, begun = made.loop._due, []
    while waiting and waiting[0][0] <= made.loop.now_s:
        _, _, timer = waiting.pop(0)
        if timer.call is not None:
            before = len(turns.log)
            timer.call()
            begun.append(len(turns.log) - before)
        waiting.sort()
    assert begun == [16, 16, 8]
    assert turns.log == [f"{i} begins" for i in range(40)]


def test_a_request_that_waits_too_long_is_refused_and_told_when_to_come_back(kit: Any) -> None:
    made, turns = kit(in_flight=1, queue_requests=1, queue_s=2.0), Turns()
    made.gate.take("", b"1")
    turns.wait("a", made.gate.take("", b"22"))
    made.loop.run_for(1.99)
    assert turns.log == []
    made.loop.run_for(0.02)
    assert turns.log == ["a refused"]
    assert str(turns.errors["a"]) == "no slot became free within 2 s; 1 requests are in flight"
    assert turns.errors["a"].status == 429
    assert turns.errors["a"].retry_after_s == pytest.approx(4.0, abs=0.1), "the only request has taken 2 s, and goes on"
    assert counts(made.gate) == (1, 0, 1)
    assert refusals(made) == {"queue_time": 1.0}


def test_a_full_queue_refuses_and_says_how_many_run_and_wait(kit: Any) -> None:
    made = kit(in_flight=2, queue_requests=1)
    for _ in range(3):
        made.gate.take("", b"")
    with pytest.raises(Overloaded, match=r"^2 requests are in flight, the most allowed, and 1 wait$"):
        made.gate.take("", b"x")
    assert refusals(made) == {"in_flight": 1.0}


def test_a_request_that_gives_up_leaves_its_place_to_another(kit: Any) -> None:
    made, turns = kit(in_flight=1, queue_requests=2), Turns()
    running, gone, stays = (made.gate.take("", b"x") for _ in range(3))
    turns.wait("gone", gone)
    turns.wait("stays", stays)
    gone.settle()
    gone.settle()
    assert counts(made.gate) == (1, 1, 2)
    turns.wait("new", made.gate.take("", b"x"))
    running.settle()
    made.loop.run_for(100.0)
    assert turns.log == ["stays begins", "new refused"]


@pytest.mark.parametrize("waits", [False, True])
def test_bodies_of_requests_that_run_and_that_wait_are_bounded_together(kit: Any, waits: bool) -> None:
    made = kit(in_flight=1 if waits else 9, queue_requests=9, pending_bytes=100)
    first = made.gate.take("", bytes(50))
    second = made.gate.take("", bytes(50))
    assert second.waiting is waits
    with pytest.raises(Overloaded, match="the bodies of waiting requests fill their share of memory"):
        made.gate.take("", b"x")
    first.drop_body()
    first.drop_body()
    made.gate.take("", bytes(50))
    assert refusals(made) == {"pending_bytes": 1.0}


def test_without_a_queue_requests_are_refused_at_once(kit: Any) -> None:
    made = kit(in_flight=1, queue_requests=0)
    made.gate.take("", b"")
    with pytest.raises(Overloaded, match=r"^1 requests are in flight, the most allowed$"):
        made.gate.take("", b"")


def test_a_closed_gate_refuses_with_503_whatever_is_free(kit: Any) -> None:
    made = kit()
    made.gate.close()
    with pytest.raises(NoEngine, match="the server is shutting down"):
        made.gate.take("", b"")
    assert refusals(made) == {"closed": 1.0}
    assert counts(made.gate) == (0, 0, 0)


def test_a_turn_that_raises_ends_its_request_alone_with_an_error_and_is_logged(
    kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    made, turns = kit(in_flight=1, queue_requests=2), Turns()
    running, bad, good = (made.gate.take("", b"x") for _ in range(3))

    def fails() -> None:
        raise ValueError("a bug")

    errors: list[RouterError] = []
    bad.wait(fails, errors.append)
    turns.wait("good", good)
    running.settle()
    with caplog.at_level(logging.ERROR):
        made.loop.run_for(0)
    assert [str(error) for error in errors] == ["internal error; the server's log says more"]
    assert turns.log == ["good begins"]
    assert counts(made.gate) == (1, 0, 1)
    assert "a request whose turn came could not be begun" in caplog.text


def test_what_comes_early_is_told_the_time_that_is_left_and_what_comes_on_time_finds_a_place(kit: Any) -> None:
    made, turns = kit(in_flight=10, queue_requests=10), Turns()
    running = [made.gate.take("", b"%d" % i) for i in range(20)]
    with pytest.raises(Overloaded) as told:
        made.gate.take("", b"mine")
    wait_s = told.value.retry_after_s
    assert wait_s
    made.loop.run_for(wait_s / 2)
    for permit in running[:6]:
        permit.settle()
    made.loop.run_for(0)
    assert counts(made.gate)[:2] == (10, 4)
    with pytest.raises(Overloaded) as again:
        made.gate.take("", b"mine")
    assert again.value.retry_after_s == pytest.approx(wait_s / 2)
    assert made.gate.take("", b"new").waiting, "half of the places are for requests that are new"
    with pytest.raises(Overloaded):
        made.gate.take("", b"newer")
    made.loop.run_for(wait_s / 2)
    turns.wait("mine", made.gate.take("", b"mine"))


def test_the_wait_that_is_told_grows_with_those_before_and_shrinks_with_the_rate(kit: Any) -> None:
    waits = {}
    for every_s in (0.1, 1.0):
        made = kit(in_flight=10, queue_requests=0)
        running = [made.gate.take("", b"") for _ in range(10)]
        for _ in range(100):
            made.loop.run_for(every_s)
            running.pop(0).settle()
            running.append(made.gate.take("", b""))
            with pytest.raises(Overloaded):
                made.gate.take("", b"again and again")
        told = []
        for i in range(5):
            with pytest.raises(Overloaded) as error:
                made.gate.take("", b"%d" % i)
            told.append(error.value.retry_after_s)
        assert told == sorted(told)
        assert told[4] - told[1] == pytest.approx(3 * every_s / 0.9, rel=0.25)
        waits[every_s] = told[0]
    assert waits[0.1] < waits[1.0] / 5


def test_a_slot_is_not_freed_twice_by_two_ends(kit: Any) -> None:
    made = kit(in_flight=2)
    permit, other = made.gate.take("", b"ab"), made.gate.take("", b"")
    permit.settle()
    permit.settle()
    assert counts(made.gate) == (1, 0, 0)
    other.settle()
    assert counts(made.gate) == (0, 0, 0)


@pytest.mark.parametrize(("given", "places"), [({}, 512), ({"in_flight": 3}, 0), ({"queue_requests": 7}, 7)])
def test_how_many_may_wait_is_a_quarter_of_those_in_flight_unless_told(given: dict[str, int], places: int) -> None:
    assert Limits(**given).queue_places == places


@pytest.mark.parametrize("size", [10, 5_000, 100_000])
def test_requests_of_another_key_or_body_are_told_apart(size: int) -> None:
    body = bytes(size)
    others = [body + b"\0", b"x" + body[1:], body[:-1] + b"x"]
    assert len({name_of("", body), name_of("key", body), *(name_of("", other) for other in others)}) == 5
    assert name_of("key", body) == name_of("key", bytes(size))
