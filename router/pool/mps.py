"""The MPS control daemon that the engines of one router share: found or started before the first, ended after the last.

    off --start--> of somebody else's: used, and left alone
               \\-> ours: started, started again before an engine starts where it was lost, ended by `stop`

Knows no engine's life; `mps_control` runs NVIDIA's program.
"""

import asyncio
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from router.config import MPS_THREADS, Config, Member
from router.errors import ConfigError, EngineStartError, ProtocolError
from router.ipc.handover import SOCKET_NAME, Daemon, dial
from router.pool.devices import DeviceList
from router.pool.folder import MPS_FOLDER
from router.pool.mps_control import LOGS, PIPES, PROGRAM, Control, MpsError, running

log = logging.getLogger("headgate.pool")

#: Where CUDA looks for a daemon that no variable names.
DEFAULT_PIPES: Final = Path("/tmp/nvidia-mps")
_AT: Final = " - at `$.gpu.mps`"


def wanted(config: Config) -> bool:
    """Whether this pool's engines are to share devices by MPS."""
    return config.gpu.mps_on and any(member.kind == "engine" for member in config.pool)


def check_mps(config: Config, found: DeviceList, env: Mapping[str, str]) -> str:
    """The control program's path; empty where MPS is off. Raises `ConfigError` where it cannot be had here."""
    if not wanted(config):
        return ""
    if found.kind != "listed" or not found.devices:
        raise ConfigError(f"MPS needs an NVIDIA device: {found.why or 'there is none that we may use'}{_AT}")
    if parts := [device.uuid for device in found.devices if device.uuid.startswith("MIG-")]:
        raise ConfigError(f"MPS with parts of a GPU needs a daemon for each, which is not done here: {parts[0]}{_AT}")
    program = shutil.which(PROGRAM, path=env.get("PATH"))
    if program is None:
        raise ConfigError(f"MPS needs the program {PROGRAM} of NVIDIA's driver, which is not in PATH{_AT}")
    return program


