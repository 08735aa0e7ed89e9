"""The config that a pool has after a change, on GPUs that are not there."""

from typing import Any

import pytest

from router.config import Config, Member
from router.errors import ConfigError
from router.pipeline import pool_plan as plans
from router.pipeline.pool_config import config_after
from router.pipeline.pool_plan import Plan
from router.pool.environment import placed
from tests.pool.gpus import gpus, machine


def member(name: str, share: float | None = None, **fields: Any) -> Member:
    args = {} if share is None else {"gpu_memory_utilization": share}
    return Member(name=name, model="org/m", engine_args=args, **fields)


def after(change: Any, *pool: Member, memory: tuple[float, ...] = (80.0, 80.0)) -> tuple[Config, Config]:
    """The configs before and after `change`, of the pool as asked for."""
    found = machine(gpus(*memory))
    before = placed(Config(pool=pool), found, None)
    plan: Plan = change(pool)
    return before, config_after(before, plan, found, {}, (), None)


def test_a_new_engine_goes_to_the_device_that_is_left_and_those_that_run_stay_as_they_are() -> None:
    before, now = after(lambda pool: plans.add(pool, (member("b"),)), member("a"))
    assert now.pool[0] == before.pool[0]
    assert [each.devices for each in now.pool] == [("0",), ("1",)]


def test_a_new_engine_gets_what_those_that_run_leave_of_their_device() -> None:
    _, now = after(lambda pool: plans.add(pool, (member("b"),)), member("a", 0.5), memory=(80.0,))
    assert now.pool[1].devices == ("0",)
    assert now.pool[1].engine_args["gpu_memory_utilization"] == pytest.approx(0.4)


def test_a_replacement_finds_room_beside_the_one_that_it_replaces_or_is_refused() -> None:
    change = lambda pool: plans.replace(pool, "a", (member("a", 0.6),))  # noqa: E731
    _, now = after(change, member("a", 0.6))
    assert now.pool[0].devices == ("1",)
    with pytest.raises(ConfigError, match=r"\$\.pool\[0\]"):
        after(change, member("a", 0.6), memory=(80.0,))


def test_stopped_first_it_has_the_room_of_the_old_one() -> None:
    change = lambda pool: plans.replace(pool, "a", (member("a", 0.6),), stop_first=True)  # noqa: E731
    _, now = after(change, member("a", 0.6), memory=(80.0,))
    assert now.pool[0].devices == ("0",)


def test_a_promoted_canary_keeps_its_place_under_the_name_of_its_member() -> None:
    canary = member("next", 0.3, replaces="a", weight=0.1)
    before, now = after(lambda pool: plans.promote(pool, "a"), member("a", 0.5), canary)
    (promoted,) = now.pool
    assert (promoted.name, promoted.replaces) == ("a", "")
    assert (promoted.devices, promoted.engine_args) == (before.pool[1].devices, before.pool[1].engine_args)
