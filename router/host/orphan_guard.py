"""Kills the whole process group of a host once the host has ended, however it ended.

A forked guard process waits for the host's end and then kills what is left of the group, so that `kill -9` of the host
leaves no engine core that holds GPU memory. Python's resource trackers are killed last: they free shared memory.
"""

import contextlib
import os
import select
import signal
import time

#: After the supervisor's end a host that serves stops by itself; one that still loads its engine is killed.
_ORPHAN_S = 15.0
_LOOK_S = 0.5
#: Resource trackers have this long to clean up behind the others.
_GRACE_S = 3.0


def stand_guard() -> None:
    """Make this process the leader of its own group and fork the guard. Call before any thread or socket exists."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    host = os.getpid()
    if os.fork() == 0:
        try:
            _guard(host)
        finally:
            os._exit(0)


def _guard(host: int) -> None:
    # The group's SIGTERM is meant for the host; the guard goes last.
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(signum, signal.SIG_IGN)
    supervisor = os.dup(0)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    _await_end(host, supervisor)
    give_up = time.monotonic() + _GRACE_S
    while time.monotonic() < give_up and (left := _others(host)):
        for pid in left:
            if not _tracks_resources(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(host, signal.SIGKILL)


def _others(group: int) -> list[int]:
    """Who of the group is alive besides the guard itself."""
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{entry.name}/stat", "rb") as stat:
            state, _, process_group = stat.read().rpartition(b")")[2].split()[:3]
            if int(process_group) == group and state != b"Z":
                found.append(int(entry.name))
    return found


def _tracks_resources(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as command:
            return b"multiprocessing.resource_tracker" in command.read()
    except OSError:
        return False


def _await_end(host: int, supervisor: int) -> None:
    """Return when the host is gone, or outlived its supervisor for too long."""
    poll = select.poll()
    poll.register(supervisor, 0)  # hang-up only
    with contextlib.suppress(AttributeError, OSError):  # without pidfd (old kernels) the parent is looked at
        poll.register(os.pidfd_open(host), select.POLLIN)
    give_up = None
    while os.getppid() == host and (give_up is None or time.monotonic() < give_up):
        for fd, event in poll.poll(_LOOK_S * 1000):
            if fd == supervisor and event:
                poll.unregister(supervisor)
                give_up = time.monotonic() + _ORPHAN_S
