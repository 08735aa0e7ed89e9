"""A member's engine host, handed over to another frontend that starts anew, and taken over there.

The old frontend stays a client of the host until its own requests have ended. Knows no sockets of clients.
"""

import asyncio
from typing import Final

import msgspec

from router.errors import EngineStartError, ProtocolError
from router.ipc.handover import Host
from router.ipc.messages import Control, Hello
from router.ipc.spec import HostSpec
from router.pool.link import HostLink, RunningHost
from router.pool.logfile import LogFile
from router.pool.process import HostProcess
from router.pool.question import Question

#: What a host's Hello must name.
VERBS: Final = frozenset({"hand_over", "give_up"})
#: A host that is busy says so that late.
_ANSWER_S = 10.0


class Inherited(msgspec.Struct, frozen=True, kw_only=True):
    """A host that was handed to us, with its descriptors, ours to close."""

    host: Host
    watch: int  #: a pidfd
    life_line: int  #: the write end of its standard input
    log: int

    def process(self) -> HostProcess:
        """Takes the descriptors."""
        host = self.host
        return HostProcess.adopt(host.pid, self.watch, self.life_line, LogFile.adopt(self.log, host.log_start))

    def running(self) -> RunningHost:
        host = self.host
        answers_as = host.answers_as or host.name
        return RunningHost(socket=host.socket, secret=host.secret, role="owner", answers_as=answers_as)

    @property
    def files(self) -> tuple[int, int, int]:
        return self.watch, self.life_line, self.log


def inherited_of(host: Host, files: list[int]) -> Inherited:
    """Raises `ProtocolError`."""
    if len(files) != 3:
        raise ProtocolError(f"expected three descriptors of the host of {host.name!r}, got {len(files)}")
    watch, life_line, log = files
    return Inherited(host=host, watch=watch, life_line=life_line, log=log)


class Tenure:
    """Whether a member's host is ours: inherited, started by us, or given up.

    started by us --offer--> offered --release--> given up: joined as a client, again where it is lost
    inherited --join--> joined --own--> as one started by us
    """

    def __init__(self, spec: HostSpec) -> None:
        self.spec = spec  #: by which it is started
        self._label = ""  #: in the metrics of the host that was inherited
        self._inherited: Inherited | None = None
        self._may_start: asyncio.Event | None = None  #: of a member that was not running where we took over
        self._offered: HostLink | None = None
        self._heard = Question()
        self._put_off = self.given_up = False

    def inherit(self, inherited: Inherited | None, may_start: asyncio.Event) -> None:
        """Join this host at the first start. Without one, and after it, nothing is started before `may_start`."""
        self._inherited, self._may_start = inherited, may_start
        if inherited is not None:  # where the old frontend looks for it if it is started again
            self.spec = msgspec.structs.replace(self.spec, socket=inherited.host.socket)
            self._label = inherited.host.label

    @property
    def label(self) -> str:
        """The `member` label in the host's metrics."""
        return self._label or self.spec.label or self.spec.name

    async def joined(self, link: HostLink) -> Hello | None:
        """None: a host is to be started. Raises `EngineStartError`."""
        if self.given_up:
            spec = self.spec
            running = RunningHost(socket=spec.socket, secret=spec.secret, role="client", answers_as=spec.name)
            return await link.join(running, None)
        inherited, self._inherited = self._inherited, None
        if inherited is not None:
            self._put_off = True
            return await link.join(inherited.running(), inherited.process())
        self._label = ""
        if self._may_start is not None:
            await self._not_yet(self._may_start)
        return None

    async def _not_yet(self, may_start: asyncio.Event) -> None:
        """The first start is not waited for: the others are to be taken over."""
        if not may_start.is_set() and not self._put_off:
            self._put_off = True
            why = "it was not running in the server that is taken over, and is started once that has let go"
            raise EngineStartError(self.spec.name, why)
        await may_start.wait()

    def own(self, link: HostLink | None) -> None:
        """What was joined is ours to end from now on."""
        if link is not None and link.process is not None:
            link.process.own(True)

    # In the old frontend

    async def offer(self, name: str, link: HostLink, pid: int, phase: str) -> tuple[Host, tuple[int, int, int]]:
        """Have the host of member `name` let process `pid` join. The first descriptor is the caller's to close. Raises
        `ProtocolError`, `OSError`."""
        spec, process = self.spec, link.process
        if process is None or not VERBS.issubset(link.verbs):
            raise ProtocolError(f"engine {name!r} is of a release that cannot be handed over")
        await self._name(name, link, pid)
        files, log_start = process.handed()
        self._offered = link
        host = Host(
            name=name,
            pid=process.pid,
            socket=spec.socket,
            secret=spec.secret,
            log_start=log_start,
            phase=phase,
            answers_as=spec.name,
            label=self.label,
        )
        return host, files

    def is_offered(self, link: HostLink | None) -> bool:
        """What was offered still runs."""
        return self._offered is not None and self._offered is link and link.channel is not None

    def withdraw(self) -> None:
        link, self._offered = self._offered, None
        if link is not None:
            link.send(Control("hand_over", "0"))

    def release(self, link: HostLink | None) -> None:
        """Give up what was offered: it lives on without us, who are its client. What was not is ours until the end."""
        self.given_up = True
        if link is not None and link is self._offered:
            link.send(Control("give_up"))
            assert link.process is not None
            link.process.own(False)

    async def _name(self, name: str, link: HostLink, pid: int) -> None:
        try:
            async with asyncio.timeout(_ANSWER_S):
                await asyncio.shield(self._heard.put(lambda: link.send(Control("hand_over", str(pid)))))
        except (TimeoutError, asyncio.CancelledError) as error:
            self._heard.lost()
            if isinstance(error, asyncio.CancelledError) and link.channel is not None:
                raise
            raise ProtocolError(f"engine {name!r} did not answer the hand-over") from error

    def answered(self, pid: str) -> None:
        """The host's answer."""
        if pid != "0":
            self._heard.answered(pid)

    def lost(self) -> None:
        self._heard.lost()
