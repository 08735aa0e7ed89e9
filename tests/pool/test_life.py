"""A host that another process started: its end, its log and its life line, by descriptors alone."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.pool.logfile import LogFile
from router.pool.process import HostProcess
from tests.conftest import patience, until

Started = tuple["subprocess.Popen[bytes]", HostProcess]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def cat(log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Ends with its standard input, as a host does; a line before its own was there already."""
    log.write_text("ValueError: of an earlier host\n")
    with log.open("ab") as out:
        process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=out, process_group=0)
    yield process
    process.kill()
    process.communicate()


def adopted(process: "subprocess.Popen[bytes]", log: Path) -> HostProcess:
    assert process.stdin is not None
    fd = os.open(log, os.O_RDWR | os.O_APPEND)
    file = LogFile.adopt(fd, len("ValueError: of an earlier host\n"))
    life_line = os.dup(process.stdin.fileno())
    return HostProcess.adopt(process.pid, os.pidfd_open(process.pid), life_line, file)


async def test_its_end_is_heard_and_its_log_says_why(cat: "subprocess.Popen[bytes]", log: Path) -> None:
    host = adopted(cat, log)
    host.own(True)
    ending = asyncio.create_task(host.wait())
    with log.open("a") as file:
        file.write("ValueError: no memory\n")
    os.kill(cat.pid, signal.SIGKILL)
    await until(lambda: cat.poll() is not None)
    async with patience():
        assert await ending is None
    ended = "it ended; its exit code was told to the process that had started it"
    assert host.epitaph() == f"{ended}: ValueError: no memory"
    await host.stop(1.0)


async def test_its_log_without_a_cause_is_not_that_of_an_earlier_host(
    cat: "subprocess.Popen[bytes]", log: Path
) -> None:
    host = adopted(cat, log)
    assert host.last_words() == "it ended; its exit code was told to the process that had started it and wrote nothing"
    host.close()


async def test_one_that_is_not_ours_is_neither_stopped_nor_killed(cat: "subprocess.Popen[bytes]", log: Path) -> None:
    host = adopted(cat, log)
    host.kill()
    await host.stop(1.0)
    assert cat.poll() is None


async def test_its_life_line_keeps_it_until_the_last_holder_lets_go(cat: "subprocess.Popen[bytes]", log: Path) -> None:
    host = adopted(cat, log)
    host.own(True)
    assert cat.stdin is not None
    cat.stdin.close()
    await asyncio.sleep(0.05)
    assert cat.poll() is None
    stopping = asyncio.create_task(host.stop(60.0))
    await until(lambda: cat.poll() is not None)
    async with patience():
        await stopping


async def test_a_child_that_is_handed_over_lives_on_when_we_stop(tmp_path: Path) -> None:
    from router.ipc.spec import HostSpec

    spec = HostSpec(name="m", model="m", socket=str(tmp_path / "s"))
    child = await HostProcess.spawn(spec, tmp_path / "log", dict(os.environ), ("cat",))
    (watch, life_line, log), start = child.handed()
    heir = HostProcess.adopt(child.pid, watch, os.dup(life_line), LogFile.adopt(os.dup(log), start))
    child.own(False)
    await child.stop(1.0)
    assert child.exit_code is None
    heir.own(True)
    await until(lambda: '"name":"m"' in (tmp_path / "log").read_text())
    async with patience():
        await heir.stop(60.0)
    await until(lambda: child.exit_code is not None)
