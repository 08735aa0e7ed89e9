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
from router.pool.life import Adopted, Child, Life, ending_of, signal_host
from router.pool.logfile import LogFile

#: -P keeps the working folder off the host's path: a folder named like a package must not shadow it.
HOST_COMMAND: Final = (sys.executable, "-P", "-m", "router.host")

_EXCEPTION = re.compile(r"^(?:[a-zA-Z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Failed|Warning)\b:? ?.*")
_PREFIX = re.compile(r"^(?:\x1b\[[0-9;]*m)*\(\w+ pid=\d+\)(?:\x1b\[[0-9;]*m)* ?")
_LOGGED = re.compile(r"^(?:ERROR|CRITICAL) [\d-]+ [\d:.]+ (?:\[[^\]]*\] )?")
#: The guard of a host (`router/host/orphan_guard.py`) takes at most 3 s.
_GUARD_S = 4.0
_WRITE_POLL_S = 0.01
#: The host's own last word, when it could still speak.
_HOST_ERROR = re.compile(r"^headgate-host: error: (.+)")
#: True, but says nothing: the cause stands above it.
_CONSEQUENCES = ("Engine core initialization failed", "Engine core proc", "leaked semaphore", "leaked shared_memory")


class HostProcess:
    """A running host. `stop` may be called at any time, and again."""

    def __init__(self, life: Life, life_line: int, log: LogFile, asking: Asking | None = None) -> None:
        """`life_line`: the write end of the host's standard input, ours to close. `asking`: of one that starts."""
        self._life = life
        self._life_line = life_line
        self._log = log
        self._asking = asking
        self._ours = True  #: to end; else that of another frontend

    @classmethod
    async def spawn(
        cls, spec: HostSpec, log: Path, env: dict[str, str], command: tuple[str, ...] = HOST_COMMAND
    ) -> "HostProcess":
        """Start a host in a process group of its own. Raises `OSError` when there is nothing to run, or no log."""
        out, asking = LogFile(log), Asking()
        spec = msgspec.structs.replace(spec, asks_fd=asking.fd)
        try:
            standard_input, life_line = os.pipe()
        except OSError:
            out.close()
            asking.close()
            raise
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=standard_input,
                stdout=out.fd,
                stderr=out.fd,
                env=env,
                pass_fds=(asking.fd,),
                # A group, so that it can be killed whole. Not a session of its own: where the kernel shares processors
                # out by session (autogroup), the frontend, and each first token, would wait behind its own engines.
                preexec_fn=os.setpgrp,
            )
        except BaseException:
            os.close(life_line)
            out.close()
            asking.close()
            raise
        finally:
            os.close(standard_input)
        asking.handed_over()
        host = cls(Child(process), life_line, out, asking)
        try:
            await _write(life_line, msgspec.json.encode(spec) + b"\n")
        except BaseException:
            host.kill()
            host.close()
            raise
        return host

    async def asked(self) -> ArgumentRefusal | None:
        """Wait until its arguments are read; it waits for `go` then, unless one is refused."""
        assert self._asking is not None
        return await self._asking.answer()

    def go(self) -> None:
        """Its engine may load."""
        if self._life_line >= 0:
            with contextlib.suppress(OSError):  # it has ended: `wait` tells
                os.write(self._life_line, b"\n")

    @classmethod
    def adopt(cls, pid: int, watch: int, life_line: int, log: LogFile) -> "HostProcess":
        """One that another frontend has started, and ends for as long as it is not `ours`. `watch`: a pidfd."""
        host = cls(Adopted(pid, watch), life_line, log)
        host._ours = False
        return host

    @property
    def pid(self) -> int:
        return self._life.pid

    @property
    def exit_code(self) -> int | None:
        return self._life.exit_code

    def handed(self) -> tuple[tuple[int, int, int], int]:
        """A pidfd, the life line and the log, which stay ours to close, but for the first; and where in the log its own
        words begin. Raises `OSError` where the system has no pidfd."""
        return (os.pidfd_open(self.pid), self._life_line, self._log.fd), self._log.start

    def own(self, ours: bool) -> None:
        """Whether it is ours to end from now on. One that is not lives on without us."""
        self._ours = ours
        if not ours:
            self._close_life_line()

    async def wait(self) -> int | None:
        """Until the host has ended; what it left behind in its group is killed. Returns its exit code, None where only
        another process is told."""
        await self._life.wait()
        if self._ours:
            await self._guarded_end()
            signal_host(self.pid, signal.SIGKILL)
            self.close()
        return self._life.exit_code

    async def _guarded_end(self) -> None:
        """A real host's guard kills its group itself, all but what frees the shared memory of the dead: let it."""
        with contextlib.suppress(ProcessLookupError, PermissionError, TimeoutError):
            async with asyncio.timeout(_GUARD_S):
                while True:
                    os.killpg(self.pid, 0)
                    await asyncio.sleep(0.02)

    async def stop(self, timeout_s: float) -> None:
        """Ask it to end, then make it. One that is not ours is let go."""
        if not self._ours:
            self.close()
            return
        if not self._life.ended:
            self._close_life_line()
            signal_host(self.pid, signal.SIGTERM, group=False)
            try:
                async with asyncio.timeout(timeout_s):
                    await self._life.wait()
            except TimeoutError:
                self.kill()
        await self.wait()

    def kill(self) -> None:
        """The whole group, now, where it is ours."""
        if self._ours:
            signal_host(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """What we hold of it. Idempotent."""
        self._close_life_line()
        self._life.close()
        self._log.close()
        if self._asking is not None:
            self._asking.close()

    def news(self) -> str:
        """What it wrote to its log since the last call."""
        return self._log.news()

    def last_words(self) -> str:
        """Why it did not come up, as its log tells."""
        return last_words(self._log.tail()) or f"{ending_of(self.exit_code)} and wrote nothing"

    def epitaph(self) -> str:
        """How a host that had served ended."""
        why = cause(self._log.tail())
        return f"{ending_of(self.exit_code)}: {why}" if why else ending_of(self.exit_code)

    def _close_life_line(self) -> None:
        if self._life_line >= 0:
            life_line, self._life_line = self._life_line, -1
            os.close(life_line)


async def _write(pipe: int, data: bytes) -> None:
    """All of `data`; of a host that has died already, `wait` tells. A pipe holds 64 KiB: more is waited for."""
    os.set_blocking(pipe, False)
    while data:
        try:
            data = data[os.write(pipe, data) :]
        except BlockingIOError:
            await asyncio.sleep(_WRITE_POLL_S)
        except BrokenPipeError:
            return


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
