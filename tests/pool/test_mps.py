"""The MPS control daemon of one router, over a stub of NVIDIA's program: found, started, watched, started again, ended,
handed over; what is refused, and how."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from router.config import Config, Gpu, Member
from router.errors import ConfigError, EngineStartError
from router.ipc.handover import SOCKET_NAME, Daemon
from router.pool import mps_control
from router.pool.device import Device
from router.pool.devices import DeviceList
from router.pool.folder import remove_abandoned
from router.pool.mps import Mps, check_mps, wanted
from router.pool.mps_control import LOGS, PIPES, running
from tests.conftest import until, wait_until
from tests.pool.gpus import gpus
from tests.pool.mps_stub import MpsStub

ENGINE = Member(name="m", model="x")
ON = Config(pool=(ENGINE,), gpu=Gpu(mps="on"))


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[MpsStub]:
    made = MpsStub(tmp_path / "bin")
    yield made
    made.close()


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Path]:
    """A runtime folder. No daemon is left in it."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    yield folder
    if pid := running(folder / "mps" / "pipe"):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def made(stub: MpsStub, runtime: Path, tmp_path: Path) -> Callable[..., Mps]:
    def make(inherited: Daemon | None = None, **env: str) -> Mps:
        return Mps(str(stub.program), runtime, {**stub.env, **env}, inherited, tmp_path / "nobody's")

    return make


async def test_our_daemon_is_started_in_private_folders_sees_all_devices_and_is_ended(
    stub: MpsStub, runtime: Path, made: Callable[..., Mps]
) -> None:
    mps = made(CUDA_VISIBLE_DEVICES="1", CUDA_DEVICE_ORDER="FASTEST_FIRST")
    await mps.start()
    pipes, pid = runtime / "mps" / "pipe", running(runtime / "mps" / "pipe")
    assert pid
    (start,) = stub.calls
    assert start["modes"] == ["0o700", "0o700"]
    assert (start["CUDA_VISIBLE_DEVICES"], start["CUDA_DEVICE_ORDER"]) == (None, "PCI_BUS_ID")
    assert await mps.variables(ENGINE) == {PIPES: str(pipes), LOGS: str(runtime / "mps" / "log")}
    await mps.stop()
    await mps.stop()
    assert stub.what == ["start", "quit"]
    assert running(pipes) == 0
    assert list(runtime.iterdir()) == []


