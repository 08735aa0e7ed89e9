"""One engine host as an operating-system process: started, its log kept, its whole group killed.

    supervisor --- stdin: one HostSpec line, a byte when it may load; end of file = the supervisor is gone ---> host
    supervisor <-- a pipe: its arguments are read, or refused (`asking`) --- host
    supervisor <-- stdout and stderr go straight to a log file; its tail is read when the host dies --- host

Knows nothing of frames.
"""

import asyncio
import contextlib
import os
import re
import signal
import sys
from pathlib import Path
from typing import Final

import msgspec

from router.ipc.spec import ArgumentRefusal, HostSpec
from router.pool.asking import Asking
from router.pool.logfile import LogFile

#: -P keeps the working folder off the host's path: a folder named like a package must not shadow it.
HOST_COMMAND: Final = (sys.executable, "-P", "-m", "router.host")

_EXCEPTION = re.compile(r"^(?:[a-zA-Z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Failed|Warning)\b:? ?.*")
_PREFIX = re.compile(r"^(?:\x1b\[[0-9;]*m)*\(\w+ pid=\d+\)(?:\x1b\[[0-9;]*m)* ?")
_LOGGED = re.compile(r"^(?:ERROR|CRITICAL) [\d-]+ [\d:.]+ (?:\[[^\]]*\] )?")
#: The guard of a host (`router/host/orphan_guard.py`) takes at most 3 s.
_GUARD_S = 4.0
#: The host's own last word, when it could still speak.
_HOST_ERROR = re.compile(r"^headgate-host: error: (.+)")
#: True, but says nothing: the cause stands above it.
_CONSEQUENCES = ("Engine core initialization failed", "Engine core proc", "leaked semaphore", "leaked shared_memory")


class HostProcess:
    """A running host. `stop` may be called at any time, and again."""

    def __init__(self, process: asyncio.subprocess.Process, log: LogFile, asking: Asking) -> None:
        self._process = process
        self._log = log
        self._asking = asking

    @classmethod
    async def spawn(
        cls, spec: HostSpec, log: Path, env: dict[str, str], command: tuple[str, ...] = HOST_COMMAND
    ) -> "HostProcess":
        """Start a host in a process group of its own. Raises `OSError` when there is nothing to run, or no log."""
        out, asking = LogFile(log), Asking()
        spec = msgspec.structs.replace(spec, asks_fd=asking.fd)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=out.fd,
                stderr=out.fd,
                env=env,
                pass_fds=(asking.fd,),
                # A group, so that it can be killed whole. Not a session of its own: where the kernel shares processors
                # out by session (autogroup), the frontend, and each first token, would wait behind its own engines.
                preexec_fn=os.setpgrp,
            )
        except BaseException:
            out.close()
            asking.close()
            raise
        asking.handed_over()
        host = cls(process, out, asking)
        assert process.stdin is not None
        try:
            process.stdin.write(msgspec.json.encode(spec) + b"\n")
            await process.stdin.drain()
        except ConnectionError:
            pass  # died already: `wait` tells
        except BaseException:
            host.kill()
            out.close()
            asking.close()
            raise
        return host

    async def asked(self) -> ArgumentRefusal | None:
        """Wait until its arguments are read; it waits for `go` then, unless one is refused."""
        return await self._asking.answer()

    def go(self) -> None:
        """Its engine may load."""
        if self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(b"\n")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    async def wait(self) -> int:
        """Until the host has ended; what it left behind in its group is killed. Returns its exit code."""
        code = await self._process.wait()
        await self._guarded_end()
        self._signal(signal.SIGKILL)
        self._log.close()
        self._asking.close()
        return code

    async def _guarded_end(self) -> None:
        """A real host's guard kills its group itself, all but what frees the shared memory of the dead: let it."""
        with contextlib.suppress(ProcessLookupError, PermissionError, TimeoutError):
            async with asyncio.timeout(_GUARD_S):
                while True:
                    os.killpg(self.pid, 0)
                    await asyncio.sleep(0.02)

    async def stop(self, timeout_s: float) -> None:
        """Ask it to end, then make it."""
        if self._process.returncode is None:
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._signal(signal.SIGTERM, group=False)
            try:
                async with asyncio.timeout(timeout_s):
                    await self._process.wait()
            except TimeoutError:
                self.kill()
        await self.wait()

    def kill(self) -> None:
        """The whole group, now."""
        self._signal(signal.SIGKILL)

    def news(self) -> str:
        """What it wrote to its log since the last call."""
        return self._log.news()

    def last_words(self) -> str:
        """Why it did not come up, as its log tells."""
        return last_words(self._log.tail()) or f"{self._ending()} and wrote nothing"

    def epitaph(self) -> str:
        """How a host that had served ended."""
        why = cause(self._log.tail())
        return f"{self._ending()}: {why}" if why else self._ending()

    def _ending(self) -> str:
        code = self.exit_code
        if code is not None and code < 0:
            return f"it was ended by {signal.Signals(-code).name}"
        return f"it ended with exit code {code}"

    def _signal(self, number: int, *, group: bool = True) -> None:
        # The host leads its group, so the group's id is its pid for as long as any member lives.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if group:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)


def last_words(log: str) -> str:
    """The line of a dying engine's log that says why, or its last lines. Empty when the log is."""
    return cause(log) or " | ".join(_lines(log)[-3:])


def cause(log: str) -> str:
    """What the host named as the cause, else the last exception in `log` that is not merely a consequence of another;
    empty if there is none."""
    lines = _lines(log)
    for line in reversed(lines):
        if named := _HOST_ERROR.match(line):
            return named[1]
    for line in reversed(lines):
        if _EXCEPTION.match(line) and not any(consequence in line for consequence in _CONSEQUENCES):
            return line
    return ""


def _lines(log: str) -> list[str]:
    lines = [_LOGGED.sub("", _PREFIX.sub("", line)).rstrip() for line in log.splitlines()]
    return [line for line in lines if line.strip()]
