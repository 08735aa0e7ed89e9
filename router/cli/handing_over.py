"""A running server's side of a takeover: hands all that it holds to a new process of the same user that asks for it.

It serves on until the new process says that it serves (`Taken`), and goes on if that fails. The other side is
`takeover`.
"""

import asyncio
import contextlib
import hmac
import logging
import os
import socket
from pathlib import Path
from typing import Final

from router.cli.rateable import packed
from router.cli.same_engines import held
from router.cli.takeover import address_of, admin_address_of
from router.config import Config
from router.errors import HeadgateError, ProtocolError
from router.frontend.server import Frontend
from router.ipc.handover import (
    HANDOVER_VERSION,
    SOCKET_NAME,
    About,
    Ask,
    Go,
    Host,
    Line,
    Message,
    Offer,
    Ready,
    Refused,
    Released,
    Taken,
    close_all,
)
from router.ipc.messages import PROTOCOL_VERSION
from router.pipeline.estate import Estate
from router.pipeline.router import Router

log = logging.getLogger("headgate")

_ANSWER_S: Final = 10.0
#: The new process reads its checkpoint, joins the hosts, and reaches the members by URL.
_READY_S: Final = 120.0
_BACKLOG = 16
#: Those that are being answered; more are refused without a word.
_MOST_LINES = 16