async def test_a_member_s_share_of_threads_is_told_to_its_engine_and_its_own_env_stands_above(
    made: Callable[..., Mps],
) -> None:
    mps = made()
    await mps.start()
    told = await mps.variables(Member(name="m", model="x", mps_threads=40, env={LOGS: "/elsewhere"}))
    assert told["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "40"
    assert told[LOGS] == "/elsewhere"
    await mps.stop()


async def test_a_daemon_of_somebody_else_is_used_and_left_alone(
    stub: MpsStub, runtime: Path, made: Callable[..., Mps], tmp_path: Path
) -> None:
    for pipes, env in ((tmp_path / "named", {PIPES: str(tmp_path / "named")}), (tmp_path / "nobody's", {})):
        pid = stub.start(pipes)
        mps = made(**env)
        await mps.start()
        assert await mps.variables(ENGINE) == {PIPES: str(pipes)}
        assert mps.handed == Daemon(pipes=str(pipes), logs="", started=False)
        mps.own(True)  # as after a takeover: it is still not ours
        await mps.stop()
        assert running(pipes) == pid
    assert stub.what == ["start", "start"]
    assert list(runtime.iterdir()) == []


async def test_where_a_daemon_of_somebody_else_was_lost_it_is_told_once_and_no_engine_starts_without(
    stub: MpsStub, made: Callable[..., Mps], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pid = stub.start(tmp_path / "named")
    mps = made(**{PIPES: str(tmp_path / "named")})
    await mps.start()
    os.kill(pid, signal.SIGKILL)
    told = (
        f"MPS: the control daemon (process {pid}) has ended; engines that run go on; start it again: else no engine can"
    )
    await until(lambda: told in caplog.text)
    with pytest.raises(EngineStartError, match="which is not ours, does not answer any more: start it again"):
        await mps.variables(ENGINE)
    assert caplog.text.count("has ended") == 1
    stub.start(tmp_path / "named")
    assert PIPES in await mps.variables(ENGINE)
    await mps.stop()
    assert stub.what == ["start", "start"]


async def test_our_daemon_that_was_lost_is_told_once_and_started_again_before_the_next_engine(
    stub: MpsStub, runtime: Path, made: Callable[..., Mps], caplog: pytest.LogCaptureFixture
) -> None:
    mps = made()
    await mps.start()
    pid = running(runtime / "mps" / "pipe")
    os.kill(pid, signal.SIGKILL)
    told = f"MPS: the control daemon (process {pid}) has ended; engines that run go on; it is started again before the"
    await until(lambda: told in caplog.text)
    assert stub.what == ["start"]
    await mps.variables(ENGINE)
    assert caplog.text.count("has ended") == 1
    assert running(runtime / "mps" / "pipe") not in (0, pid)
    stub.how("fails")
    os.kill(running(runtime / "mps" / "pipe"), signal.SIGKILL)
    wait_until(lambda: not running(runtime / "mps" / "pipe"))
    with pytest.raises(EngineStartError, match="-d` ended with exit code 1: no permission for it"):
        await mps.variables(ENGINE)
    await mps.stop()


async def test_a_daemon_of_ours_that_runs_and_does_not_answer_fails_the_engine_s_start_and_is_not_ended(
    stub: MpsStub, runtime: Path, made: Callable[..., Mps], monkeypatch: pytest.MonkeyPatch
) -> None:
    mps = made()
    await mps.start()
    pid = running(runtime / "mps" / "pipe")
    stub.how("silent")
    with monkeypatch.context() as patch:
        patch.setattr(mps_control, "_ASK_S", 1.0)
        with pytest.raises(EngineStartError, match=rf"the MPS control daemon \(process {pid}\) does not answer"):
            await mps.variables(ENGINE)
    assert running(runtime / "mps" / "pipe") == pid
    stub.how("")
    assert PIPES in await mps.variables(ENGINE)
    await mps.stop()
    assert stub.what == ["start", "quit"]


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("fails", r"-d` ended with exit code 1: no permission for it - at `\$.gpu.mps`"),
        ("hangs", r"-d` did not return within 3 s - at `\$.gpu.mps`"),
        ("silent", r"the MPS control daemon did not answer within 3 s; its log: it is a stub - at `\$.gpu.mps`"),
    ],
)
async def test_a_daemon_that_does_not_come_up_is_refused_and_nothing_is_left(
    how: str, why: str, stub: MpsStub, runtime: Path, made: Callable[..., Mps], monkeypatch: pytest.MonkeyPatch
) -> None:
    for bound in ("_START_S", "_QUIT_S"):
        monkeypatch.setattr(mps_control, bound, 3.0)
    monkeypatch.setattr(mps_control, "_ASK_S", 1.0)
    stub.how(how)
    mps = made()
    with pytest.raises(ConfigError, match=why):
        await mps.start()
    await mps.stop()
    assert running(runtime / "mps" / "pipe") == 0
    assert list(runtime.iterdir()) == []


