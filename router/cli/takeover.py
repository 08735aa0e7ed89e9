"""`headgate serve --takeover`: a new process takes listening sockets and engine hosts over from a running server.

Until it says so (`commit`) all stays with the running server, which goes on if this process fails. The other side is
`handing_over`; what they say to each other is in `ipc/handover.py`.
"""

import asyncio
import contextlib
import logging
import os
import select
import socket
from pathlib import Path
from typing import Final

import msgspec

from router import config as configuration
from router.cli.rateable import unpacked
from router.cli.same_engines import check_same_engines, check_same_mps
from router.config import Config, Member, Server
from router.errors import ConfigError, HeadgateError, ProtocolError
from router.ipc.handover import (
    HANDOVER_VERSION,
    SOCKET_NAME,
    About,
    Ask,
    Go,
    Host,
    Line,
    Offer,
    Ready,
    Refused,
    Released,
    Taken,
    close_all,
    dial,
)
from router.ipc.messages import PROTOCOL_VERSION
from router.pipeline.estate import Estate, Heritage
from router.pool.folder import folders
from router.pool.handover import Inherited, inherited_of
from router.version import __version__

log = logging.getLogger("headgate")

_ANSWER_S: Final = 30.0
#: A process that was killed is gone within this time.
_GONE_S = 2.0


class TakeoverError(HeadgateError):
    """Nothing was taken over: the running server goes on, if there is one."""


def address_of(server: Server) -> str:
    """The public port as configured."""
    return server.uds or f"{server.host}:{server.port}"


def admin_address_of(server: Server) -> str:
    return f"{server.admin_host}:{server.admin_port}"


class Takeover:
    """One attempt, made by `begin`. `commit` decides it; `close` ends it at any time."""

    def __init__(
        self,
        line: Line,
        about: About,
        offer: Offer,
        hosts: list[Inherited],
        files: dict[str, list[int]],
        asked: tuple[Member, ...],
    ) -> None:
        self.pid = about.pid
        self.engines = offer.engines
        self._drained = offer.drained
        self.hosts = [inherited.host for inherited in hosts]
        self.heritage = Heritage(
            folder=Path(offer.folder),
            made=offer.made,
            lock=_only(files.pop("folder", [])),
            journal=_only(files.pop("journal", [])),
            hosts={inherited.host.name: inherited for inherited in hosts},
            asked=asked,
            mps=offer.mps,
            may_start=asyncio.Event(),
        )
        self.listener = socket.socket(fileno=files.pop("takeover")[0])
        self.sockets = {name: [socket.socket(fileno=file) for file in given] for name, given in files.items()}
        self._line = line
        self._old = _watch(about.pid)
        self._estate: Estate | None = None
        self.old_ended = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None  #: of what the old process has sent

    async def commit(self, estate: Estate) -> None:
        """All is ready here: take over. Raises `TakeoverError`; then all is the running server's as before."""
        estate.go_on(self.hosts, self._drained)
        try:
            await asyncio.to_thread(self._agree)
            if why := estate.lost(self.hosts):
                raise TakeoverError(f"nothing was taken over: {why}")
            await asyncio.to_thread(self._take)
        except (OSError, ProtocolError) as error:
            raise TakeoverError(f"nothing was taken over from process {self.pid}: {error}") from error
        estate.own()
        self._estate = estate
        asyncio.get_running_loop().add_reader(self._line.fileno(), self._heard)

    def close(self) -> None:
        """Idempotent."""
        if self._estate is not None:
            self._forget()
        if self._reading is not None:
            self._reading.cancel()
        self._line.close()
        if self._old >= 0:
            os.close(self._old)
            self._old = -1

    # In a thread

    def _agree(self) -> None:
        """Have the running server look whether all is still as it was offered."""
        with contextlib.suppress(OSError):  # it may have ended
            self._line.send(Ready())
        answer, files = self._line.receive(_ANSWER_S)
        close_all(files)
        if isinstance(answer, Refused):
            raise TakeoverError(f"process {self.pid} gave nothing up: {answer.why}")
        if not isinstance(answer, Go) and not (answer is None and self._old_is_gone()):
            raise TakeoverError(f"process {self.pid} gave nothing up and broke off")

    def _take(self) -> None:
        try:
            self._line.send(Taken())
        except OSError:
            if not self._old_is_gone():
                raise

    def _old_is_gone(self) -> bool:
        """It has ended: all that it had offered is here."""
        return self._old >= 0 and bool(select.select([self._old], [], [], _GONE_S)[0])

    # Afterwards

    def _heard(self) -> None:
        """`Released`, then the end of the old process."""
        try:
            message, files = self._line.receive(0.0)
        except BlockingIOError:
            return
        except (OSError, ProtocolError):
            message, files = None, []
        self.heritage.may_start.set()
        if isinstance(message, Released):
            self._reading = asyncio.create_task(self._adopt(message.journal, files, self._estate, self._reading))
        else:
            close_all(files)
            self._forget()

    async def _adopt(
        self, journal: str, files: list[int], estate: Estate | None, before: "asyncio.Task[None] | None"
    ) -> None:
        """Answers of the old process may be rated here, those of an earlier message first."""
        if before is not None:
            await before
        close_all(files[1:])
        for file in files[:1]:
            try:
                answers = await asyncio.to_thread(unpacked, file)
            except (OSError, msgspec.MsgspecError) as error:
                log.warning("answers of process %d cannot be rated here: %s", self.pid, error)
            else:
                if estate is not None:
                    estate.adopt(journal, answers)

    def _forget(self) -> None:
        estate, self._estate = self._estate, None
        if estate is not None:
            asyncio.get_running_loop().remove_reader(self._line.fileno())
            estate.alone()
            self.old_ended.set()