class HandingOver:
    """Called from the event loop's thread. `given` is set once another process serves."""

    def __init__(self, config: Config, router: Router, frontend: Frontend) -> None:
        self.given = asyncio.Event()
        self._config = config
        self._router = router
        self._frontend = frontend
        self._listener: socket.socket | None = None
        self._path: Path | None = None
        self._busy_with = 0  #: process id
        self._ending = False
        self._deciding = asyncio.Lock()
        self._lines: set[Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, inherited: socket.socket | None = None) -> None:
        """From now on this server can be taken over. Where that is not possible, the log says so."""
        folder = self._router.estate.folder
        if folder is None:
            return
        path = folder.path / SOCKET_NAME
        try:
            self._listener = inherited or _listen(path)
        except OSError as error:
            log.warning("%s: %s; this server cannot be taken over", path, error.strerror or error)
            return
        self._listener.setblocking(False)
        self._path = path
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)

    async def close(self) -> None:
        """This server ends: nobody takes it over any more; a takeover that is being decided is waited for."""
        async with self._deciding:
            self._ending = True
        self._close_listener(remove=not self.given.is_set())
        for line in tuple(self._lines):
            if self.given.is_set() and line.peer_pid == self._busy_with:
                with contextlib.suppress(OSError):
                    await self._release(line)
            with contextlib.suppress(OSError):
                line.send(Refused("it is ending"), timeout_s=0.0)
            line.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            end, _ = self._listener.accept()
        except OSError:
            return
        if len(self._lines) >= _MOST_LINES:
            end.close()
            return
        line = Line(end)
        self._lines.add(line)
        task = asyncio.create_task(self._serve(line))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, line: Line) -> None:
        try:
            if line.of_our_user:
                await self._talk(line)
        except (OSError, HeadgateError) as error:
            why = str(error) or type(error).__name__
            log.warning("process %d did not take over: %s; this server goes on", line.peer_pid, why)
            with contextlib.suppress(OSError):
                line.send(Refused(why), timeout_s=0.0)
        except Exception:
            log.exception("process %d could not take over; this server goes on", line.peer_pid)
        finally:
            if not self.given.is_set() or self._busy_with != line.peer_pid:
                self._lines.discard(line)
                line.close()

    async def _talk(self, line: Line) -> None:
        line.send(About(pid=os.getpid(), address=address_of(self._config.server)))
        ask = await _received(line, _ANSWER_S)
        if ask is None:
            return  # it looked for another server
        if not isinstance(ask, Ask):
            raise ProtocolError(f"expected to be asked for all, got {type(ask).__name__}")
        if why := self._refusal(ask):
            log.warning("process %d may not take over: %s", line.peer_pid, why)
            line.send(Refused(why))
            return
        self._busy_with = line.peer_pid
        estate = self._router.estate
        try:
            await self._hand_over(line, estate)
        finally:
            if not self.given.is_set():
                estate.withdraw()
                self._busy_with = 0

    def _refusal(self, ask: Ask) -> str:
        if self._ending:
            return "it is ending"
        if self._busy_with:
            return f"process {self._busy_with} is taking it over already"
        if why := self._changing():
            return f"{why}: try again after it"
        if (ask.handover, ask.frames) != (HANDOVER_VERSION, PROTOCOL_VERSION):
            return f"release {ask.release} speaks other protocols than this server; end it and start that one"
        if self._router.estate.mps is not None and not ask.mps:
            return f"release {ask.release} would never end the MPS control daemon; end this server and start that one"
        if not hmac.compare_digest(ask.secret.encode(), self._config.supervision.host_secret.encode()):
            return "`supervision.host_secret` is another one here"
        return ""

    def _changing(self) -> str:
        changes = self._router.changes
        return "" if changes is None else changes.under_way

    async def _hand_over(self, line: Line, estate: Estate) -> None:
        """Raises `OSError`, `HeadgateError`, and nothing has changed then."""
        log.info("process %d takes over", line.peer_pid)
        edition, drained = self._router.edition, estate.drained
        hosts = await self._offer(line, estate, drained)
        ready = await _received(line, _READY_S)
        if ready is None:
            raise ProtocolError("it ended")
        if not isinstance(ready, Ready):
            raise ProtocolError(f"expected `Ready`, got `{type(ready).__name__}`")
        async with self._deciding:
            why = "it is ending" if self._ending else self._changing()
            if not why and edition != self._router.edition:
                why = "the pool was changed meanwhile; try again"
            if why := why or estate.changed(hosts, drained):
                raise ProtocolError(why)
            await self._decided(line)
            self.given.set()
            self._close_listener(remove=False)
            self._frontend.leave()
            if self._router.changes is not None:
                await self._router.changes.stop()
            await estate.release()
        log.info("process %d serves now: %d running answers finish here", line.peer_pid, self._router.in_flight())
        with contextlib.suppress(OSError):  # its end is its own affair now
            await self._release(line)

    async def _release(self, line: Line) -> None:
        """Say that the engines are let go, and which answers can be rated there; again, which have ended since. Raises
        `OSError`."""
        self._router.ledger.tell()
        journal, answers = self._router.estate.rateable()
        files = [await asyncio.to_thread(packed, answers)] if answers else []
        try:
            await asyncio.to_thread(line.send, Released(journal), tuple(files))
        finally:
            close_all(files)

    async def _decided(self, line: Line) -> None:
        """The other process serves now; meanwhile no member changes. Raises `OSError`, `HeadgateError`."""
        changes = self._router.changes
        if changes is not None:
            changes.barred = "another process takes over"
        try:
            await asyncio.to_thread(line.send, Go())
            if not await _taken(line):
                raise ProtocolError("it ended in the last moment")
        finally:
            if changes is not None:
                changes.barred = ""

    async def _offer(self, line: Line, estate: Estate, drained: tuple[str, ...]) -> list[Host]:
        hosts = await estate.offer(line.peer_pid)
        try:
            files = self._files(estate)
            folder = estate.folder
            assert folder is not None
            offer = Offer(
                files=tuple(name for name, _ in files),
                admin=admin_address_of(self._config.server),
                folder=str(folder.path),
                made=folder.made,
                engines=held(self._router.config.pool),
                hosts=len(hosts),
                drained=drained,
                mps=estate.mps,
            )
            await asyncio.to_thread(line.send, offer, tuple(file for _, file in files))
            for host, given in hosts:
                await asyncio.to_thread(line.send, host, given)
        finally:
            close_all([given[0] for _, given in hosts])
        return [host for host, _ in hosts]

    def _files(self, estate: Estate) -> list[tuple[str, int]]:
        assert self._listener is not None
        assert estate.folder is not None
        files = [("takeover", self._listener.fileno())]
        files += [(port, file) for port, given in self._frontend.files().items() for file in given]
        locks = (("folder", estate.folder.lock), ("journal", estate.journal_lock))
        return files + [(name, lock) for name, lock in locks if lock >= 0]

    def _close_listener(self, *, remove: bool) -> None:
        listener, self._listener = self._listener, None
        if listener is None:
            return
        asyncio.get_running_loop().remove_reader(listener.fileno())
        listener.close()
        if remove and self._path is not None:
            self._path.unlink(missing_ok=True)


async def _received(line: Line, timeout_s: float) -> Message | None:
    """Raises `HeadgateError`."""
    try:
        message, files = await asyncio.to_thread(line.receive, timeout_s)
    except TimeoutError as error:
        raise ProtocolError(f"it said nothing for {timeout_s:g} s") from error
    close_all(files)
    return message


async def _taken(line: Line) -> bool:
    """Whether it serves: if it says so after this it will find out that we have not heard it."""
    try:
        message = await _received(line, _ANSWER_S)
    except (OSError, HeadgateError):
        message = line.last_word()
    return isinstance(message, Taken)


def _listen(path: Path) -> socket.socket:
    """0600. A socket that nobody listens on is replaced. Raises `OSError`."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError), _probe() as probe:
            probe.connect(str(path))
            raise FileExistsError(None, "another server has this runtime folder")
        path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        listener.listen(_BACKLOG)
        return listener
    except BaseException:
        listener.close()
        raise


def _probe() -> socket.socket:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    probe.settimeout(1.0)
    return probe