async def test_a_daemon_that_does_not_end_is_killed(
    stub: MpsStub, runtime: Path, made: Callable[..., Mps], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(mps_control, "_QUIT_S", 1.0)
    mps = made()
    await mps.start()
    stub.how("stays")
    pid = running(runtime / "mps" / "pipe")
    await mps.stop()
    assert "did not end in time and was killed" in caplog.text
    wait_until(lambda: not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes())
    assert list(runtime.iterdir()) == []


async def test_a_named_place_where_nobody_answers_is_refused(made: Callable[..., Mps], stub: MpsStub) -> None:
    with pytest.raises(ConfigError, match=r"CUDA_MPS_PIPE_DIRECTORY=/none: no MPS control daemon answers there"):
        await made(**{PIPES: "/none"}).start()
    assert stub.calls == []


async def test_a_daemon_in_the_default_place_that_does_not_answer_is_refused(
    made: Callable[..., Mps], stub: MpsStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mps_control, "_ASK_S", 1.0)
    pid = stub.start(tmp_path / "nobody's")
    stub.how("silent")
    with pytest.raises(ConfigError, match=rf"nobody's \(process {pid}\) does not answer - at `\$.gpu.mps`"):
        await made().start()


async def test_a_daemon_that_was_handed_over_is_ours_once_we_own_it_and_not_the_giver_s_any_more(
    stub: MpsStub, runtime: Path, made: Callable[..., Mps]
) -> None:
    old = made()
    await old.start()
    new = made(old.handed)
    await new.start()
    await made(old.handed).stop()  # a takeover that failed
    old.own(False)
    new.own(True)
    await old.stop()
    assert stub.what == ["start"]
    assert running(runtime / "mps" / "pipe")
    await new.stop()
    assert stub.what == ["start", "quit"]
    assert running(runtime / "mps" / "pipe") == 0


async def test_what_a_killed_router_left_in_its_configured_folder_is_gone_on_with(
    stub: MpsStub, runtime: Path, made: Callable[..., Mps]
) -> None:
    await made().start()
    mps = made()
    await mps.start()
    await mps.stop()
    assert stub.what == ["start", "quit"]


async def test_the_daemon_of_another_server_that_has_this_runtime_folder_is_not_touched(
    stub: MpsStub, runtime: Path, made: Callable[..., Mps]
) -> None:
    await made().start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(runtime / SOCKET_NAME))
        listener.listen()
        mps = made()
        with pytest.raises(ConfigError, match=rf"another server has the runtime folder {runtime}, and its MPS control"):
            await mps.start()
    await mps.stop()
    assert stub.what == ["start"]
    assert running(runtime / "mps" / "pipe")


async def test_the_daemon_of_a_killed_router_is_ended_with_its_folder(
    stub: MpsStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", stub.env["PATH"])
    left = tmp_path / "headgate-abcd1234"
    left.mkdir(mode=0o700)
    (left / "owner").touch()
    await Mps(str(stub.program), left, stub.env, None, tmp_path / "nobody's").start()
    pid = running(left / "mps" / "pipe")
    assert pid
    remove_abandoned(tmp_path)
    assert not left.exists()
    assert stub.what == ["start", "quit"]


MIG = DeviceList(kind="listed", devices=(Device(uuid="MIG-1/2", name="H100", memory_bytes=1, variable="MIG-1/2"),))


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (
            DeviceList(kind="cpu", why="there is no GPU"),
            r"MPS needs an NVIDIA device: there is no GPU - at `\$.gpu.mps`",
        ),
        (DeviceList(kind="unlisted", why="they are AMD's"), "MPS needs an NVIDIA device: they are AMD's"),
        (DeviceList(kind="listed"), "MPS needs an NVIDIA device: there is none that we may use"),
        (MIG, "MPS with parts of a GPU needs a daemon for each, which is not done here: MIG-1/2"),
        (gpus(80), "MPS needs the program nvidia-cuda-mps-control of NVIDIA's driver, which is not in PATH"),
    ],
)
def test_where_there_can_be_no_mps_it_is_refused(found: DeviceList, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        check_mps(ON, found, {"PATH": "/none"})


def test_off_or_without_an_engine_nothing_is_asked_of_the_machine() -> None:
    far = Member(name="far", kind="openai", url="http://x")
    for config in (Config(pool=(ENGINE,)), Config(pool=(far,), gpu=Gpu(mps=True))):
        assert not wanted(config)
        assert check_mps(config, DeviceList(kind="cpu"), {}) == ""
