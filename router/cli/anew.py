"""The command line of this process run again, to take over from it: what a SIGUSR2 asks for."""

import asyncio
import logging
import sys
from collections.abc import Sequence
from typing import Final

log = logging.getLogger("headgate")

FLAG: Final = "--takeover"


def command_anew(command: Sequence[str]) -> tuple[str, ...]:
    """`command`, a line that serves, as one that takes over."""
    if FLAG in command:
        return tuple(command)
    at = list(command).index("serve") + 1
    return (*command[:at], FLAG, *command[at:])


class Anew:
    """At most one such process at a time. Called from the event loop's thread."""

    def __init__(self) -> None:
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._running is not None and not self._running.done():
            log.warning("SIGUSR2: a new process is about to take over already")
            return
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            command = command_anew(sys.orig_argv)
            process = await asyncio.create_subprocess_exec(*command)
        except (OSError, ValueError) as error:
            log.error("SIGUSR2: no new process could be started: %s", error)
            return
        log.info("SIGUSR2: process %d is to take over", process.pid)
        if code := await process.wait():
            log.error("SIGUSR2: process %d ended with exit code %d; this server goes on", process.pid, code)
