"""A host's question whether it may load, over the pipes of a real process, without vLLM."""

import os
import subprocess
import sys
from typing import IO

#: The event loop of a host makes its standard input non-blocking.
HOST = """
import os, sys
from router.host.turn import SupervisorGone, wait_for_turn
from router.ipc.spec import ArgumentRefusal, HostSpec
os.set_blocking(0, False)
refusal = ArgumentRefusal(key=sys.argv[2], why="no") if sys.argv[2] else None
try:
    wait_for_turn(HostSpec(name="a", model="m", socket="s", asks_fd=int(sys.argv[1])), refusal)
except SupervisorGone:
    sys.exit(3)
print("loads", flush=True)
"""


class Host:
    def __init__(self, refused: str = "", *, asks: bool = True) -> None:
        read, write = os.pipe()
        fd = str(write) if asks else "-1"
        self._process = subprocess.Popen(
            [sys.executable, "-c", HOST, fd, refused],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(write,),
        )  # fmt: skip
        os.close(write)
        self.asked: IO[bytes] = os.fdopen(read, "rb")

    @property
    def stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def end(self) -> tuple[int, bytes]:
        assert self._process.stdout is not None
        said = self._process.stdout.read()
        self.stdin.close()
        self._process.stdout.close()
        self.asked.close()
        return self._process.wait(60), said


def test_a_host_says_that_its_arguments_are_read_and_loads_when_it_is_told_to() -> None:
    host = Host()
    assert host.asked.readline() == b"null\n"
    host.stdin.write(b"\n")
    host.stdin.flush()
    assert host.end() == (0, b"loads\n")


def test_a_host_whose_supervisor_ends_while_it_waits_ends_too() -> None:
    host = Host()
    assert host.asked.readline() == b"null\n"
    host.stdin.close()
    assert host.end() == (3, b"")


def test_a_refused_argument_is_told_and_not_waited_for() -> None:
    host = Host("dtype")
    assert host.asked.readline() == b'{"index":0,"key":"dtype","why":"no"}\n'
    assert host.end() == (0, b"loads\n")  # the caller raises why


def test_a_host_that_is_not_to_ask_does_not_wait() -> None:
    assert Host(asks=False).end() == (0, b"loads\n")
