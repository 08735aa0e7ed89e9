"""Start order, restarts, silent hosts and stop, over scripted host processes."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.config import Member, Supervision
from router.errors import EngineStartError
from router.pool.base import Work
from router.pool.engine import EngineMember
from router.pool.supervisor import StartEvent, Supervisor

SETTINGS = Supervision(stop_timeout_s=2.0, backoff_s=0.05, backoff_max_s=0.2, ping_s=0.1, ping_timeout_s=10.0)
IMPATIENT = msgspec.structs.replace(SETTINGS, ping_timeout_s=0.5)
Make = Callable[..., tuple[Supervisor, list[EngineMember]]]


@pytest.fixture
async def make(folder: Path, host_command: tuple[str, ...]) -> AsyncIterator[Make]:
    made: list[Supervisor] = []

    def several(
        *engine_args: dict[str, Any], settings: Supervision = SETTINGS
    ) -> tuple[Supervisor, list[EngineMember]]:
        members = [
            EngineMember(
                Member(name=f"m{i}", model="scripted", engine_args=args),
                settings,
                folder,
                gpu_share=0.5,
                env=dict(os.environ),
                command=host_command,
            )
            for i, args in enumerate(engine_args)
        ]
        supervisor = Supervisor(members, settings)
        made.append(supervisor)
        return supervisor, members

    yield several
    for supervisor in made:
        await supervisor.stop()


async def until(true: Callable[[], bool], within_s: float = 15.0) -> None:
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.01)


async def test_one_engine_starts_after_the_other(make: Make) -> None:
    supervisor, members = make({"slow_s": 0.1}, {})
    events: list[StartEvent] = []
    phases: list[tuple[str, str]] = []

    def note(event: StartEvent) -> None:
        events.append(event)
        phases.append((members[0].phase, members[1].phase))

    await supervisor.start(note)
    assert [(event.member, event.what) for event in events] == [
        ("m0", "starting"),
        ("m0", "ready"),
        ("m1", "starting"),
        ("m1", "ready"),
    ]
    assert phases[2] == ("ready", "waiting")
    assert events[1].seconds >= 0.1


async def test_the_first_failure_ends_the_start(make: Make) -> None:
    supervisor, members = make({}, {"fail": "torch.OutOfMemoryError: CUDA out of memory."}, {})
    events: list[StartEvent] = []
    with pytest.raises(
        EngineStartError, match=r"engine 'm1' failed to start: torch\.OutOfMemoryError: CUDA out of mem"
    ):
        await supervisor.start(events.append)
    assert (events[-1].member, events[-1].what) == ("m1", "failed")
    assert [member.phase for member in members] == ["stopped", "stopped", "stopped"]
    assert [member.status().pid for member in members] == [0, 0, 0]


async def test_a_lost_engine_comes_back_and_serves(make: Make, heard: Any) -> None:
    supervisor, (member,) = make({})
    await supervisor.start()
    for time in (1, 2):
        receiver = heard()
        member.submit(script(["die"]), receiver)
        await receiver.end()
        await until(lambda: member.phase == "ready")
        assert member.restarts == time
    receiver = heard()
    member.submit(script(["chunk", "back"], ["done"]), receiver)
    await receiver.end()
    assert receiver.chunks == [b"back"]
    assert member.status().last_error == "it was ended by SIGKILL"


async def test_a_silent_engine_is_killed_and_restarted(make: Make, heard: Any) -> None:
    supervisor, (member,) = make({}, settings=IMPATIENT)
    await supervisor.start()
    receiver = heard()
    member.submit(script(["hang"]), receiver)
    await receiver.end()
    await until(lambda: member.restarts == 1)
    assert "was silent for" in member.last_error


async def test_an_idle_engine_answers_pings_and_lives(make: Make) -> None:
    supervisor, (member,) = make({})
    await supervisor.start()
    await asyncio.sleep(1.0)
    assert (member.phase, member.restarts) == ("ready", 0)


async def test_an_engine_that_was_not_asked_is_not_blamed(make: Make) -> None:
    """The second engine starts for longer than the first may be silent; nobody asked the first meanwhile."""
    settings = msgspec.structs.replace(SETTINGS, ping_timeout_s=2.0)
    supervisor, members = make({}, {"slow_s": 2.5}, settings=settings)
    await supervisor.start()
    await asyncio.sleep(0.3)
    assert [(member.phase, member.restarts) for member in members] == [("ready", 0), ("ready", 0)]


async def test_without_restart_a_lost_engine_stays_lost(make: Make, heard: Any) -> None:
    supervisor, (member,) = make({}, settings=Supervision(restart=False, stop_timeout_s=2.0))
    await supervisor.start()
    receiver = heard()
    member.submit(script(["die"]), receiver)
    await receiver.end()
    await until(lambda: member.phase == "failed")
    assert member.restarts == 0


async def test_restarts_become_more_patient(make: Make) -> None:
    supervisor, _ = make({}, settings=Supervision(backoff_s=1.0, backoff_max_s=5.0))
    delays = [supervisor._next_delay_s("m0", healthy=False) for _ in range(5)]
    assert delays == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert supervisor._next_delay_s("m0", healthy=True) == 1.0


async def test_stop_ends_a_restart_under_way(make: Make, heard: Any) -> None:
    supervisor, (member,) = make({}, settings=Supervision(stop_timeout_s=2.0, backoff_s=60.0))
    await supervisor.start()
    receiver = heard()
    member.submit(script(["die"]), receiver)
    await receiver.end()
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        await supervisor.stop()
    assert member.phase == "stopped"


def script(*steps: list[Any]) -> Work:
    return Work(kind="chat", body=json.dumps({"user": json.dumps(steps)}).encode(), stream=True)
