"""Members sleep when they are idle, and wake for a request: puts what `pool.sleep` says into effect.

A GPU's engine sleeps by vLLM's sleep mode: its process lives and gives the memory back. Where that is not on, as on a
CPU, its process is ended, and started again to wake it. All of it runs on one event loop.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Final

import msgspec

from router.config import Config, Member, Supervision, by_argument_name, switched_on
from router.errors import EngineFailed, HeadgateError
from router.ipc.spec import EngineCall
from router.pipeline.calls import ask
from router.pool.base import PoolMember
from router.pool.engine import EngineMember
from router.pool.sleep import Sleeper

log = logging.getLogger("headgate.pipeline")

_LOOK_S: Final = 0.25
#: Waking a large model takes seconds, its first sleep ten.
_LIMIT_S: Final = 600.0


class Sleeping:
    """Of one router's pool, which may change."""

    def __init__(self) -> None:
        self._naps: dict[EngineMember, _Nap] = {}
        self._looking: asyncio.Task[None] | None = None

    def follow(self, config: Config, pool: Sequence[PoolMember], *, rehearsed: bool = False) -> None:
        """The pool is this one from now on, in the config's order. `rehearsed`: its engines have slept before."""
        told = {
            runs: (member, member.sleep)
            for member, runs in zip(config.pool, pool, strict=True)
            if isinstance(runs, EngineMember) and member.sleep is not None
        }
        for gone in [runs for runs in self._naps if runs not in told]:
            self._naps.pop(gone).end("was removed")
        for runs, (member, settings) in told.items():
            if runs not in self._naps:
                level = settings.level if sleeps_by_mode(member) else 0
                nap = self._naps[runs] = _Nap(runs, settings.after_s, level, config.supervision)
                nap.rehearsed = nap.rehearsed or rehearsed
        if self._naps and self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def stop(self) -> None:
        """Put nobody to sleep, and wake nobody, any more."""
        tasks = [task for nap in self._naps.values() if (task := nap.task) is not None]
        tasks += [self._looking] if self._looking is not None else []
        self._looking = None
        for nap in self._naps.values():
            nap.end("is shut down")
        self._naps = {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            for nap in list(self._naps.values()):
                try:
                    nap.look(time.monotonic())
                except Exception:  # the others must still be looked at
                    log.exception("engine %r could not be looked at for sleep", nap.member.name)


class _Nap:
    """One member's. `level`: vLLM's; 0: its process is ended."""

    def __init__(self, member: EngineMember, after_s: float, level: int, supervision: Supervision) -> None:
        now_s = time.monotonic()
        self.member = member
        self.task: asyncio.Task[None] | None = None
        self._level = level
        self._seen = member.lane.last_id  #: requests that came so far
        self._sleeper = Sleeper(after_s, supervision.backoff_s, supervision.backoff_max_s, now_s)
        self.rehearsed = level == 0  #: the first sleep, which is slow
        member.sleeper = self._sleeper
        member.on_asked = self._asked

    def end(self, why: str) -> None:
        if self.task is not None:
            self.task.cancel()  # a start is given up, and leaves nothing
        self.member.sleeper = self.member.on_asked = None
        self.member.settle(time.monotonic())
        self.member.held.fail(self.member.name, why)

    def look(self, now_s: float) -> None:
        member, sleeper = self.member, self._sleeper
        if self.task is not None:
            return
        if member.in_flight or len(member.held) or member.lane.last_id != self._seen:
            sleeper.busy(now_s)
            self._seen = member.lane.last_id
        if member.phase == "ready" and sleeper.state != "awake":
            sleeper.is_awake(now_s)  # woken by hand, or started anew
            member.settle(now_s)
        if member.phase == "asleep" and sleeper.state == "awake":
            sleeper.is_asleep()  # put to sleep by hand, or by the process that we took over from
            member.settle(time.monotonic())
        if sleeper.state == "away" and sleeper.wakes(now_s):
            self._do(self._wake())
        elif member.phase == "ready" and not member.in_flight:
            if not self.rehearsed:
                self.rehearsed = True
                self._do(self._rehearse())
            elif sleeper.falls(now_s):
                self._do(self._fall())

    def _asked(self) -> None:
        if self.task is None and self._sleeper.wakes(time.monotonic()):
            self._do(self._wake())

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        self.task = task = asyncio.get_running_loop().create_task(what)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self.task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("engine %r: its sleep failed", self.member.name, exc_info=error)
        if self.member.on_asked is not None and len(self.member.held):  # asked while it fell asleep
            self._asked()

    async def _rehearse(self) -> None:
        """The first sleep takes long: done while nobody waits, and ended at once."""
        self._sleeper.state = "falling"
        await self._fall()
        if self._sleeper.wakes(time.monotonic()):
            await self._wake()

    async def _fall(self) -> None:
        member, sleeper = self.member, self._sleeper
        begun_s = time.monotonic()
        if member.in_flight:  # since it was looked at
            sleeper.stayed(begun_s)
            return
        try:
            if self._level:
                member.fall_asleep(True)
                await self._told("/sleep", f"level={self._level}")
            else:
                await member.park()
        except (HeadgateError, TimeoutError) as error:
            log.error("engine %r could not be put to sleep: %s", member.name, error)
            member.fall_asleep(False)
            sleeper.stayed(time.monotonic())
            member.settle(time.monotonic())
            member.held.hand_over(member)
            return
        sleeper.fell()
        member.settle(time.monotonic())
        log.info("engine %r sleeps, after %.1f s", member.name, time.monotonic() - begun_s)

    async def _wake(self) -> None:
        member, sleeper = self.member, self._sleeper
        member.settle(time.monotonic())
        try:
            if self._level == 0 and member.phase in ("parked", "failed"):
                await member.start()
            elif member.phase == "asleep":
                await self._told("/wake_up", "")
                member.fall_asleep(False)
            if member.phase not in ("ready", "draining"):
                raise EngineFailed(f"it is {member.phase}")
        except (HeadgateError, TimeoutError) as error:
            sleeper.failed(time.monotonic())
            member.last_error = f"it could not be woken: {error}"
            log.error("engine %r could not be woken: %s", member.name, error)
            member.settle(time.monotonic())
            member.held.fail(member.name, f"could not be woken: {error}")
            return
        sleeper.woke(time.monotonic())
        member.settle(time.monotonic())
        log.info("engine %r is awake, after %.1f s", member.name, sleeper.wake_s)
        member.held.hand_over(member)

    async def _told(self, path: str, query: str) -> None:
        """Raises `RouterError`, `TimeoutError`."""
        call = EngineCall(path=path, query=query)
        await ask(self.member, msgspec.json.encode(call), _LIMIT_S, "admin")


def sleeps_by_mode(member: Member) -> bool:
    """vLLM's sleep mode is on; else its process is ended."""
    return switched_on(by_argument_name(member.engine_args).get("enable_sleep_mode"))
