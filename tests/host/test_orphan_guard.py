"""However the host ends, nothing of its group is left."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S, wait_until

#: A host with a child that ignores SIGTERM, as a busy engine core may.
PROGRAM = """
import subprocess, sys, time
from router.host.orphan_guard import stand_guard
stand_guard()
ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", ignore], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
{end}
"""


def start(end: str) -> tuple[subprocess.Popen, int]:
    host = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(end=end)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert host.stdout is not None
    return host, int(host.stdout.readline())


def alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    return False


def test_shared_memory_of_the_dead_is_given_back():
    program = """
import time
from multiprocessing.shared_memory import SharedMemory
from router.host.orphan_guard import stand_guard
stand_guard()
shared = SharedMemory(create=True, size=100)
print(shared.name, flush=True)
time.sleep(600)
"""
    host = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    shared = Path("/dev/shm", host.stdout.readline().strip())
    assert shared.exists()
    host.send_signal(signal.SIGKILL)
    host.wait(PATIENCE_S)
    wait_until(lambda: not shared.exists())
    assert host.stdin is not None
    host.stdin.close()
    host.stdout.close()


@pytest.mark.parametrize("how", ["kill -9", "exit"])
def test_children_go_with_the_host(how):
    host, child = start("time.sleep(600)" if how == "kill -9" else "")
    assert os.getpgid(child) == host.pid != os.getpgid(0)
    if how == "kill -9":
        host.send_signal(signal.SIGKILL)
    host.wait(PATIENCE_S)
    wait_until(lambda: not alive(child))
    assert host.stdin is not None
    host.stdin.close()
    host.stdout.close()


def test_an_orphan_is_given_time_and_then_killed(monkeypatch):
    end = "time.sleep(600)"
    program = "import router.host.orphan_guard as w; w._ORPHAN_S = 0.3\n" + PROGRAM.format(end=end)
    host = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    child = int(host.stdout.readline())
    assert host.stdin is not None
    host.stdin.close()  # the supervisor is gone
    host.wait(PATIENCE_S)
    assert host.returncode == -signal.SIGKILL
    host.stdout.close()
    wait_until(lambda: not alive(child))
