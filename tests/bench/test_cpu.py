"""CPU seconds of process trees: children count, engine cores stand apart."""

import os
import subprocess
import sys
import time

import cpu
import pytest

CHILD = """
import time
end = time.process_time() + 0.3
while time.process_time() < end:
    pass
print("burnt", flush=True)
time.sleep(60)
"""
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
child.kill()
"""


@pytest.fixture
def burner():
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    yield process.pid, child
    assert process.stdin is not None
    process.stdin.close()
    process.stdout.close()
    process.wait(timeout=60)


def test_a_tree_counts_what_its_children_burn(burner):
    root, child = burner
    assert {process.pid for process in cpu.tree(root)} == {root, child}
    assert cpu.seconds(child) >= 0.29
    assert cpu.tree_seconds(root).other >= cpu.seconds(child)
    assert cpu.tree_seconds(root).engine == 0


def test_time_since_is_a_difference():
    assert cpu.TreeSeconds(3.0, 5.0).since(cpu.TreeSeconds(1.0, 4.5)) == cpu.TreeSeconds(2.0, 0.5)


@pytest.mark.parametrize(
    ("title", "engine"),
    [
        ("VLLM::EngineCore", True),
        ("VLLM::EngineCore_DP0", True),
        ("VLLM::Worker_TP1", True),
        ("python -m vllm.entrypoints.openai.api_server", False),
        ("python -P -m router.host", False),
    ],
)
def test_engine_processes_are_known_by_their_titles(title, engine):
    assert cpu.Process(1, 0, title, 0.0).is_engine_core is engine


def test_our_own_time_and_memory_are_read():
    before = cpu.seconds(os.getpid())
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    assert 0.05 < cpu.seconds(os.getpid()) - before < 2.0
    assert 5 < cpu.rss_mb(os.getpid()) < 5_000


def test_a_process_that_is_gone_is_said_so():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert cpu.read(process.pid) is None
    with pytest.raises(RuntimeError, match=f"process {process.pid} has ended"):
        cpu.seconds(process.pid)
