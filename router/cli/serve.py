"""`headgate serve`: the doors, the pipeline and the engines as one running server, from flags to graceful end."""

import argparse
import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from router import config as configuration
from router.cli import preflight
from router.cli.anew import Anew
from router.cli.flags import add_config_arguments, config_of
from router.cli.naming import refusals_named, source_of
from router.cli.notify import tell_systemd
from router.config import Config

log = logging.getLogger("headgate")

_LOOK_S = 0.1
_LARGE_BLOCK_BYTES = 1 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument(
        "--log-level", default="info", choices=("debug", "info", "warning", "error"), help="(default: info)"
    )
    parser.add_argument("--json", action="store_true", help="events as JSON lines on standard output")
    parser.add_argument(
        "--takeover",
        action="store_true",
        help="take ports and engines over from the running server on this address, which ends once its answers have",
    )
    parser.add_argument("--host-command", help=argparse.SUPPRESS)  # benches put a stub in the engine hosts' place


def run(args: argparse.Namespace) -> int:
    import uvloop

    logging.basicConfig(
        level=args.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    config = config_of(args)
    command = tuple(shlex.split(args.host_command)) if args.host_command else None
    again = (lambda: config_of(args)) if args.config is not None else None
    with refusals_named(args):
        serving = Serving(config, again=again, json=args.json, host_command=command, takeover=args.takeover)
        if command is None:
            preflight.require_vllm(config, source_of(args))
            preflight.look(config, source_of(args), arguments=False)  # the hosts read them before any engine loads
        else:
            configuration.check_models(config, source_of(args))
        uvloop.run(serving.run())
    if serving.computing():  # threads that nobody waits for: the process must not end under them piece by piece
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)
    return 0