class Mps:
    """One router's. `start` and `stop` are called once; `variables` before each start of an engine."""

    def __init__(
        self,
        program: str,
        folder: Path,
        env: Mapping[str, str],
        inherited: Daemon | None = None,
        default_pipes: Path = DEFAULT_PIPES,
    ) -> None:
        """`folder`: the runtime folder. `env`: what engines inherit. `inherited`: the daemon of the router that is
        taken over, which is not ours yet."""
        self._folder = folder / MPS_FOLDER
        self._named, self._default = env.get(PIPES, ""), default_pipes
        # The daemon would number the devices that it sees anew, and engines name them by NVML's indices: it sees all.
        self._env = {**env, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        self._env.pop("CUDA_VISIBLE_DEVICES", None)
        self._program = program
        self._logs = Path(env[LOGS]) if env.get(LOGS) else None  #: of a daemon of somebody else's
        self._control = self._of(self._folder / "pipe", self._folder / "log")
        self._started = True  #: by a router: else somebody else's
        self._ours = False
        self._inherited = inherited is not None
        if inherited is not None:
            self._control = self._of(Path(inherited.pipes), Path(inherited.logs) if inherited.logs else None)
            self._started = inherited.started
        self._lock = asyncio.Lock()
        self._watched = -1

    # Life

    async def start(self) -> None:
        """Find a daemon or start ours. Raises `ConfigError`, and leaves none of ours then. One that was taken over may
        have been lost: then it is started once an engine is."""
        if self._inherited:
            self._watch()
            return
        self._started = False
        try:
            if (other := await self._of_somebody_else()) is not None:
                self._control = other
                log.info("MPS: engines use the control daemon of %s, which runs already", other.pipes)
            else:
                await self._start_ours()
        except MpsError as error:
            raise ConfigError(f"{error}{_AT}") from error
        self._watch()

    async def variables(self, member: Member) -> dict[str, str]:
        """What the host of `member`, which is about to start, needs in its environment; its own `env` stands above it.
        Without a daemon CUDA would do without MPS in silence: a lost one of ours is started again. Raises
        `EngineStartError` where none answers."""
        async with self._lock:
            if not await self._control.answers():
                await self._again(member.name)
        threads = {} if member.mps_threads is None else {MPS_THREADS: str(member.mps_threads)}
        return {**self._control.variables, **threads, **member.env}

    async def stop(self) -> None:
        """After the last engine: end the daemon where it is ours. Idempotent."""
        self._unwatch()
        if not self._ours:
            return
        self._ours = False
        try:
            if not await self._control.end():
                log.warning("MPS: the control daemon did not end in time and was killed")
        except OSError:
            log.exception("MPS: the control daemon could not be ended in order")
        shutil.rmtree(self._folder, ignore_errors=True)

    # Takeover

    @property
    def handed(self) -> Daemon:
        """For the process that takes over."""
        control = self._control
        return Daemon(pipes=str(control.pipes), logs=str(control.logs or ""), started=self._started)

    def own(self, ours: bool) -> None:
        """Whether a daemon that a router started is ours to end and to start again from now on."""
        self._ours = ours and self._started
        if not ours:
            self._unwatch()

    # How

    def _of(self, pipes: Path, logs: Path | None) -> Control:
        return Control(self._program, pipes, logs, self._env)

    async def _of_somebody_else(self) -> Control | None:
        """Raises `MpsError` where one is named, or runs, and does not answer."""
        if self._named:
            named = self._of(Path(self._named), self._logs)
            if not await named.answers():
                raise MpsError(
                    f"{PIPES}={self._named}: no MPS control daemon answers there; start it, or unset the variable: one "
                    "is started then"
                )
            return named
        if not _trusted(self._default):
            return None
        other = self._of(self._default, self._logs)
        if await other.answers():
            return other
        if pid := other.pid():
            raise MpsError(f"the MPS control daemon of {self._default} (process {pid}) does not answer")
        return None

    async def _start_ours(self) -> None:
        """Or go on with one that a router left here which was killed. Raises `MpsError`."""
        if running(self._control.pipes) and _is_served(self._folder.parent):
            raise MpsError(f"another server has the runtime folder {self._folder.parent}, and its MPS control daemon")
        self._ours = self._started = True
        if not await self._control.answers():
            await self._control.start()
        log.info("MPS: the control daemon of %s runs (process %d)", self._control.pipes, self._control.pid())

    async def _again(self, name: str) -> None:
        if not self._started:
            who = f"the MPS control daemon of {self._control.pipes}, which is not ours, does not answer any more"
            raise EngineStartError(name, f"{who}: start it again")
        if not self._ours:
            raise EngineStartError(name, "the MPS control daemon does not answer, and is another server's to start")
        if pid := self._control.pid():  # to end it would end the engines that run under it
            raise EngineStartError(name, f"the MPS control daemon (process {pid}) does not answer")
        self._unwatch()
        try:
            await self._control.start()
        except MpsError as error:
            raise EngineStartError(name, str(error)) from error
        log.info("MPS: the control daemon was started again (process %d)", self._control.pid())
        self._watch()

    def _watch(self) -> None:
        """Its end is told once."""
        pid = self._control.pid()
        try:
            self._watched = os.pidfd_open(pid) if pid else -1
        except OSError:
            return  # it is found out before the next engine starts
        if self._watched >= 0:
            asyncio.get_running_loop().add_reader(self._watched, self._lost, pid)

    def _lost(self, pid: int) -> None:
        self._unwatch()
        then = "it is started again before" if self._started else "start it again: else"
        what = "the next engine starts" if self._started else "no engine can start any more"
        log.error("MPS: the control daemon (process %d) has ended; engines that run go on; %s %s", pid, then, what)

    def _unwatch(self) -> None:
        watched, self._watched = self._watched, -1
        if watched >= 0:
            asyncio.get_running_loop().remove_reader(watched)
            os.close(watched)


def _trusted(pipes: Path) -> bool:
    """Whether a folder that anyone could have made is root's or ours."""
    try:
        return pipes.is_dir() and pipes.stat().st_uid in (0, os.getuid())
    except OSError:
        return False


def _is_served(folder: Path) -> bool:
    """Whether a server that can be taken over has this runtime folder."""
    try:
        dial(str(folder / SOCKET_NAME)).close()
    except (OSError, ProtocolError):
        return False
    return True
