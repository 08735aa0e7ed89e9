"""Changes of a pool of scripted hosts, without a frontend: what is kept of a member that has left, and of secrets."""

import asyncio
import gc
import os
import re
import shutil
import signal
import sys
import tempfile
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from router.config import Config, Limits, Member, Routing, Server, Supervision
from router.errors import BadRequest, Conflict
from router.pipeline.change import Wanted
from router.pipeline.changes import Changes
from router.pipeline.router import Router
from tests.conftest import ROOT, until

HOST = (sys.executable, "-P", str(ROOT / "tests" / "pool" / "scripted_host.py"))
Make = Callable[..., Any]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """A started router of engines of these names."""
    folder = Path(tempfile.mkdtemp(prefix="hg-"))  # a socket's path is short
    routers: list[Router] = []

    async def one(*names: str, **config: Any) -> tuple[Router, Changes]:
        pool = tuple(Member(name=name, model="stub", strength=0.5) for name in names)
        settings = Config(
            pool=pool,
            server=Server(limits=Limits(drain_s=0.5)),
            supervision=Supervision(runtime_dir=str(folder), stop_timeout_s=2.0),
            **config,
        )
        routers.append(Router(settings, host_command=HOST))
        await routers[-1].start()
        changes = routers[-1].changes
        assert changes is not None
        return routers[-1], changes

    yield one
    for router in routers:
        await router.stop()
    shutil.rmtree(folder)


async def done(changes: Changes) -> str:
    """How the last change has ended."""
    await until(lambda: changes.recent[-1].stage in ("done", "failed"), lambda: str(changes.recent))
    return changes.recent[-1].error


async def test_nothing_is_kept_of_a_member_that_has_left(make: Make) -> None:
    router, changes = await make("a", "b")
    gone = weakref.ref(router.pool[0])
    changes.begin("replace", "a", Wanted(member={"model": "other", "strength": 0.4}))
    assert await done(changes) == ""
    changes.begin("remove", "b", Wanted())
    assert await done(changes) == ""
    await asyncio.sleep(0)
    gc.collect()
    assert gone() is None
    assert [member.name for member in router.config.pool] == ["a"]
    assert len(router._supervisor._members) == 1
    assert not router._supervisor._watches.keys() - set(router.pool)


async def test_a_reference_is_expanded_from_the_servers_environment_and_its_value_is_shown_to_nobody(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN_OF_B", "hidden")
    router, changes = await make("a", "c")
    member = {"name": "b", "model": "stub", "strength": 0.5, "env": {"HF_TOKEN": "${TOKEN_OF_B}"}}
    changes.begin("add", "b", Wanted(member=member))
    assert await done(changes) == ""
    assert router.config.pool[2].env == {"HF_TOKEN": "hidden"}
    assert router.config.expanded_at == ("$.pool[2].env.HF_TOKEN",)
    changes.begin("remove", "a", Wanted())
    assert await done(changes) == ""
    assert router.config.expanded_at == ("$.pool[1].env.HF_TOKEN",)
    with pytest.raises(BadRequest, match=r"the change: .*NOT_SET"):
        changes.begin("add", "d", Wanted(member={**member, "name": "d", "env": {"HF_TOKEN": "${NOT_SET}"}}))


async def test_what_the_checkpoint_refuses_of_a_member_is_told_before_an_engine_starts(make: Make) -> None:
    router, changes = await make("a")
    changes.begin("add", "b", Wanted(member={"name": "b", "model": "stub", "like": "no such model"}))
    assert "no such model" in await done(changes)
    assert router.edition == 0


async def test_a_canary_that_takes_no_requests_is_not_promoted_over_a_member_that_does(make: Make) -> None:
    router, changes = await make("a", "b")
    canary = {"name": "c", "model": "other", "strength": 0.4, "replaces": "a"}
    changes.begin("add", "c", Wanted(member=canary))
    assert await done(changes) == ""
    changes.begin("drain", "c", Wanted())
    with pytest.raises(Conflict, match=re.escape("'c' takes no requests (draining), 'a' does")):
        changes.begin("promote", "a", Wanted())
    assert [member.name for member in router.config.pool] == ["a", "b", "c"]
    changes.begin("drain", "a", Wanted())  # neither takes requests: nothing is lost by it
    changes.begin("resume", "c", Wanted())
    changes.begin("promote", "a", Wanted())
    assert await done(changes) == ""
    assert [member.status().phase for member in router.pool] == ["ready", "ready"]


async def test_a_change_that_the_end_of_the_server_gives_up_says_so(make: Make) -> None:
    _, changes = await make("a")
    changes.begin("add", "b", Wanted(member={"name": "b", "model": "stub", "engine_args": {"slow_s": 60.0}}))
    await until(lambda: changes.recent[-1].stage == "starting", lambda: str(changes.recent))
    await changes.stop()
    assert changes.recent[-1].error == "the server ends; the pool is as it was"


async def test_the_price_and_the_share_of_all_follow_the_pool(make: Make) -> None:
    router, changes = await make("a")
    assert router.pool[0].state().usd_per_s == pytest.approx(2.0 / 3600)
    changes.begin("add", "b", Wanted(member={"name": "b", "model": "stub", "strength": 0.6, "usd_per_hour": 8}))
    assert await done(changes) == ""
    assert [member.state().usd_per_s for member in router.pool] == pytest.approx([1.0 / 3600, 4.0 / 3600])
    assert router.pool[0].lane.usd_per_s == pytest.approx(1.0 / 3600)  # type: ignore[attr-defined]
    assert router._decider.names.settings("auto").strong == 1


async def test_routing_of_a_file_is_taken_over_with_its_pool_or_not_at_all(make: Make) -> None:
    router, changes = await make("a", "b")
    fails = Member(name="c", model="stub", strength=0.5, engine_args={"fail": "no memory"})
    for pool, price in (((*router.config.pool, fails), 100.0), (router.config.pool[:1], 7.0)):
        file = Config(pool=tuple(Member(name=m.name, model="stub", strength=0.5, engine_args=m.engine_args
                      if m.name == "c" else {}) for m in pool), routing=Routing(price=7.0))  # fmt: skip
        changes.reread(file)
        assert ("no memory" in await done(changes)) == (price == 100.0)
        assert router._decider.names.settings("auto").price == price
    assert [member.name for member in router.config.pool] == ["a"]


async def test_an_engine_that_dies_as_it_drains_is_not_started_again(make: Make) -> None:
    router, changes = await make("a", "b")
    leaving = router.pool[0]
    pid = leaving.status().pid
    changes.begin("remove", "a", Wanted())
    await until(lambda: router.edition == 1)
    if leaving.status().pid:
        os.kill(pid, signal.SIGKILL)
    assert await done(changes) == ""
    assert leaving.status().phase == "stopped"
    assert not any(member is leaving for member in router._supervisor._members)


async def test_stopping_the_router_stops_what_was_joining_and_what_was_leaving(make: Make) -> None:
    router, changes = await make("a", "b")
    changes.begin("add", "c", Wanted(member={"name": "c", "model": "s", "engine_args": {"slow_s": 60.0}}))
    await until(lambda: changes.joining and changes.joining[0].phase == "starting")
    await router.stop()
    assert changes.recent[-1].stage == "failed"
    assert [member.status().phase for member in router.pool] == ["stopped", "stopped"]
    assert not (Path(changes.token_file)).exists()
