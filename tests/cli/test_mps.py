"""`gpu: {mps: on}` end to end: a stub of NVIDIA's control program, scripted hosts, a machine that says it has GPUs."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from router.cli.main import main
from router.ipc.handover import Offer, Refused
from router.pool import environment
from router.pool.mps_control import PIPES, running
from tests.cli.test_takeover import MESSAGES, alive, hosts_of, status_of
from tests.conftest import wait_until
from tests.pool.gpus import gpus
from tests.pool.mps_stub import MpsStub

ON_GPUS = "tests.cli.on_gpus"
POOL = [
    {"name": "small", "model": "stub", "like": "llama-3.1-8b-instruct", "devices": [0], "mps_threads": 40},
    {"name": "large", "model": "stub", "strength": 0.6, "devices": [0]},
]


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[MpsStub]:
    made = MpsStub(tmp_path / "bin")
    yield made
    made.close()


@pytest.fixture
def on(config: Callable[..., Path]) -> Callable[..., Path]:
    return lambda **branches: config(**{"pool": POOL, "gpu": {"mps": "on"}, **branches})


def pipes_of(server: Any) -> Path:
    (runtime,) = Path(server.folder.name).iterdir()
    return runtime / "mps" / "pipe"


def mps_of(server: Any, model: str) -> dict[str, str]:
    """What an engine's host has in its environment."""
    with server.post({"model": model, "messages": MESSAGES}) as response:
        found: dict[str, str] = json.load(response)["mps"]
        return found


