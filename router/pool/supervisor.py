"""Starts the pool's members side by side, each engine loading in its turn (`turns`), brings lost engines back, and asks
silent ones whether they live. Knows nothing of requests.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Literal

import msgspec

from router.config import Supervision
from router.errors import ArgumentsRefused, EngineStartError
from router.pool.base import PoolMember
from router.pool.costs import KEEP_S, WINDOW_S, keep, learn
from router.pool.engine import EngineMember
from router.pool.laned import ALIVE
from router.pool.mps import Mps
from router.pool.stages import StartProgress
from router.pool.turns import Turns
from router.pool.watch import Watch

log = logging.getLogger("headgate.pool")

_REJOIN_S = 0.5


class StartEvent(msgspec.Struct, frozen=True):
    """Progress of a member, for whoever shows it."""

    member: str
    what: Literal["starting", "progress", "ready", "failed"]
    seconds: float = 0.0
    why: str = ""
    log: str = ""  #: an engine's log file
    start: StartProgress | None = None  #: with `progress`


class Supervisor:
    """Owns the life of `members`; they do the work."""

    def __init__(self, members: Sequence[PoolMember], supervision: Supervision, mps: Mps | None = None) -> None:
        """`mps`: under which engines run; it starts before the first and ends after the last."""
        self.mps = mps
        self._members = members
        self._supervision = supervision
        self._turns = Turns(member.name for member in members if isinstance(member, EngineMember))
        self._tasks: set[asyncio.Task[None]] = set()
        self._watches: dict[PoolMember, Watch] = {}
        self._delays_s: dict[PoolMember, float] = {}
        self._revived: dict[PoolMember, asyncio.Task[None]] = {}
        self._stopped = self._handed_over = False

    async def start(self, on_event: Callable[[StartEvent], None] | None = None) -> None:
        """Return once every member has been started and one at least is ready; those that failed are tried again for as
        long as it takes. Raises the `EngineStartError` of the first that failed, and leaves nothing running, where all
        failed, or `supervision.require` is `all`; `ConfigError` where there is no MPS.
        """
        for member in self._members:
            self._own(member)
        try:
            if self.mps is not None:
                await self.mps.start()
            failed = await self._start_all(on_event or _log_event)
        except BaseException:
            await self.stop()
            raise
        for member, error in failed:
            again = "it is tried again" if self._supervision.restart else "it is not tried again"
            log.error("the pool is degraded: %s; %s", error, again)
            if self._supervision.restart:
                self._revived[member] = self._keep(self._start_until_ready(member, error.why))
        self._keep(self._watch())
        self._keep(self._price())

    async def stop(self) -> None:
        """Stop all members at once. Idempotent."""
        self._stopped = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(member.stop() for member in self._members))
        if self.mps is not None:
            await self.mps.stop()

    async def hand_over(self) -> None:
        """Another frontend looks after the engines from now on. Those that start are ended, those that were offered to
        it live on, and are joined as a client where they are lost."""
        self._handed_over = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        for member in self._members:
            if isinstance(member, EngineMember):
                member.tenure.release(member.link)
        if self.mps is not None:
            self.mps.own(False)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def join(self, member: PoolMember) -> None:
        """Start one more beside the others, and own its life from now on. Raises `EngineStartError`; then, and when it
        is cancelled, nothing is left of it."""
        self._own(member)
        try:
            if (error := await self._start_one(member, _log_event)) is not None:
                raise error
        except BaseException:
            await self.leave(member)
            raise
        self._members = (*self._members, member)

    def revive(self, member: PoolMember, why: str) -> None:
        """Start it again, as one that was lost because of `why`: it was one of ours."""
        self._members = (*self._members, member)
        self._own(member)
        self._revived[member] = self._keep(self._start_until_ready(member, why))

    def release(self, member: PoolMember) -> None:
        """Do not start it again where it is lost."""
        if isinstance(member, EngineMember):
            member.on_lost = None
        if (reviving := self._revived.pop(member, None)) is not None:
            reviving.cancel()

    async def leave(self, member: PoolMember) -> None:
        """Stop it: it is one of ours no more."""
        self.release(member)
        self._members = tuple(each for each in self._members if each is not member)
        self._watches.pop(member, None)
        self._delays_s.pop(member, None)
        await member.stop()

    async def _start_all(self, on_event: Callable[[StartEvent], None]) -> list[tuple[PoolMember, EngineStartError]]:
        """Those that failed. Raises where the server cannot do without them; then nothing starts any more."""
        starts = [asyncio.create_task(self._start_one(member, on_event)) for member in self._members]
        try:
            for ended in asyncio.as_completed(starts):
                error = await ended
                if error is not None and (self._supervision.require == "all" or isinstance(error, ArgumentsRefused)):
                    raise error
        finally:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
        made = zip(self._members, [start.result() for start in starts], strict=True)
        failed = [(member, error) for member, error in made if error is not None]
        if failed and len(failed) == len(self._members):
            raise _all_failed([error for _, error in failed])
        return failed

    async def _start_one(self, member: PoolMember, on_event: Callable[[StartEvent], None]) -> EngineStartError | None:
        """Why it failed; None when it is ready."""
        name = member.status().name
        begun = time.monotonic()
        on_event(StartEvent(name, "starting"))
        if isinstance(member, EngineMember):
            member.starting.told = lambda start: on_event(StartEvent(name, "progress", start.elapsed_s, start=start))
        try:
            await member.start()
        except EngineStartError as error:
            known = isinstance(error, ArgumentsRefused)  # its log says no more
            log_path = str(member.log_path) if isinstance(member, EngineMember) and not known else ""
            on_event(StartEvent(name, "failed", time.monotonic() - begun, error.why, log_path))
            return error
        finally:
            if isinstance(member, EngineMember):
                member.starting.told = None
        on_event(StartEvent(name, "ready", time.monotonic() - begun))
        return None

    def _own(self, member: PoolMember) -> None:
        if isinstance(member, EngineMember):
            member.on_lost = self._restarter(member)
            member.turn = partial(self._turns.start, member.loader)

    def _restarter(self, member: EngineMember) -> Callable[[], None]:
        def lost() -> None:
            if not self._stopped:
                if self._handed_over:
                    self._keep(self._rejoin(member))
                else:
                    self._revived[member] = self._keep(self._restart(member))

        return lost

    async def _restart(self, member: EngineMember) -> None:
        """Bring a lost engine back, more and more patiently: `backoff_s`, doubled up to `backoff_max_s`, +-25 %."""
        lived_s = time.monotonic() - member.ready_since_s
        try:
            await member.reap()
        except Exception:
            log.exception("engine %r: what is left of it could not be ended", member.name)
        if not self._supervision.restart:
            member.phase = "failed"
            return
        # One that dies soon after each start is as patiently restarted as one that does not start.
        healthy = lived_s > self._supervision.backoff_max_s
        await self._start_until_ready(member, member.last_error, healthy=healthy)

    async def _rejoin(self, member: EngineMember) -> None:
        """Its new owner starts it again; requests that still come to us can go there."""
        while not self._stopped:
            await asyncio.sleep(_REJOIN_S)
            if await self._started_again(member, log.debug):
                return

    async def _start_until_ready(self, member: PoolMember, why: str, *, healthy: bool = False) -> None:
        """Try again and again after it was lost, or did not start, because of `why`."""
        name = member.status().name
        while not self._stopped:
            wait_s = self._next_delay_s(member, healthy=healthy) * random.uniform(0.75, 1.25)
            healthy = False
            log.warning("engine %r is started again in %.1f s: %s", name, wait_s, why)
            await asyncio.sleep(wait_s)
            if isinstance(member, EngineMember):
                member.restarts += 1
            if await self._started_again(member):
                log.info("engine %r is ready after all", name)
                return
            why = member.status().last_error

    async def _started_again(self, member: PoolMember, say: Callable[..., None] = log.error) -> bool:
        """False when it failed. Whatever was raised on the way: it is said, and tried again."""
        try:
            await member.start()
        except EngineStartError as error:
            say("%s", error)
            return False
        except Exception as error:
            if isinstance(member, EngineMember):
                member.last_error = f"its start failed: {type(error).__name__}: {error}"
            log.exception("engine %r could not be started", member.status().name)
            return False
        return True

    def _next_delay_s(self, member: PoolMember, *, healthy: bool) -> float:
        first_s, most_s = self._supervision.backoff_s, self._supervision.backoff_max_s
        delay_s = first_s if healthy or member not in self._delays_s else min(2.0 * self._delays_s[member], most_s)
        self._delays_s[member] = delay_s
        return delay_s

    async def _watch(self) -> None:
        """Ask engines whether they live; kill those that leave a ping unanswered for `ping_timeout_s`."""
        pause_s = Watch(self._supervision.ping_s, self._supervision.ping_timeout_s).interval_s
        while True:
            await asyncio.sleep(pause_s)
            for member in self._members:
                if isinstance(member, EngineMember) and member.phase in ALIVE:
                    try:
                        self._look_at(member)
                    except Exception:  # the others must still be watched
                        log.exception("engine %r could not be asked whether it lives", member.name)

    async def _price(self) -> None:
        """Teach the engines' step models, and keep what they learnt."""
        learnt_s = kept_s = time.monotonic()
        try:
            while True:
                await asyncio.sleep(WINDOW_S)
                now_s = time.monotonic()
                self._teach(now_s - learnt_s)
                learnt_s = now_s
                if now_s >= kept_s + KEEP_S:
                    kept_s = now_s
                    await asyncio.to_thread(keep, [each.pricing for each in self._engines()])
        finally:
            keep([each.pricing for each in self._engines()])

    def _teach(self, took_s: float) -> None:
        engines = self._engines()  # not held between the windows: one may leave
        learn([each.pricing.load for each in engines], [each.loader.devices for each in engines], took_s)

    def _engines(self) -> list[EngineMember]:
        return [member for member in self._members if isinstance(member, EngineMember)]

    def _look_at(self, member: EngineMember) -> None:
        now_s, settings = time.monotonic(), self._supervision
        watch = self._watches.get(member)
        if watch is None:
            watch = self._watches[member] = Watch(settings.ping_s, settings.ping_timeout_s)
        verdict = watch.look(now_s, member.last_heard_s)
        if verdict == "ask":
            member.ping()
        elif verdict == "hung":
            why = f"it was silent for {now_s - member.last_heard_s:.0f} s and was killed"
            log.error("engine %r: %s", member.name, why)
            member.kill(why)

    def _keep(self, coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the supervisor failed", exc_info=error)


def _all_failed(errors: Sequence[EngineStartError]) -> EngineStartError:
    """The first, with the words of the others."""
    if len(errors) == 1:
        return errors[0]
    others = "; ".join(f"engine {error.member!r}: {error.why}" for error in errors[1:])
    return EngineStartError(errors[0].member, f"{errors[0].why}; {others}")


def _log_event(event: StartEvent) -> None:
    if event.what == "progress":
        return
    log.info("engine %r: %s %s", event.member, event.what, event.why)