def begin(config: Config) -> Takeover:
    """Ask the running server of `config`'s address. Blocks for as long as that takes to answer. Raises `ConfigError`
    where the configs do not fit, `TakeoverError`."""
    line, about = _found(config)
    files: dict[str, list[int]] = {}
    hosts: list[Inherited] = []
    try:
        _check_versions(about)
        line.send(Ask(secret=config.supervision.host_secret, mps=True))
        offer = _offered(line, files)
        for _ in range(offer.hosts):
            host, given = line.receive(_ANSWER_S)
            if not isinstance(host, Host):
                close_all(given)
                raise ProtocolError(f"expected an engine host, got {type(host).__name__}")
            hosts.append(inherited_of(host, given))
        check_same_engines(config.pool, offer.engines)
        check_same_mps(config, offer.mps)
        if offer.admin != admin_address_of(config.server):
            close_all(files.pop("admin", []))  # the new one is opened here
        return Takeover(line, about, offer, hosts, files, config.pool)
    except BaseException as error:
        close_all([file for given in files.values() for file in given])
        close_all([file for inherited in hosts for file in inherited.files])
        line.close()
        if isinstance(error, OSError | ProtocolError):
            raise TakeoverError(f"nothing was taken over from process {about.pid}: {error}") from error
        raise


def _offered(line: Line, files: dict[str, list[int]]) -> Offer:
    """Its descriptors are put into `files`, by what they are."""
    offer, given = line.receive(_ANSWER_S)
    if isinstance(offer, Offer) and len(offer.files) == len(given):
        for name, file in zip(offer.files, given, strict=True):
            files.setdefault(name, []).append(file)
        if "takeover" in files:
            return offer
    else:
        close_all(given)
    if isinstance(offer, Refused):
        raise TakeoverError(offer.why)
    raise ProtocolError(f"expected an offer, got {type(offer).__name__}")


def _found(config: Config) -> tuple[Line, About]:
    """The one server that listens on the config's address. Raises `TakeoverError`."""
    here = folders(config.supervision.runtime_dir, configuration.runtime_root())
    found = [each for folder in here if (each := _asked(folder / SOCKET_NAME)) is not None]
    wanted = address_of(config.server)
    fitting = [each for each in found if each[1].address == wanted]
    for each in found:
        if len(fitting) != 1 or each is not fitting[0]:
            each[0].close()
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        pids = ", ".join(str(about.pid) for _, about in fitting)
        raise TakeoverError(
            f"several servers listen on {wanted} (processes {pids}): `supervision.runtime_dir` in a config tells them"
            " apart"
        )
    others = ", ".join(f"process {about.pid} on {about.address}" for _, about in found)
    raise TakeoverError(
        f"there is no running server of this user on {wanted} to take over from"
        + (f"; there is {others}" if others else "")
    )


def _asked(path: Path) -> tuple[Line, About] | None:
    """Who listens there; None: nobody, or nobody of ours."""
    try:
        line = dial(str(path))
    except OSError:
        return None
    with contextlib.suppress(OSError, ProtocolError):
        if line.of_our_user:
            about, files = line.receive(_ANSWER_S)
            close_all(files)
            if isinstance(about, About):
                return line, about
    line.close()
    return None


def _check_versions(about: About) -> None:
    for what, theirs, ours in (
        ("takeovers", about.handover, HANDOVER_VERSION),
        ("its engine hosts' frames", about.frames, PROTOCOL_VERSION),
    ):
        if theirs != ours:
            raise ConfigError(
                f"the running server (process {about.pid}, release {about.release}) has protocol {theirs} of {what},"
                f" this release ({__version__}) protocol {ours}: nothing was taken over; end it and start this one"
            )


def _only(files: list[int]) -> int:
    return files[0] if files else -1


def _watch(pid: int) -> int:
    """A pidfd; -1: it cannot be had."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1
