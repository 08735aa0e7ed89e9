"""Plays the rounds of a plan against a server: its clients, and what befalls its engine hosts meanwhile."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from router import Router
from tests.conftest import PATIENCE_S, until
from tests.storm.clients import Seen, call_library, call_on
from tests.storm.plan import MEMBERS, Act, Plan, Planner, Visit

AT_ONCE = 28  #: connections
_LOOK_S = 0.02


class Host(Protocol):
    """One member, as the server tells of it."""

    @property
    def pid(self) -> int: ...

    @property
    def phase(self) -> str: ...


class Server(Protocol):
    port: int
    router: Router | None  #: for requests of the library, where it is in this process

    async def hosts(self) -> Sequence[Host]:
        """Its engines, in the pool's order."""
        ...

    async def ended(self, number: int) -> None:
        """Returns once the server has ended that request."""
        ...

    def reload(self) -> None:
        """Have it read its routing settings again."""
        ...


class Rounds:
    """`seen`: the ends of all requests so far, as their clients saw them."""

    def __init__(self, server: Server, planner: Planner, seed: int) -> None:
        self.planner = planner
        self.seen: list[Seen] = []
        self.begun = 0  #: requests of this round
        self.ending = False  #: the server ends: no client waits for an engine any more
        self._server = server
        self._random = random.Random(seed)

    async def play(self, plan: Plan) -> None:
        """All of a round at once; returns when every client has its end."""
        self.begun = 0
        free = asyncio.Semaphore(AT_ONCE)

        async def one(visit: Visit) -> None:
            async with free:
                self.seen += await self._call(visit)

        acting = asyncio.create_task(self._act_all(plan.acts))
        await asyncio.gather(*map(one, plan.visits))
        await acting

    async def under_way(self, playing: "asyncio.Task[None]") -> None:
        """Until so many requests of a round were begun as run at once, and a random while longer."""
        await until(lambda: self.begun >= AT_ONCE or playing.done(), lambda: self.begun)
        await asyncio.sleep(self._random.uniform(0.0, 0.4))
        self.ending = True

    async def hosts_are_idle(self) -> None:
        """Until every engine lives, and has ended what it ran: what clients left was aborted there."""
        await self._until_hosts(lambda phases: phases == {"ready"})
        for member in MEMBERS:
            give_up = time.monotonic() + PATIENCE_S
            while running := await self._running(member):
                assert time.monotonic() < give_up, f"{member!r} still runs {running} requests, which all have ended"
                await asyncio.sleep(_LOOK_S)

    async def _running(self, member: str) -> int:
        """Requests that it runs; -1 where it could not be asked."""
        self.seen += (told := await self._call_on(Visit((self.planner.count(member),))))
        return told[0].running

    async def _until_hosts(self, true: Callable[[set[str]], bool]) -> None:
        """Until `true` of the phases that there are."""
        give_up = time.monotonic() + PATIENCE_S
        while not true({host.phase for host in await self._server.hosts()}):
            assert time.monotonic() < give_up, f"not within {PATIENCE_S:g} s: {await self._server.hosts()}"
            await asyncio.sleep(_LOOK_S)

    # Clients

    async def _call(self, visit: Visit) -> list[Seen]:
        if self._random.random() < 0.8:
            await self._until_hosts(lambda phases: "ready" in phases or self.ending)
        if not visit.asks[0].library:
            return await self._call_on(visit)
        assert self._server.router is not None
        self._begin()
        return [await call_library(self._server.router, visit.asks[0])]

    async def _call_on(self, visit: Visit) -> list[Seen]:
        return await call_on(self._server.port, visit, self._begin, self._server.ended)

    def _begin(self) -> None:
        self.begun += 1

    # Blows

    async def _act_all(self, acts: Sequence[Act]) -> None:
        for act in acts:
            await until(lambda act=act: self.begun >= act.at, lambda: self.begun)
            await self._act(act)

    async def _act(self, act: Act) -> None:
        hosts = await self._server.hosts()
        pid = hosts[act.member].pid
        if act.blow == "reload":
            self._server.reload()
        elif act.blow == "kill all":
            for host in hosts:
                _signal(host.pid, signal.SIGKILL)
        elif act.blow == "kill core":
            for core in _children(pid):
                _signal(core, signal.SIGKILL)
        elif act.blow == "kill":
            _signal(pid, signal.SIGKILL)
        else:
            _signal(pid, signal.SIGSTOP)
            await asyncio.sleep(act.for_s)
            _signal(pid, signal.SIGCONT if act.blow == "freeze and thaw" else signal.SIGKILL)


def _signal(pid: int, number: int) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
