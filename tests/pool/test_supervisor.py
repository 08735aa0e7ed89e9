"""Start order, restarts, silent hosts and stop, over scripted host processes."""

import errno
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.config import Member, Supervision
from router.errors import ArgumentsRefused, EngineStartError
from router.pool.base import Work
from router.pool.costs import Costs
from router.pool.devices import lost
from router.pool.engine import EngineMember
from router.pool.link import HostLink
from router.pool.process import HostProcess
from router.pool.supervisor import StartEvent, Supervisor
from router.pool.turns import Load, Turn
from router.steps import StepSums
from tests.conftest import patience, until
from tests.pool.gpus import Gpus, gpu

SETTINGS = Supervision(stop_timeout_s=2.0, backoff_s=0.05, backoff_max_s=0.2, ping_s=0.1, ping_timeout_s=10.0)
#: Long enough for a host that answers, on a busy machine.
IMPATIENT = msgspec.structs.replace(SETTINGS, ping_timeout_s=4.0)
Make = Callable[..., tuple[Supervisor, list[EngineMember]]]


@pytest.fixture
async def make(folder: Path, host_command: tuple[str, ...]) -> AsyncIterator[Make]:
    made: list[Supervisor] = []

    def several(
        *engine_args: dict[str, Any], settings: Supervision = SETTINGS, devices: Any = None
    ) -> tuple[Supervisor, list[EngineMember]]:
        members = [
            EngineMember(
                Member(
                    name=f"m{i}", model="scripted", engine_args=args, devices=(devices or [None] * len(engine_args))[i]
                ),
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


async def test_engines_that_measure_one_device_load_one_after_the_other(make: Make) -> None:
    supervisor, members = make({"slow_s": 0.1}, {"slow_s": 0.1})
    events: list[StartEvent] = []
    loading: list[int] = []
    follow(members, loading)
    await supervisor.start(events.append)
    assert [(event.member, event.what) for event in events[:2]] == [("m0", "starting"), ("m1", "starting")]
    assert sorted((event.member, event.what) for event in events[2:]) == [("m0", "ready"), ("m1", "ready")]
    assert max(loading) == 1
    assert max(event.seconds for event in events) >= 0.2


def follow(members: list[EngineMember], loading: list[int]) -> None:
    """Note how many engines load, whenever one begins to."""
    now = 0

    def counted(turn: Turn) -> Turn:
        @asynccontextmanager
        async def one() -> AsyncIterator[Load]:
            nonlocal now
            began = False

            async def load() -> None:
                nonlocal began, now
                await given()
                began = True
                now += 1
                loading.append(now)

            async with turn() as given:
                try:
                    yield load
                finally:
                    now -= began

        return one

    for member in members:
        counting = property(lambda self: self.counted, lambda self, turn: setattr(self, "counted", counted(turn)))
        member.__class__ = type("Counted", (EngineMember,), {"turn": counting})


@pytest.mark.parametrize(
    ("args", "devices"),
    [({"kv_cache_memory_bytes": 1}, (None, None)), ({}, ((0,), (1,)))],
    ids=["sized", "on devices of their own"],
)
async def test_engines_that_do_not_disturb_one_another_load_side_by_side(make: Make, args: Any, devices: Any) -> None:
    supervisor, members = make({"slow_s": 0.5, **args}, {"slow_s": 0.5, **args}, devices=devices)
    loading: list[int] = []
    follow(members, loading)
    await supervisor.start()
    assert loading == [1, 2]


async def test_no_engine_loads_where_an_argument_of_one_is_refused(make: Make) -> None:
    supervisor, members = make({}, {"refused": "max-modle-len", "imports_s": 0.3}, {})
    loading: list[int] = []
    follow(members, loading)
    with pytest.raises(ArgumentsRefused) as refused:
        await supervisor.start()
    assert (refused.value.member, refused.value.key) == ("m1", "max-modle-len")
    assert refused.value.said == "vLLM has no such argument"
    assert loading == []
    assert [member.status().pid for member in members] == [0, 0, 0]


@pytest.mark.parametrize(
    ("answer", "why"),
    [("no\n", "its host does not say whether its arguments are fine"), ("", "it ended with exit code 1")],
)
async def test_a_host_that_does_not_answer_well_fails_alone(make: Make, answer: str, why: str) -> None:
    supervisor, members = make({}, {"answer": answer, "refused": "x"})
    await supervisor.start()
    assert members[0].phase == "ready"
    assert why in members[1].last_error


async def test_a_host_that_does_not_ask_is_ready_all_the_same(make: Make) -> None:
    supervisor, members = make({"unasked": True}, {})
    await supervisor.start()
    assert [member.phase for member in members] == ["ready", "ready"]


ALL = msgspec.structs.replace(SETTINGS, require="all")
OUT_OF_MEMORY = "torch.OutOfMemoryError: CUDA out of memory."


async def test_the_first_failure_ends_the_start_where_all_are_required(make: Make) -> None:
    supervisor, members = make({}, {"fail": OUT_OF_MEMORY}, {}, settings=ALL)
    events: list[StartEvent] = []
    with pytest.raises(
        EngineStartError, match=r"engine 'm1' failed to start: torch\.OutOfMemoryError: CUDA out of mem"
    ):
        await supervisor.start(events.append)
    assert ("m1", "failed") in [(event.member, event.what) for event in events]
    assert [member.phase for member in members] == ["stopped", "stopped", "stopped"]
    assert [member.status().pid for member in members] == [0, 0, 0]


async def test_an_engine_that_fails_is_told_and_started_again_while_the_others_serve(
    make: Make, heard: Any, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor, members = make({}, {"fail": OUT_OF_MEMORY}, {})
    events: list[StartEvent] = []
    await supervisor.start(events.append)
    assert sorted((event.member, event.what) for event in events if event.what != "starting") == [
        ("m0", "ready"),
        ("m1", "failed"),
        ("m2", "ready"),
    ]
    assert f"the pool is degraded: engine 'm1' failed to start: {OUT_OF_MEMORY}; it is tried again" in caplog.text
    await until(lambda: members[1].restarts >= 2)
    assert (members[1].state().ready, members[1].status().last_error) == (False, OUT_OF_MEMORY)
    assert [member.phase for member in (members[0], members[2])] == ["ready", "ready"]
    receiver = heard()
    members[2].submit(script(["chunk", "here"], ["done"]), receiver)
    await receiver.end()
    assert receiver.chunks == [b"here"]
    del members[1]._spec.engine_args["fail"]  # what stood in its way is gone
    await until(lambda: members[1].phase == "ready")
    receiver = heard()
    members[1].submit(script(["die"]), receiver)  # and it comes back as any other, once it is lost
    await receiver.end()
    restarts = members[1].restarts
    await until(lambda: members[1].phase == "ready" and members[1].restarts > restarts)


async def test_the_start_fails_with_all_errors_where_every_engine_fails(make: Make) -> None:
    supervisor, members = make({"fail": OUT_OF_MEMORY}, {"fail": "ValueError: another"})
    with pytest.raises(EngineStartError, match=r"engine 'm0' failed to start: torch\.OutOfMemoryError") as error:
        await supervisor.start()
    assert str(error.value).endswith("; engine 'm1': ValueError: another")
    assert [(member.phase, member.restarts) for member in members] == [("stopped", 0), ("stopped", 0)]


async def test_an_engine_that_fails_stays_so_without_restart(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    settings = msgspec.structs.replace(SETTINGS, restart=False)
    supervisor, members = make({"fail": OUT_OF_MEMORY}, {}, settings=settings)
    await supervisor.start()
    assert "it is not tried again" in caplog.text
    assert [(member.phase, member.restarts) for member in members] == [("failed", 0), ("ready", 0)]


async def test_stop_ends_the_attempts_of_an_engine_that_never_started(make: Make) -> None:
    settings = msgspec.structs.replace(SETTINGS, backoff_s=600.0, backoff_max_s=600.0)
    supervisor, members = make({"fail": OUT_OF_MEMORY}, {}, settings=settings)
    await supervisor.start()
    async with patience():
        await supervisor.stop()
    assert [member.phase for member in members] == ["stopped", "stopped"]


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


async def test_an_engine_whose_device_vanishes_fails_with_its_name_while_others_serve(make: Make, heard: Any) -> None:
    supervisor, members = make({}, {})
    source = Gpus(gpu(0), gpu(1))
    for i, member in enumerate(members):
        member._lost_devices = partial(lost, source, (gpu(i),))
    await supervisor.start()
    source.there = (gpu(0),)
    members[1]._spec.engine_args["fail"] = "RuntimeError: CUDA error: device lost"
    receiver = heard()
    members[1].submit(script(["die"]), receiver)
    await receiver.end()
    await until(lambda: members[1].restarts >= 1 and "CUDA error" in members[1].last_error)
    assert members[1].last_error == "RuntimeError: CUDA error: device lost; device GPU-1a1 (H100) is gone"
    assert (members[0].phase, members[0].restarts) == ("ready", 0)
    source.there = (gpu(0), gpu(1))
    del members[1]._spec.engine_args["fail"]
    await until(lambda: members[1].phase == "ready")


async def test_a_silent_engine_is_killed_and_restarted(make: Make, heard: Any) -> None:
    supervisor, (member,) = make({}, settings=IMPATIENT)
    await supervisor.start()
    receiver = heard()
    member.submit(script(["hang"]), receiver)
    await receiver.end()
    await until(lambda: member.restarts >= 1)
    assert "was silent for" in member.last_error


async def test_an_idle_engine_answers_pings_and_lives(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor, (member,) = make({})
    pings = count_pings(member, monkeypatch)
    await supervisor.start()
    await until(lambda: len(pings) >= 5)
    assert (member.phase, member.restarts) == ("ready", 0)


def count_pings(member: EngineMember, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pings: list[float] = []
    ping = member.ping
    monkeypatch.setattr(member, "ping", lambda: (pings.append(1), ping()))
    return pings


async def test_an_engine_that_was_not_asked_is_not_blamed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second engine starts for longer than the first may be silent; nobody asked the first meanwhile."""
    supervisor, members = make({}, {"slow_s": 4.5}, settings=IMPATIENT)
    pings = count_pings(members[0], monkeypatch)
    await supervisor.start()
    await until(lambda: len(pings) >= 2)
    assert [(member.phase, member.restarts) for member in members] == [("ready", 0), ("ready", 0)]


def log_gone(folder: Path, member: EngineMember) -> None:
    member.log_path.unlink()


def folder_gone(folder: Path, member: EngineMember) -> None:
    shutil.rmtree(folder)


def folder_in_the_logs_place(folder: Path, member: EngineMember) -> None:
    member.log_path.unlink()
    member.log_path.mkdir()
    (member.log_path / "file").touch()


def folder_in_the_sockets_place(folder: Path, member: EngineMember) -> None:
    socket = Path(member._spec.socket)
    socket.unlink(missing_ok=True)
    socket.mkdir()


def file_in_the_folders_place(folder: Path, member: EngineMember) -> None:
    shutil.rmtree(folder)
    folder.touch()


def folder_of_others(folder: Path, member: EngineMember) -> None:
    folder.chmod(0o777)


@pytest.mark.parametrize("fate", [log_gone, folder_gone], ids=lambda fate: fate.__name__)
async def test_an_engine_whose_files_a_cleaner_removed_comes_back(
    make: Make, folder: Path, heard: Any, fate: Any
) -> None:
    supervisor, (member,) = make({})
    await supervisor.start()
    fate(folder, member)
    receiver = heard()
    member.submit(script(["die"]), receiver)
    await receiver.end()
    await until(lambda: member.phase == "ready")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert member.log_path.exists()
    assert member.last_error == "it was ended by SIGKILL"


@pytest.mark.parametrize(
    ("fate", "said"),
    [
        (folder_in_the_logs_place, "Is a directory"),
        (folder_in_the_sockets_place, "Is a directory"),
        (file_in_the_folders_place, "File exists"),
        (folder_of_others, "expected a folder of mode 0700 of our own"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_what_stands_in_the_way_back_is_said_and_once_it_is_gone_the_engine_is_back(
    make: Make, folder: Path, heard: Any, caplog: pytest.LogCaptureFixture, fate: Any, said: str
) -> None:
    supervisor, (member,) = make({})
    await supervisor.start()
    fate(folder, member)
    receiver = heard()
    member.submit(script(["die"]), receiver)
    await receiver.end()
    await until(lambda: member.restarts >= 2)
    assert said in member.last_error
    assert "engine 'm0' failed to start: its process could not be started" in caplog.text
    if folder.is_dir():
        folder.chmod(0o700)
        shutil.rmtree(folder)
    else:
        folder.unlink()
    await until(lambda: member.phase == "ready")


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EMFILE, "Too many open files"), BlockingIOError(errno.EAGAIN, "fork"), RuntimeError("a bug")],
)
@pytest.mark.parametrize("where", ["spawn", "reap", "open"])
async def test_whatever_is_raised_on_the_way_back_is_said_and_tried_again(
    make: Make,
    heard: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    where: str,
) -> None:
    supervisor, (member,) = make({})
    await supervisor.start()
    raised: list[Exception] = []
    owner, name = {
        "spawn": (HostProcess, "spawn"), "reap": (HostProcess, "epitaph"), "open": (HostLink, "open")
    }[where]  # fmt: skip
    original = getattr(owner, name)

    def fails(*args: Any, **named: Any) -> Any:
        if len(raised) < (1 if where == "reap" else 3):
            raised.append(error)
            raise error
        return original(*args, **named)

    receiver = heard()
    member.submit(script(["die"]), receiver)
    monkeypatch.setattr(owner, name, fails)
    await receiver.end()
    await until(lambda: member.phase == "ready" and member.restarts > 0)
    assert member.restarts == len(raised) + (where != "reap")
    assert str(error) in caplog.text
    receiver = heard()
    member.submit(script(["chunk", "back"], ["done"]), receiver)
    await receiver.end()
    assert receiver.chunks == [b"back"]


async def test_a_look_that_raises_does_not_end_the_watch(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor, (first, second) = make({}, {})
    monkeypatch.setattr(first, "ping", lambda: 1 // 0)
    pings = count_pings(second, monkeypatch)
    await supervisor.start()
    await until(lambda: len(pings) >= 3)
    assert "engine 'm0' could not be asked whether it lives" in caplog.text


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
    supervisor, (member,) = make({}, settings=Supervision(stop_timeout_s=2.0, backoff_s=600.0))
    await supervisor.start()
    receiver = heard()
    member.submit(script(["die"]), receiver)
    await receiver.end()
    await until(lambda: member.last_error)  # it is on its way back, and waits
    async with patience():
        await supervisor.stop()
    assert member.phase == "stopped"


def script(*steps: list[Any]) -> Work:
    return Work(kind="chat", body=json.dumps({"user": json.dumps(steps)}).encode(), stream=True)


def sums(steps: int) -> list[float]:
    """Of so many steps of one sequence, 10 ms each."""
    told = {"rows": steps, "steps": steps, "running": steps, "seconds": steps * 0.01, "seconds_seconds": steps * 1e-4}
    told |= {"steps_steps": steps, "steps_running": steps, "running_running": steps}
    told |= {"steps_seconds": steps * 0.01, "running_seconds": steps * 0.01}
    return [float(told.get(name, 0)) for name in StepSums.__struct_fields__]


async def test_what_an_engines_steps_took_is_learnt_shown_and_kept_at_the_end(
    folder: Path, host_command: tuple[str, ...], tmp_path: Path, heard: Any
) -> None:
    costs = Costs(tmp_path)
    member = EngineMember(
        Member(name="m", model="scripted"), SETTINGS, folder, gpu_share=1.0, env=dict(os.environ),
        command=host_command, costs=costs,
    )  # fmt: skip
    supervisor, load = Supervisor([member], SETTINGS), member.pricing.load
    try:
        await supervisor.start()
        for told in range(100, 400, 100):
            script = [["load", {"running": 1, "context_tokens": 70, "sums": sums(told)}], ["done"]]
            receiver = heard()
            member.submit(Work(kind="chat", body=json.dumps({"user": json.dumps(script)}).encode()), receiver)
            await receiver.end()
            heard_of = member._load.changes
            await until(lambda heard_of=heard_of: member._load.changes > heard_of)  # type: ignore[misc]
        cost = member.status().cost
    finally:
        await supervisor.stop()
    assert cost == load.model()
    assert cost is not None
    assert cost.windows == 2
    assert cost.step_s + cost.running_s == pytest.approx(0.01, rel=0.01)
    kept = costs.of(member.pricing.key)
    assert kept is not None
    assert (kept.member, kept.model.windows) == ("m", 2)
