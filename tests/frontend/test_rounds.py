"""However many connections are told the same at one moment: others get their turn in between."""

import asyncio
from itertools import pairwise
from time import perf_counter
from typing import Any

import pytest

from router.frontend.connection import Connection
from router.frontend.rounds import AT_ONCE
from tests.frontend.conftest import House, ScriptedService
from tests.frontend.test_pipelining import Transport

MANY = 5_000


class Slow(Transport):
    """Takes for its close as long as a real one."""

    def close(self) -> None:
        until = perf_counter() + 50e-6
        while perf_counter() < until:
            pass
        super().close()


async def _crowd(house: House, **limits: float) -> tuple[Any, list[Transport]]:
    frontend = await house.start(ScriptedService(), **limits)
    transports = []
    for _ in range(MANY):
        connection, transport = Connection(frontend._public), Slow()
        connection.connection_made(transport)  # type: ignore[arg-type]
        transports.append(transport)
    return frontend, transports


@pytest.mark.parametrize("moment", ["all are late", "a drain begins"])
async def test_thousands_of_connections_are_closed_in_many_turns(house: House, moment: str) -> None:
    frontend, transports = await _crowd(house, keepalive_s=5)
    listener = frontend._public
    if moment == "all are late":
        listener.sweep(listener.now + 100)
    else:
        frontend.begin_drain()
    closed = [sum(each.closed for each in transports)]
    assert closed[0] == AT_ONCE
    async with asyncio.timeout(60):
        while closed[-1] < MANY:
            await asyncio.sleep(0)
            closed.append(sum(each.closed for each in transports))
    assert max(after - before for before, after in pairwise(closed)) < MANY / 4
    for each in tuple(listener.connections):
        each.connection_lost(None)


async def test_one_that_is_late_no_more_by_its_turn_goes_on(house: House) -> None:
    frontend, transports = await _crowd(house, keepalive_s=5)
    listener = frontend._public
    listener.sweep(listener.now + 100)
    kept = [each for each in listener.connections if each.deadline < listener.now]
    assert len(kept) == MANY - AT_ONCE
    for each in kept:
        each.deadline = listener.now + 1
    async with asyncio.timeout(60):
        while listener.turns:
            await asyncio.sleep(0)
    assert sum(each.closed for each in transports) == AT_ONCE
    for connection in tuple(listener.connections):
        connection.connection_lost(None)


async def test_a_stop_waits_for_no_turn(house: House) -> None:
    frontend, transports = await _crowd(house)
    await frontend.stop()
    assert all(each.closed for each in transports)
