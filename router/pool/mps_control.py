"""NVIDIA's MPS control program: asks the daemon of a pipe directory, and starts or ends one.

    nvidia-cuda-mps-control -d --starts--> control daemon <--pipe directory--- nvidia-cuda-mps-control < commands

From NVIDIA's "Multi-Process Service", appendix "Tools and Interface Reference": the daemon's process id stands in
`nvidia-cuda-mps-control.pid` of its pipe directory. Knows no engine.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from router.errors import HeadgateError

PROGRAM: Final = "nvidia-cuda-mps-control"
PIPES: Final = "CUDA_MPS_PIPE_DIRECTORY"
LOGS: Final = "CUDA_MPS_LOG_DIRECTORY"
_ASK_S: Final = 10.0
_START_S: Final = 20.0
_QUIT_S: Final = 20.0
_LOOK_S: Final = 0.05
#: What the program says, with any exit code, where no daemon has the pipes.
_NOBODY: Final = "Cannot find MPS control daemon"


class MpsError(HeadgateError):
    """There is no control daemon, or it does not answer."""


class Control:
    """The control program, for one pipe directory. `env`: of the program, beside the two directories."""

    def __init__(self, program: str, pipes: Path, logs: Path | None, env: Mapping[str, str]) -> None:
        self.pipes, self.logs = pipes, logs
        self._program = program
        self._env = {**env, **self.variables}

    @property
    def variables(self) -> dict[str, str]:
        """By which CUDA finds the daemon."""
        return {PIPES: str(self.pipes)} | ({} if self.logs is None else {LOGS: str(self.logs)})

    def pid(self) -> int:
        """Of the daemon that runs; 0: none does."""
        return running(self.pipes)

    async def answers(self) -> bool:
        return await self._ask("get_server_list", _ASK_S) is not None

    async def start(self) -> None:
        """Start a daemon and wait until it answers. Raises `MpsError`, and leaves none then."""
        assert self.logs is not None
        said = self.logs / "start.log"
        try:
            for folder in (self.pipes, self.logs):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            code = await self._launched(said)
        except OSError as error:
            raise MpsError(f"{self._program} cannot be started: {error}") from error
        if code is None:
            raise MpsError(f"`{self._program} -d` did not return within {_START_S:g} s")
        if code:
            raise MpsError(f"`{self._program} -d` ended with exit code {code}: {_last_line(said)}")
        try:
            async with asyncio.timeout(_START_S):
                while not await self.answers():  # noqa: ASYNC110 - another process does it
                    await asyncio.sleep(_LOOK_S)
        except BaseException as error:
            await self.end()
            if not isinstance(error, TimeoutError):
                raise
            why = _last_line(self.logs / "control.log")
            raise MpsError(f"the MPS control daemon did not answer within {_START_S:g} s; its log: {why}") from None

    async def end(self) -> bool:
        """End the daemon, its servers with it. False where it had to be killed."""
        pid = self.pid()
        await self._ask("quit", _QUIT_S)
        if not pid or await self._gone(pid):
            return True
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return False

    async def _gone(self, pid: int) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_QUIT_S):
                while self.pid() == pid:  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_S)
                return True
        return False

    async def _launched(self, said: Path) -> int | None:
        """Its exit code, once it runs in the background; None where it does not return. Raises `OSError`."""
        # Not by a pipe: the daemon would keep it open.
        with said.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                self._program, "-d", stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self._env,
                start_new_session=True,
            )  # fmt: skip
        try:
            async with asyncio.timeout(_START_S):
                return await process.wait()
        except TimeoutError:
            return None
        finally:
            await _ended(process)

    async def _ask(self, command: str, timeout_s: float) -> str | None:
        """What the daemon answers; None where there is none, or it is silent."""
        try:
            process = await asyncio.create_subprocess_exec(
                self._program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self._env,
                start_new_session=True,
            )  # fmt: skip
        except OSError:
            return None
        try:
            async with asyncio.timeout(timeout_s):
                out, _ = await process.communicate(f"{command}\n".encode())
        except TimeoutError:
            return None
        finally:
            await _ended(process)
        answer = out.decode(errors="replace")
        return answer if process.returncode == 0 and _NOBODY not in answer else None


async def _ended(process: asyncio.subprocess.Process) -> None:
    """With all that it started in its session, where it has not ended by itself."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def running(pipes: Path) -> int:
    """The process of the daemon of these pipes; 0: there is none. Its number may be another program's by now."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((pipes / f"{PROGRAM}.pid").read_text())
        if PROGRAM.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return 0


def end_left_behind(pipes: Path) -> None:
    """Of a router that was killed: end its daemon; blocks."""
    pid = running(pipes)
    if not pid:
        return
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            ["env", f"{PIPES}={pipes}", PROGRAM], input=b"quit\n", capture_output=True, timeout=_QUIT_S, check=False
        )
    if running(pipes) == pid:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _last_line(said: Path) -> str:
    text = ""
    with contextlib.suppress(OSError):
        text = said.read_text(errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it wrote nothing"
