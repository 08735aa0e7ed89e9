"""Starts a server, waits until it answers, and ends it with all that it started. Its last words are in the error.

Knows nothing of what the server does.
"""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cpu


class Server(NamedTuple):
    """A running server: where it answers, and the root of its process tree; of Headgate's also its admin port, as
    HOST:PORT, and its config file."""

    url: str
    pid: int
    admin: str = ""
    config: Path = Path()


_preferred = False


def prefer(wanted: bool) -> None:
    """From now on this process, and what it starts, runs ahead of all other work. Raises `PermissionError`.

    Real-time round robin: nice counts within a session only where the kernel schedules by session (autogroup), and a
    process that waits for its turn behind another session's waits for tens of milliseconds.
    """
    global _preferred
    _preferred = wanted
    if wanted:
        _raise_priority(os.getpid())


def prefer_tree(root: int) -> None:
    """If priority is wanted: for all that `root` has started by now."""
    for member in cpu.tree(root) if _preferred else ():
        _raise_priority(member.pid)


def _raise_priority(pid: int) -> None:
    """Of all its threads; those that they start inherit it."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(ProcessLookupError):  # ended meanwhile
            os.sched_setscheduler(int(thread), os.SCHED_RR, os.sched_param(1))


def free_port() -> int:
    """A TCP port that was free a moment ago, for programs that cannot choose their own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(
    command: Sequence[str],
    port: int,
    *,
    ready: str,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    folder: str | None = None,
) -> Iterator[Server]:
    """`command`, once `GET ready` on its `port` answers 200; else a `RuntimeError` with the end of its output."""
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile(prefix="headgate-bench-") as log:
        # Not a session of its own: where the kernel shares processors out by session, the client would wait for one
        # behind the server that it measures.
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd=folder, process_group=0
        )
        try:
            _wait(url + ready, process, timeout_s)
            prefer_tree(process.pid)
            yield Server(url, process.pid)
        except _NotUpError as error:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 4000))
            said = log.read().decode("utf-8", "replace")
            raise RuntimeError(f"{Path(command[0]).name}: {error}; the end of its output:\n{said}") from None
        finally:
            _end(process)


class _NotUpError(Exception):
    pass


def _wait(url: str, process: "subprocess.Popen[bytes]", timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if process.poll() is not None:
            raise _NotUpError(f"ended with {process.returncode} before it answered at {url}")
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.05)
    raise _NotUpError(f"nothing answered at {url} within {timeout_s:g} s")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask the server to end, then end its whole group: nothing may outlive a bench."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