def started(pid: int) -> int:
    """When a process was, in ticks."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def ended_well(server: Any, number: int = signal.SIGTERM) -> None:
    server.signal(number)
    code, error = server.end()
    assert (code, "Traceback" in error) == (0, False), error


def test_the_daemon_runs_before_the_engines_which_find_it_and_is_ended_after_them(
    serve: Any, on: Callable[..., Path], stub: MpsStub
) -> None:
    server = serve(on(), env={**stub.env, "CUDA_VISIBLE_DEVICES": "0"}, program=ON_GPUS)
    pipes = pipes_of(server)
    pid = running(pipes)
    assert all(started(pid) <= started(host) for host in hosts_of(server).values())
    place = {PIPES: str(pipes), "CUDA_MPS_LOG_DIRECTORY": str(pipes.with_name("log"))}
    assert mps_of(server, "small") == {**place, "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "40"}
    assert mps_of(server, "large") == place
    ended_well(server)
    assert [(call["what"], call["engines"]) for call in stub.calls] == [("start", 0), ("quit", 0)]
    assert not alive(pid)
    assert os.listdir(server.folder.name) == []


def test_by_the_flag_it_is_switched_on_and_off(serve: Any, config: Callable[..., Path], stub: MpsStub) -> None:
    file = config(pool=[{**member, "mps_threads": None} for member in POOL])
    server = serve(file, "--mps", "on", env=stub.env, program=ON_GPUS)
    assert PIPES in mps_of(server, "large")
    ended_well(server, signal.SIGINT)
    assert stub.what == ["start", "quit"]
    file = config(pool=[{**member, "mps_threads": None} for member in POOL], gpu={"mps": True})
    ended_well(serve(file, "--mps", "off", env=stub.env, program=ON_GPUS))
    assert stub.what == ["start", "quit"]


def test_where_no_engine_starts_the_daemon_is_ended(serve: Any, on: Callable[..., Path], stub: MpsStub) -> None:
    pool = [{**member, "engine_args": {"fail": "ValueError: no such weights"}} for member in POOL]
    server = serve(on(pool=pool), env=stub.env, program=ON_GPUS, ready=False)
    code, error = server.end()
    assert (code, "no such weights" in error) == (1, True), error
    assert stub.what == ["start", "quit"]
    server.wait_childless()


def test_a_signal_while_engines_load_ends_the_daemon(serve: Any, on: Callable[..., Path], stub: MpsStub) -> None:
    server = serve(
        on(pool=[{**m, "engine_args": {"slow_s": 600}} for m in POOL]), env=stub.env, program=ON_GPUS, ready=False
    )
    while server.next_event()["event"] != "starting":
        pass
    wait_until(lambda: stub.what == ["start"])
    ended_well(server)
    assert stub.what == ["start", "quit"]
    assert os.listdir(server.folder.name) == []


@pytest.mark.parametrize(
    ("how", "why"),
    [("fails", "-d` ended with exit code 1: no permission for it - at `$.gpu.mps`"), (None, "which is not in PATH")],
)
def test_without_a_daemon_no_engine_starts(
    how: str | None, why: str, serve: Any, on: Callable[..., Path], stub: MpsStub
) -> None:
    if how is None:
        stub.program.unlink()
    else:
        stub.how(how)
    server = serve(on(), env=stub.env, program=ON_GPUS, ready=False)
    code, error = server.end()
    assert (code, why in error, "Traceback" in error) == (2, True, False), error
    assert not any(event["event"] == "starting" for event in server.events)
    assert os.listdir(server.folder.name) == []


def test_without_an_nvidia_device_serve_and_validate_refuse(
    serve: Any, on: Callable[..., Path], stub: MpsStub, capsys: pytest.CaptureFixture[str]
) -> None:
    file = on(pool=[{**member, "devices": None} for member in POOL])
    server = serve(file, env=stub.env, ready=False)
    code, error = server.end()
    assert (code, "MPS needs an NVIDIA device: " in error) == (2, True), error
    assert main(["validate", str(file)]) == 2
    assert f"{file}: MPS needs an NVIDIA device: " in capsys.readouterr().err
    assert stub.calls == []


def test_validate_and_plan_say_that_engines_share_devices_by_mps(
    on: Callable[..., Path], stub: MpsStub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment, "device_list", lambda *_: gpus(80, 80))
    monkeypatch.setenv("PATH", stub.env["PATH"])
    assert main(["validate", str(on())]) == 0
    assert "  gpu      engines share devices by NVIDIA's MPS" in capsys.readouterr().out
    main(["plan", str(on()), "--device-memory", "80GiB"])
    assert "MPS: its server's own memory on each device is not counted" in capsys.readouterr().out
    main(["plan", str(on(gpu={"mps": False}, pool=[POOL[1]])), "--device-memory", "80GiB", "--json"])
    assert json.loads(capsys.readouterr().out)["mps"] is False
    assert stub.calls == []


def test_a_daemon_that_is_lost_is_started_again_before_an_engine_is(
    serve: Any, on: Callable[..., Path], stub: MpsStub
) -> None:
    server = serve(on(), env=stub.env, program=ON_GPUS)
    pipes, hosts = pipes_of(server), hosts_of(server)
    pid = running(pipes)
    os.kill(pid, signal.SIGKILL)
    server.wait_said(f"MPS: the control daemon (process {pid}) has ended; engines that run go on")
    assert mps_of(server, "large")
    assert stub.what == ["start"]
    os.kill(hosts["small"], signal.SIGKILL)
    wait_until(lambda: hosts_of(server)["small"] not in (0, hosts["small"]))
    wait_until(lambda: status_of(server, "/ready") == "ready")
    assert stub.what[:1] + stub.what[-1:] == ["start", "start"]
    assert running(pipes) not in (0, pid)
    assert hosts_of(server)["large"] == hosts["large"]
    ended_well(server)
    assert stub.what[-1] == "quit"
    assert server.errors.count("has ended; engines that run go on") == 1


def test_a_member_that_is_added_later_finds_the_daemon_too(serve: Any, on: Callable[..., Path], stub: MpsStub) -> None:
    server = serve(on(), env=stub.env, program=ON_GPUS)
    file = on(pool=[*POOL, {"name": "third", "model": "stub", "like": "llama-3.1-8b-instruct", "mps_threads": 7}])
    assert file.exists()
    server.signal(signal.SIGHUP)
    wait_until(lambda: "third" in hosts_of(server))
    assert mps_of(server, "third")["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "7"
    ended_well(server)
    assert stub.what == ["start", "quit"]


def test_after_takeovers_the_daemon_is_the_last_process_s_to_end(
    serve: Any, taking: Any, on: Callable[..., Path], stub: MpsStub
) -> None:
    file = on()
    first = serve(file, env=stub.env, program=ON_GPUS)
    pipes = pipes_of(first)
    pid = running(pipes)
    second = taking(first, file, env=stub.env, program=ON_GPUS)
    assert first.end()[0] == 0
    third = taking(second, file, env=stub.env, program=ON_GPUS)
    assert second.end()[0] == 0
    assert stub.what == ["start"]
    assert running(pipes) == pid
    hosts = hosts_of(third)
    os.kill(hosts["small"], signal.SIGKILL)
    wait_until(lambda: hosts_of(third)["small"] not in (0, hosts["small"]))
    wait_until(lambda: status_of(third, "/ready") == "ready")
    assert mps_of(third, "small")[PIPES] == str(pipes)
    ended_well(third)
    assert [(call["what"], call["engines"]) for call in stub.calls] == [("start", 0), ("quit", 0)]
    assert os.listdir(first.folder.name) == []


def test_a_takeover_that_would_switch_it_is_refused_and_the_daemon_stays(
    serve: Any, taking: Any, on: Callable[..., Path], stub: MpsStub
) -> None:
    pool = [{**member, "mps_threads": None} for member in POOL]
    file = on(pool=pool)
    old = serve(file, env=stub.env, program=ON_GPUS)
    new = taking(old, file, "--mps", "off", env=stub.env, program=ON_GPUS, ready=False)
    code, error = new.end()
    assert (code, "`gpu.mps` is on in the running server, off in this config" in error) == (2, True), error
    assert running(pipes_of(old))
    assert mps_of(old, "large")
    ended_well(old)
    assert stub.what == ["start", "quit"]


def test_an_older_release_that_would_leave_the_daemon_behind_may_not_take_over(
    serve: Any, usurp: Any, on: Callable[..., Path], stub: MpsStub
) -> None:
    server = serve(on(), env=stub.env, program=ON_GPUS)
    answer = usurp(server).ask(release="0.1")
    assert answer == Refused("release 0.1 would never end the MPS control daemon; end this server and start that one")
    offer = usurp(server).ask(mps=True)
    assert isinstance(offer, Offer)
    assert offer.mps is not None
    assert (offer.mps.pipes, offer.mps.started) == (str(pipes_of(server)), True)


def test_a_daemon_of_somebody_else_outlives_the_server(
    serve: Any, on: Callable[..., Path], stub: MpsStub, tmp_path: Path
) -> None:
    pipes = tmp_path / "theirs"
    pid = stub.start(pipes)
    server = serve(on(), env={**stub.env, PIPES: str(pipes)}, program=ON_GPUS)
    assert mps_of(server, "large") == {PIPES: str(pipes)}
    ended_well(server)
    assert stub.what == ["start"]
    assert running(pipes) == pid


def test_the_daemon_of_a_server_that_was_killed_is_ended_by_the_next(
    serve: Any, on: Callable[..., Path], stub: MpsStub
) -> None:
    first = serve(on(), env=stub.env, program=ON_GPUS)
    pid = running(pipes_of(first))
    first.signal(signal.SIGKILL)
    first.end()
    assert alive(pid)
    second = serve(on(), env={**stub.env, "TMPDIR": first.folder.name}, program=ON_GPUS)
    assert stub.what == ["start", "quit", "start"]
    assert not alive(pid)
    ended_well(second)
    assert os.listdir(first.folder.name) == []
