"""The frontend as an object: binds the public and the admin port, drains, stops. Composed by `headgate serve`."""

import asyncio
import contextlib
import logging
import resource
import socket
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from router.config import Limits, Server
from router.errors import NoEngine
from router.frontend.admin import Admin, refuse_pages
from router.frontend.connection import Connection
from router.frontend.intake import open_intake
from router.frontend.listener import Listener
from router.frontend.origins import Origins
from router.frontend.public import Public
from router.frontend.sockets import ListeningSockets, listen, listen_on, listen_on_file
from router.gate.keys import Keys
from router.observe.member_gauges import MemberGauges
from router.observe.metrics import Metrics
from router.pipeline.service import MemberStatus, Service

_log = logging.getLogger("headgate.frontend")
#: File descriptors for everything that is not a client: engines, logs, listeners.
_SPARE_FILES = 256
_LOOK_S = 0.1


class Frontend:
    """HTTP in front of one service.

        frontend = Frontend(config.server, service, metrics, shown_config=lambda: config)
        await frontend.start()          # ConfigError: port in use, ...
        await frontend.drain_requested.wait()   # set by `begin_drain`: the admin port's, or a signal handler's
        await frontend.drain()          # running answers finish, within `limits.drain_s`
        await frontend.stop()

    All calls come from one event loop's thread.
    """

    def __init__(
        self,
        config: Server,
        service: Service,
        metrics: Metrics | None = None,
        *,
        shown_config: Callable[[], msgspec.Struct] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._clock = clock  #: of all time-outs, in seconds
        self._service = service
        self.metrics = Metrics() if metrics is None else metrics
        self.drain_requested = asyncio.Event()
        limits, self._wanted_files = within_file_limit(config.limits)
        public = self._routes = Public(service, self.metrics, self.draining, config)
        keys, origins = Keys(config.keys), Origins(config.allowed_origins)
        self._public = Listener(
            public.routes(),
            keys,
            limits,
            self.metrics,
            origins=origins,
            gate=service.gate,
            request_ids=config.request_id_headers,
        )
        open_intake(self._public, service)
        admin = Admin(service, self.metrics, shown_config or (lambda: config), self.begin_drain, self.draining)
        # Not draining itself before the end: it stays open, to watch the drain.
        self._admin = Listener(admin.routes(), Keys(()), limits, self.metrics, guard=refuse_pages)
        self._sockets: dict[str, ListeningSockets] = {}
        self._ports: dict[str, int] = {}
        self._shares_file = False  #: that of a Unix socket, with another process
        self._sweeper: asyncio.TimerHandle | None = None
        self.metrics.watch(self._gauges)

    @property
    def port(self) -> int:
        """The public port, once started; 0: a Unix socket takes its place."""
        return self._ports["public"]

    @property
    def admin_port(self) -> int:
        return self._ports["admin"]

    @property
    def connections(self) -> int:
        """Open client connections of the public port."""
        return len(self._public.connections)

    @property
    def reading_unfinished(self) -> int:
        """Bodies that a thread still reads, after the end of their requests too."""
        return self._routes.reading_unfinished

    def draining(self) -> bool:
        return self._public.draining and not self._public.patient

    async def start(self, inherited: Mapping[str, Sequence[socket.socket]] | None = None) -> None:
        """Listen. Raises `ConfigError` naming the setting whose address cannot be had.

        `inherited`: sockets of the ports `public` and `admin` that another process listens on; a port that is missing
        is opened. Nothing is accepted then before `accept`.
        """
        if self._wanted_files and self._config.limits.connections != Limits().connections:
            self._tell_of_files()  # asked for, and not to be had
        self._sweep()
        config, self._shares_file = self._config, inherited is not None
        try:
            for name in ("admin", "public"):
                self._sockets[name] = await self._opened(name, inherited)
        except BaseException:
            await self.stop()
            raise
        if not self._public.keys and not self._sockets["public"].on_loopback:
            _log.warning("%s: whoever reaches the public port can use it; set `$.server.api_keys`", config.host)
        if not self._sockets["admin"].on_loopback:
            _log.warning(
                "%s: whoever reaches the admin port can read the config and end the server, since it asks for no key; "
                "set `$.server.admin_host` to a loopback address, or let a firewall guard it",
                config.admin_host,
            )
        self._ports = {name: sockets.port for name, sockets in self._sockets.items()}

    async def accept(self) -> None:
        """On inherited sockets, which are ours now."""
        self._shares_file = False
        for sockets in self._sockets.values():
            await sockets.accept()

    def files(self) -> dict[str, list[int]]:
        """The descriptors of the listening sockets, by port."""
        return {name: sockets.files() for name, sockets in self._sockets.items()}

    def leave(self) -> None:
        """Another process accepts from now on. Connections that are open may ask once more each: one that was closed
        while idle could be in use at that very moment. `/ready` says what it said before."""
        self._shares_file = True
        for sockets in self._sockets.values():
            sockets.close(keep_file=True)
        for listener in (self._public, self._admin):
            listener.draining = listener.patient = True
        if self._service.batches is not None:
            self._service.batches.withdraw()  # the other process goes on with them

    async def left(self) -> None:
        """Until no connection is open any more. Idle ones end after `limits.keepalive_s`."""
        await asyncio.sleep(_LOOK_S)  # what the system had accepted is seen first
        while self._public.connections or self._admin.connections:  # noqa: ASYNC110 - each connection would pay for it
            await asyncio.sleep(_LOOK_S)

    def begin_drain(self) -> None:
        """Stop accepting and say so on `/ready`; running answers go on. Safe to call again."""
        if self.draining():
            return
        self._public.draining, self._public.patient = True, False
        if self._service.batches is not None:
            self._service.batches.withdraw()
        if "public" in self._sockets:
            self._sockets["public"].close(keep_file=self._shares_file)
        self._public.tell(tuple(self._public.connections), lambda connection: connection.drain())
        self.drain_requested.set()

    async def drain(self) -> bool:
        """Wait for the running answers; after `limits.drain_s` cut them with an error. True if none was cut."""
        self.begin_drain()
        if await self._emptied(self._config.limits.drain_s):
            return True
        _log.warning("drain: %d connections are cut after %g s", self.connections, self._config.limits.drain_s)
        why = NoEngine("the server is shutting down")
        self._public.tell(tuple(self._public.connections), lambda connection: connection.cut(why))
        await self._emptied(1.0)
        return False

    async def stop(self) -> None:
        """Close everything now."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for sockets in self._sockets.values():
            sockets.close(keep_file=self._shares_file)
        for listener in (self._public, self._admin):
            # those that the system has accepted and we have not seen yet are closed as they come
            listener.draining, listener.patient = True, False
            listener.tell(tuple(listener.connections), lambda connection: connection.abort()).finish()
        self._routes.close()
        for sockets in self._sockets.values():
            await sockets.wait_closed(1.0)

    async def _opened(self, name: str, inherited: Mapping[str, Sequence[socket.socket]] | None) -> ListeningSockets:
        config, accept = self._config, inherited is None
        public = name == "public"
        listener, uds = (self._public, config.uds) if public else (self._admin, "")

        def make() -> Connection:
            return Connection(listener)

        if inherited and name in inherited:
            return await listen_on(make, inherited[name], uds)
        if uds:
            return await listen_on_file(make, uds, accept=accept)
        host, port, setting = (
            (config.host, config.port, "") if public else (config.admin_host, config.admin_port, "admin_")
        )
        return await listen(make, host, port, setting, accept=accept)

    async def _emptied(self, within_s: float) -> bool:
        """Whether all public connections closed in time."""
        if self._public.connections:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._public.emptied.wait(), within_s)
        return not self._public.connections

    def _sweep(self) -> None:
        # First: whatever a sweep raises, the time limits go on being kept.
        self._sweeper = asyncio.get_running_loop().call_later(self._public.tick_s, self._sweep)
        now = self._clock()
        self._public.sweep(now)
        self._admin.sweep(now)
        if self._wanted_files and self.connections >= self._public.limits.connections:
            self._tell_of_files()

    def _tell_of_files(self) -> None:
        """Once: what keeps clients out, and what to do."""
        most, wanted, self._wanted_files = self._public.limits.connections, self._wanted_files, 0
        _log.warning(
            "at most %d clients can be connected, not the %d of `$.server.limits.connections`: each takes an open file,"
            " of which the system allows fewer; for all of them raise its hard limit to %d (`ulimit -Hn`, or"
            " LimitNOFILE of a systemd unit)",
            most,
            self._config.limits.connections,
            wanted,
        )

    def _gauges(self) -> tuple[MemberGauges, ...]:
        return tuple(_gauge(member) for member in self._service.members())


def raise_file_limit(wanted: int) -> int:
    """Let this process hold `wanted` files if the hard limit allows it. The limit in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if granted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    return max(soft, granted)


def within_file_limit(limits: Limits) -> tuple[Limits, int]:
    """`limits` with no more connections than files can be had for, and the files that all of them would take; 0 where
    they can be had."""
    wanted = limits.connections + _SPARE_FILES
    granted = raise_file_limit(wanted)
    if granted == resource.RLIM_INFINITY or granted >= wanted:
        return limits, 0
    spare = min(_SPARE_FILES, granted // 2)
    return msgspec.structs.replace(limits, connections=granted - spare), wanted


def _gauge(member: MemberStatus) -> MemberGauges:
    state = member.state
    return MemberGauges(
        model=member.name,
        ready=state.ready,
        breaker_open=state.breaker_open,
        running=state.running,
        waiting=state.waiting,
        kv_use=state.kv_use,
        prefix_hit=state.prefix_hit,
        in_flight=member.in_flight,
        restarts=member.restarts,
        asleep=member.sleep in ("falling", "asleep"),
        wake_s=member.wake_s,
        cost=member.cost,
    )
