"""A host as a process that ends: our child, or one that another frontend has started.

The write end of its standard input is its life line: the host ends when nobody holds it any more. Who is handed the
host over gets a descriptor of it, and one by which the system tells its end (a pidfd).
"""

import asyncio
import contextlib
import os
import signal
from typing import Protocol


class Life(Protocol):
    """The process of one host."""

    @property
    def pid(self) -> int: ...

    @property
    def exit_code(self) -> int | None:
        """None while it runs, and for ever where only another process is told."""
        ...

    @property
    def ended(self) -> bool: ...

    async def wait(self) -> None:
        """Until it has ended. Any number may wait, and be cancelled."""
        ...

    def close(self) -> None:
        """Of what watches it; it lives on."""
        ...


class Child:
    """A process that we started."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    @property
    def ended(self) -> bool:
        return self._process.returncode is not None

    async def wait(self) -> None:
        await self._process.wait()

    def close(self) -> None: ...


class Adopted:
    """One that another frontend started, told by `watch`, a pidfd, which is closed at the end."""

    def __init__(self, pid: int, watch: int) -> None:
        self.pid = pid
        self.exit_code: int | None = None
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._loop.add_reader(watch, self._told)

    @property
    def ended(self) -> bool:
        return self._over.is_set()

    async def wait(self) -> None:
        await self._over.wait()

    def close(self) -> None:
        if self._watch >= 0:
            self._loop.remove_reader(self._watch)
            watch, self._watch = self._watch, -1
            os.close(watch)

    def _told(self) -> None:
        self._over.set()
        self.close()


def signal_host(pid: int, number: int, *, group: bool = True) -> None:
    """To the host's whole group, which it leads: the group's id is its pid for as long as any member lives."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if group:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


def ending_of(exit_code: int | None) -> str:
    """How it ended, in words."""
    if exit_code is None:
        return "it ended; its exit code was told to the process that had started it"
    if exit_code < 0:
        return f"it was ended by {signal.Signals(-exit_code).name}"
    return f"it ended with exit code {exit_code}"
