"""The calls of a lost engine fail a few in each turn of the loop, each once, in order."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from router.config import Member, Supervision
from router.native.call import Call
from router.pool import failing
from router.pool.base import Failure
from router.pool.engine import EngineMember
from router.pool.failing import AT_ONCE, Failing
from tests.conftest import until


class Clock:
    """Moves by what each failed call takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(failing, "perf_counter", lambda: self.now)

    def fails(self, into: list[int], takes_s: float) -> Callable[[int], None]:
        def fail(item: int) -> None:
            into.append(item)
            self.now += takes_s

        return fail


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def test_of_100_calls_16_fail_at_once_and_then_as_many_in_each_turn_as_its_time_allows(clock: Clock) -> None:
    failed: list[int] = []
    failing = Failing(clock.fails(failed, takes_s=0.0005))
    failing.add(range(100))
    assert failed == list(range(AT_ONCE))
    most = 0
    while len(failing):
        before = len(failed)
        await asyncio.sleep(0)
        most = max(most, len(failed) - before)
    assert failed == list(range(100))
    assert most == 4  # 0.0005 s each of 0.002 s


async def test_what_is_added_while_others_wait_comes_after_them(clock: Clock) -> None:
    failed: list[int] = []
    failing = Failing(clock.fails(failed, takes_s=1.0))
    failing.add(range(20))
    failing.add(range(20, 25))
    assert failed == list(range(AT_ONCE))
    await until(lambda: not len(failing))
    assert failed == list(range(25))


async def test_finish_fails_all_that_wait_without_another_turn(clock: Clock) -> None:
    failed: list[int] = []
    failing = Failing(clock.fails(failed, takes_s=1.0))
    failing.add(range(100))
    failing.finish()
    assert failed == list(range(100))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(failed) == 100


class Counting(Call):
    """Notes the end of one call."""

    def __init__(self, number: int, ends: list[int]) -> None:
        self._number, self._ends = number, ends

    def fail(self, failure: Failure) -> None:
        assert failure.lost
        self._ends.append(self._number)


async def test_an_engine_lost_with_1000_calls_fails_each_once_and_the_loop_turns_in_between(clock: Clock) -> None:
    member = EngineMember(Member(name="m", model="m"), Supervision(), Path("/none"), gpu_share=1.0)
    ends: list[int] = []
    member.phase = "ready"
    for number in range(1000):
        call = member.lane.calls[number] = Counting(number, ends)
        call.go("waiting")
        if number % 2:
            call.go("answering")
    link = member._link
    member._lost(link, None)  # type: ignore[arg-type]
    assert (len(ends), member.lane.calls, member.status().in_flight) == (AT_ONCE, {}, 0)
    await until(lambda: len(ends) == 1000)
    # Those whose answer has not begun come first.
    assert ends == [*range(0, 1000, 2), *range(1, 1000, 2)]


async def test_a_stop_fails_what_a_loss_has_left(clock: Clock) -> None:
    member = EngineMember(Member(name="m", model="m"), Supervision(), Path("/none"), gpu_share=1.0)
    ends: list[int] = []
    member.phase = "ready"
    for number in range(100):
        member.lane.calls[number] = Counting(number, ends)
    member._lost(member._link, None)  # type: ignore[arg-type]
    await member.stop()
    assert ends == list(range(100))
