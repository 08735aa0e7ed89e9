"""When a nap looks at its member: what counts as a request, and what a removed member leaves."""

import time
from pathlib import Path

import pytest

from router.config import Config, Member, Sleep, Supervision
from router.pipeline.sleeping import Sleeping, _Nap, sleeps_by_mode
from router.pool.engine import EngineMember


def engine(folder: Path) -> EngineMember:
    member = EngineMember(Member(name="a", model="m"), Supervision(), folder, gpu_share=1.0)
    member.phase = "ready"
    return member


async def test_a_request_that_came_and_went_between_two_looks_keeps_it_awake(tmp_path: Path) -> None:
    member = engine(tmp_path)
    nap, now_s = _Nap(member, 10.0, 0, Supervision()), time.monotonic()
    nap.look(now_s + 9.0)
    member.lane.last_id += 1
    nap.look(now_s + 9.5)
    nap.look(now_s + 19.4)
    assert nap.task is None
    nap.look(now_s + 19.6)
    assert nap.task is not None
    await nap.task
    assert (member.phase, member.state().ready) == ("parked", True)


async def test_a_member_that_leaves_the_pool_sleeps_and_wakes_no_more(tmp_path: Path) -> None:
    member, sleeping = engine(tmp_path), Sleeping()
    config = Config(pool=(Member(name="a", model="m", sleep=Sleep(after_s=10)),))
    sleeping.follow(config, (member,))
    assert member.sleeper is not None
    sleeping.follow(Config(), ())
    assert member.sleeper is None
    assert member.on_asked is None
    await sleeping.stop()


@pytest.mark.parametrize(("args", "expected"), [({"enable-sleep-mode": True}, True), ({}, False)])
def test_a_member_sleeps_by_vllms_mode_where_that_is_on(args: dict[str, bool], expected: bool) -> None:
    assert sleeps_by_mode(Member(name="a", model="m", engine_args=args)) is expected
