"""When a member sleeps and wakes, on simulated time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.pool.sleep import Sleeper


def sleeper(after_s: float = 10.0) -> Sleeper:
    return Sleeper(after_s, 1.0, 8.0, 0.0)


def asleep(one: Sleeper, now_s: float) -> None:
    assert one.falls(now_s)
    one.fell()


def test_it_falls_asleep_after_so_long_without_a_request_and_not_before() -> None:
    one = sleeper()
    one.busy(5.0)
    assert not one.falls(14.9)
    assert one.falls(15.0)
    assert not one.falls(15.1)  # it is about to
    one.fell()
    assert (one.state, one.sleeps) == ("asleep", 1)


def test_one_that_takes_long_to_wake_stays_awake_four_times_as_long() -> None:
    one = sleeper(after_s=1.0)
    asleep(one, 1.0)
    assert one.wakes(2.0)
    one.woke(12.0)
    assert one.wake_s == 10.0
    assert not one.falls(51.9)
    assert one.falls(52.0)


def test_its_wake_time_is_learnt_and_expected() -> None:
    one = sleeper(after_s=1.0)
    for begun, took in ((10.0, 4.0), (100.0, 8.0)):
        asleep(one, begun)
        assert one.wakes(begun)
        one.woke(begun + took)
    assert one.wake_s == pytest.approx(4.0 + 0.3 * 4.0)
    asleep(one, 500.0)
    assert one.expected_s(500.0) == one.wake_s
    assert one.wakes(500.0)
    assert one.expected_s(502.0) == pytest.approx(one.wake_s - 2.0)


def test_it_is_woken_once_however_many_ask() -> None:
    one = sleeper()
    asleep(one, 10.0)
    assert [one.wakes(11.0) for _ in range(3)] == [True, False, False]


def test_one_that_cannot_wake_is_away_and_tried_again_after_doubled_pauses() -> None:
    one = sleeper()
    asleep(one, 10.0)
    now_s = 10.0
    for pause_s in (1.0, 2.0, 4.0, 8.0, 8.0):
        assert one.wakes(now_s)
        one.failed(now_s)
        assert (one.state, one.takes) == ("away", False)
        assert not one.wakes(now_s + 0.99 * pause_s)
        now_s += pause_s
    assert one.wakes(now_s)
    one.woke(now_s + 1.0)
    assert (one.state, one.failures) == ("awake", 0)


def test_one_that_cannot_be_put_to_sleep_is_left_awake_for_the_whole_time() -> None:
    one = sleeper()
    assert one.falls(10.0)
    one.stayed(11.0)
    assert not one.falls(20.9)
    assert one.falls(21.0)


@given(
    st.lists(st.tuples(st.sampled_from(["busy", "look", "ask", "done", "fail", "lost"]), st.floats(0, 20)), max_size=60)
)
def test_whatever_happens_it_never_sleeps_with_a_recent_request_and_is_never_stuck(
    events: list[tuple[str, float]],
) -> None:
    one, now_s, asked_s = sleeper(), 0.0, 0.0
    for what, pause_s in events:
        now_s += pause_s
        if what == "busy":
            one.busy(now_s)
            asked_s = now_s
        elif what == "look":
            if one.falls(now_s):
                assert now_s - asked_s >= 10.0
        elif what == "ask":
            before = one.state
            assert one.wakes(now_s) <= (before in ("asleep", "away"))
        elif what == "done":
            one.fell() if one.state == "falling" else one.woke(now_s) if one.state == "waking" else None
        elif what == "fail":
            one.stayed(now_s) if one.state == "falling" else one.failed(now_s) if one.state == "waking" else None
        elif what == "lost":
            one.is_awake(now_s)
        assert one.expected_s(now_s) >= 0
    if one.state == "falling":
        one.fell()
    if one.state in ("asleep", "away"):
        assert one.wakes(now_s + 8.0)
    if one.state == "waking":
        one.woke(now_s + 9.0)
    assert one.state == "awake"
