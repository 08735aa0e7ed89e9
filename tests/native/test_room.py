"""Whether an engine has room for one more, by what it runs at once, what we gave it, and its load frames."""

import pytest

from router.ipc.messages import Load
from router.native.lane import LaneLoad
from router.types import Timings, Usage


def load(most: int = 4, in_flight: int = 0, **frame: float) -> LaneLoad:
    made = LaneLoad(200.0, 1000.0, 0.01)
    made.most_running = most
    for _ in range(in_flight):
        made.submitted(10)
    if frame:
        made.reported(Load(**frame))  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize(
    ("made", "room"),
    [
        (load(most=0, in_flight=5_000, running=5_000, waiting=400), True),  # no bound is known
        (load(in_flight=5), True),
        (load(in_flight=6), False),
        (load(in_flight=5, running=4, waiting=1, kv_use=0.5), True),
        (load(in_flight=1, running=4, waiting=2), False),  # most of it is another client's
        (load(in_flight=4, running=2, waiting=2, kv_use=0.95), False),  # its cache is full: it runs no more than two
        (load(in_flight=3, running=2, waiting=1, kv_use=0.95), True),
        (load(in_flight=4, running=2, waiting=2, kv_use=0.5), True),  # it is about to take them up
        (load(in_flight=4, running=4, waiting=0, kv_use=0.99), True),
        (load(in_flight=2, running=0, waiting=2, kv_use=0.95), True),
        (load(in_flight=0, running=1_000_000, waiting=1_000_000), True),  # one at a time, whatever it claims
        (load(in_flight=1, running=1_000_000, waiting=1_000_000), False),
        (load(in_flight=1, running=-5, waiting=-5), True),
    ],
)
def test_there_is_room_for_as_many_as_it_runs_and_two(made: LaneLoad, room: bool) -> None:
    assert made.room is room
    assert made.open is room


def test_what_ends_after_a_load_frame_makes_room_at_once() -> None:
    made = load(in_flight=6, running=4, waiting=2)
    assert not made.room
    made.ended()
    assert made.room
    made.submitted(10)
    assert not made.room


def test_one_that_waits_before_it_closes_it_to_new_ones_and_counts_as_waiting() -> None:
    made = load(in_flight=2, running=2)
    before = made.figures()
    made.lined = 3
    assert (made.room, made.open) == (True, False)
    after = made.figures()
    assert (after["waiting"], before["waiting"]) == (3, 0)
    assert after["queued_gpu_s"] == pytest.approx(3 * 200 * 0.01 / 2 + 3 * 10 / 1000)
    assert after["queued_steps"] == pytest.approx(300.0)


def test_an_engine_that_is_lost_has_the_room_of_a_new_one() -> None:
    made = load(in_flight=6, running=4, waiting=2)
    made.forget()
    for _ in range(6):
        made.ended()
    assert made.room


@pytest.mark.parametrize(("claimed", "kept"), [(-1, 0), (1 << 80, 0), (256, 256)])
def test_a_bound_that_is_none_counts_as_not_known(claimed: int, kept: int) -> None:
    made = load()
    made.most_running = claimed
    assert made.most_running == kept


def test_ends_and_the_seconds_of_what_was_answered_are_summed() -> None:
    made = load(in_flight=3)
    made.answered(Usage(10, 5), Timings(0.1, 2.5))
    made.ended()
    made.ended()
    assert (made.ends, made.served_s) == (2, 2.5)