class Serving:
    """One run of the server.

    SIGTERM, SIGINT: no new connections; running answers finish, within `limits.drain_s`; a second one ends at once.
    SIGHUP: the routing settings and the members are read again, by `again`.
    SIGUSR2: the command line is run again, to take over.
    """

    def __init__(
        self,
        config: Config,
        *,
        again: Callable[[], Config] | None = None,
        json: bool = False,
        host_command: tuple[str, ...] | None = None,
        takeover: bool = False,
    ) -> None:
        """`takeover`: from the running server of this address, which is asked here. Raises `ConfigError`,
        `TakeoverError`."""
        from router.cli.handing_over import HandingOver
        from router.cli.places import places_of
        from router.cli.progress import progress
        from router.cli.same_engines import as_running, check_same_devices
        from router.cli.takeover import begin
        from router.frontend.server import Frontend
        from router.observe.metrics import Metrics
        from router.pipeline.router import Router

        metrics = Metrics()
        self._again = again
        self._progress = progress(json=json)
        self._takeover = begin(config) if takeover else None
        heritage = None
        if self._takeover is not None:
            config, heritage = as_running(config, self._takeover.engines), self._takeover.heritage
        self._router = Router(
            config, metrics=metrics, host_command=host_command, on_event=self._progress.engine, heritage=heritage
        )
        if self._takeover is not None:
            check_same_devices(self._router.config.pool, self._takeover.engines)
        self._places = places_of(self._router.config, self._router.machine.devices)
        self._frontend = Frontend(config.server, self._router, metrics, shown_config=lambda: self._router.config)
        self._handing_over = HandingOver(config, self._router, self._frontend)
        self._anew = Anew()
        self._signals = 0
        self._serves = False
        self._asked_to_reload = False  #: before it served
        self._now = asyncio.Event()

    async def run(self) -> None:
        """Until a signal, the admin port or another process that takes over ends it. Raises `ConfigError`,
        `EngineStartError`, `TakeoverError` when it cannot start."""
        takeover = self._takeover
        try:
            self._watch_signals()
            self._progress.places(self._places)
            # The ports first: one that is taken should not come to light after minutes of loading.
            await self._frontend.start(None if takeover is None else takeover.sockets)
            if await self._engines_started():
                if takeover is not None:
                    await takeover.commit(self._router.estate)
                    self._router.open_changes()
                    await self._frontend.accept()
                self._handing_over.open(None if takeover is None else takeover.listener)
                self._announce()
                self._reload_if_asked()
                await self._ended()
        finally:
            self._progress.close()
            await self._handing_over.close()
            await self._frontend.stop()
            await self._router.stop()
            if takeover is not None:
                takeover.close()

    def computing(self) -> bool:
        """Whether threads still read bodies or make scores that no request waits for any more."""
        return self._frontend.reading_unfinished + self._router.scoring_unfinished > 0

    async def _engines_started(self) -> bool:
        """False when a signal came first."""
        starting = asyncio.create_task(self._router.start())
        ending = asyncio.create_task(self._frontend.drain_requested.wait())
        await asyncio.wait((starting, ending), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            ending.cancel()
            starting.result()
            return True
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False

    async def _ended(self) -> None:
        """All that may finish has: after a signal, or as another process serves now."""
        given, ending = self._handing_over.given, self._frontend.drain_requested
        await _first(given.wait(), ending.wait())
        if given.is_set():
            await _first(self._left(), ending.wait())
        if ending.is_set():
            await self._handing_over.close()
            await self._drained()

    async def _left(self) -> None:
        """Of those that have come to us: running answers finish, and idle connections leave. There is no limit but
        their own: nobody waits for us."""
        await self._frontend.left()
        await self._predecessor_ended()
        await self._none_in_flight()

    async def _drained(self) -> None:
        await _first(self._all_drained(), self._now.wait())

    async def _all_drained(self) -> None:
        """Our answers, and those of a process from which we took over: its engines are ours."""
        until_s = asyncio.get_running_loop().time() + self._router.config.server.limits.drain_s
        await self._frontend.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until_s):
                await self._none_in_flight()
                await self._predecessor_ended()
        if left := self._router.in_flight():
            log.warning("ending: %d answers that run in the background are cut", left)

    async def _none_in_flight(self) -> None:
        """Those that have no connection too: `background` of the Responses API."""
        while self._router.in_flight():  # noqa: ASYNC110 - an event would be the business of each request
            await asyncio.sleep(_LOOK_S)

    async def _predecessor_ended(self) -> None:
        if self._takeover is not None:
            await self._takeover.old_ended.wait()

    def _announce(self) -> None:
        from router.cli.progress import ready_of

        settle()
        router, frontend = self._router, self._frontend
        ports = {"port": frontend.port, "admin_port": frontend.admin_port}
        self._progress.ready(ready_of(router.config, router.placements, router.logs, self._places, **ports))
        tell_systemd("READY=1", f"MAINPID={os.getpid()}")

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        loop.add_signal_handler(signal.SIGUSR2, self._anew.start)

    def _end(self) -> None:
        self._signals += 1
        if self._signals == 1:
            running = self._router.in_flight()
            log.info("ending: %d running answers may finish; a second signal ends at once", running)
            self._frontend.begin_drain()
        else:
            self._now.set()

    def _reload_if_asked(self) -> None:
        """From now on a SIGHUP is heeded at once; one that came before is now."""
        self._serves = True
        if self._asked_to_reload:
            self._reload()

    def _reload(self) -> None:
        from router.errors import ConfigError, RouterError

        if self._again is None:
            log.warning("SIGHUP: there is no config file to read again")
            return
        if not self._serves:
            self._asked_to_reload = True
            log.info("SIGHUP: the file is read again once this server serves")
            return
        try:
            config = self._again()
            change = None if self._router.changes is None else self._router.changes.reread(config)
            if change is None:
                self._router.reload(config.routing, config.objective)
        except (ConfigError, RouterError) as error:
            log.error("SIGHUP: nothing was changed: %s", error)
            return
        what = (
            "the routing settings were read again, and the objective"
            if change is None
            else "members change, as the file says"
        )
        log.info("SIGHUP: %s; server, devices, gpu, supervision, journal and batches need a restart", what)


async def _first(*those: Coroutine[Any, Any, object]) -> None:
    """Until one of them has ended; the others are cancelled."""
    tasks = [asyncio.create_task(each) for each in those]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def settle() -> None:
    """Tune the collector for serving: what start-up made is never looked at again, and requests make few cycles.
    And the allocator: what a large body took goes back to the system."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's
    if mallopt is not None:
        # Else a block of 16 MB that is freed has glibc keep 32 MB from then on, in the heap of each thread.
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 8 * _LARGE_BLOCK_BYTES)
