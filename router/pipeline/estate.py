"""What a router leaves to the process that takes over from it, and what that one begins with: engine hosts, their
folder, the journal's lock.

Knows neither the clients' sockets nor how the two processes find each other.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import msgspec

from router import config as configuration
from router.config import Member
from router.errors import EngineStartError
from router.ipc.handover import Daemon, Host, close_all
from router.observe.feedback import Feedback, Rateable
from router.observe.journal import Journal
from router.pipeline.sleeping import Sleeping
from router.pool import PoolMember
from router.pool.engine import EngineMember
from router.pool.folder import RuntimeFolder
from router.pool.handover import Inherited
from router.pool.laned import ALIVE, Laned
from router.pool.supervisor import Supervisor


class Heritage(msgspec.Struct, kw_only=True):
    """What was handed to us, with its descriptors. `Router` takes them."""

    folder: Path  #: with the hosts' sockets
    made: bool
    lock: int  #: of the folder; -1: it has none
    journal: int  #: the lock of its folder; -1: none is written
    hosts: dict[str, Inherited]  #: by member
    asked: tuple[Member, ...]  #: the pool as our file says it, without what was filled in from the running engines
    may_start: asyncio.Event  #: set once the old process starts and ends no engine any more
    mps: Daemon | None = None  #: under which the engines run


def runtime_folder(configured: str, heritage: Heritage | None) -> RuntimeFolder:
    """A new one, or the one that is handed over."""
    if heritage is None:
        return RuntimeFolder(configured, configuration.runtime_root())
    return RuntimeFolder.adopt(heritage.folder, made=heritage.made, lock=heritage.lock)


def settle(pool: Sequence[PoolMember], heritage: Heritage | None) -> None:
    """Each engine gets its running host; those that have none wait for `may_start`."""
    if heritage is None:
        return
    for member in pool:
        if isinstance(member, EngineMember):
            member.tenure.inherit(heritage.hosts.pop(member.name, None), heritage.may_start)


def journal_lock(heritage: Heritage | None) -> int:
    """That of the old process's journal, handed out once; -1: none."""
    if heritage is None:
        return -1
    journal, heritage.journal = heritage.journal, -1
    return journal


class Estate:
    """What a running router has at this moment: made anew for each takeover."""

    def __init__(
        self,
        pool: Sequence[PoolMember],
        supervisor: Supervisor,
        folder: RuntimeFolder | None,
        journal: Journal | None,
        feedback: Feedback | None,
        sleeping: Sleeping,
        put_to_sleep: Callable[[], None],
    ) -> None:
        """`put_to_sleep`: they sleep and wake by us from now on."""
        self._pool = pool
        self._engines = [member for member in pool if isinstance(member, EngineMember)]
        self._supervisor = supervisor
        self._journal = journal
        self._feedback = feedback
        self._sleeping, self._put_to_sleep = sleeping, put_to_sleep
        self.folder = folder

    @property
    def mps(self) -> Daemon | None:
        """The control daemon that the engines use."""
        mps = self._supervisor.mps
        return None if mps is None else mps.handed

    @property
    def journal_lock(self) -> int:
        """-1: no journal is written."""
        return -1 if self._journal is None else self._journal.lock

    # In the old process

    @property
    def drained(self) -> tuple[str, ...]:
        """Members that are to get no new requests."""
        return tuple(member.name for member in self._pool if isinstance(member, Laned) and member.drained)

    async def offer(self, pid: int) -> list[tuple[Host, tuple[int, int, int]]]:
        """The running hosts, which process `pid` may join from now on. The first descriptor of each is the caller's to
        close. Raises `ProtocolError`, `OSError`; `withdraw` is to be called then."""
        offered: list[tuple[Host, tuple[int, int, int]]] = []
        try:
            for engine in self._engines:
                link = engine.link
                if link is not None and engine.phase in ALIVE:
                    offered.append(await engine.tenure.offer(engine.name, link, pid, engine.phase))
        except BaseException:
            close_all([files[0] for _, files in offered])
            raise
        return offered

    def changed(self, offered: Sequence[Host], drained: tuple[str, ...]) -> str:
        """Why what was offered cannot be given any more, or empty. `drained`: what was told of that."""
        if drained != self.drained:
            return "a member was drained or resumed meanwhile; try again"
        names, asleep = {host.name for host in offered}, {host.name for host in offered if host.phase == "asleep"}
        for engine in self._engines:
            if engine.sleeper is not None and engine.sleeper.state in ("falling", "waking"):
                return f"engine {engine.name!r} falls asleep or wakes up now; try again"
            if engine.name in names and not engine.tenure.is_offered(engine.link):
                return f"engine {engine.name!r} was lost meanwhile; try again"
            if engine.name not in names and engine.phase in ALIVE:
                return f"engine {engine.name!r} became ready meanwhile; try again"
            if engine.phase in ALIVE and (engine.phase == "asleep") != (engine.name in asleep):
                return f"engine {engine.name!r} fell asleep or woke up meanwhile; try again"
        return ""

    def withdraw(self) -> None:
        for engine in self._engines:
            engine.tenure.withdraw()

    async def release(self) -> None:
        """All is the other process's now, for which we are a client until our own requests have ended."""
        if self._journal is not None:
            self._journal.share()
        if self.folder is not None:
            self.folder.own(False)
        await self._sleeping.stop()
        await self._supervisor.hand_over()

    def rateable(self) -> tuple[str, list[Rateable]]:
        """The journal's folder, and the answers in it that may be rated; called again, those that have ended since."""
        if self._journal is None or self._feedback is None:
            return "", []
        return str(self._journal.path.resolve()), self._feedback.hand_over()

    # In the new process

    def adopt(self, journal: str, answers: Sequence[Rateable]) -> None:
        """Answers of the old process that may be rated here, where their records are in the same journal."""
        if self._journal is not None and self._feedback is not None and journal == str(self._journal.path.resolve()):
            self._feedback.adopt(answers)

    def lost(self, hosts: Sequence[Host]) -> str:
        """Why we cannot take over, or empty."""
        names = {host.name for host in hosts}
        for engine in self._engines:
            if engine.name in names and engine.phase not in ALIVE:
                why = str(EngineStartError(engine.name, engine.last_error)) if engine.last_error else engine.phase
                return f"engine {engine.name!r} could not be joined: {why}"
        return ""

    def go_on(self, hosts: Sequence[Host], drained: Collection[str]) -> None:
        """In the phase that each was in: who was asleep, or is one of `drained`, gets no requests."""
        phases = {host.name: host.phase for host in hosts}
        for engine in self._engines:
            if phases.get(engine.name) == "asleep":
                engine.fall_asleep(True)
        for member in self._pool:
            if isinstance(member, Laned) and member.name in drained:
                member.drain(True)

    def own(self) -> None:
        """All is ours to end from now on."""
        if self.folder is not None:
            self.folder.own(True)
        if self._supervisor.mps is not None:
            self._supervisor.mps.own(True)
        for engine in self._engines:
            engine.tenure.own(engine.link)
        self._put_to_sleep()

    def alone(self) -> None:
        """The old process has ended."""
        if self._journal is not None:
            self._journal.alone()
