"""The storm against `headgate serve` as a process: what its clients saw, its metrics and its journal agree on the one
end of each request, also where the process is ended, or killed, in mid-round."""

import asyncio
import json
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from router.observe.journal import Reader
from router.observe.record import Record
from tests.conftest import PATIENCE_S
from tests.storm.books import Scrape, check, nothing_left, number
from tests.storm.house import tree
from tests.storm.plan import Planner
from tests.storm.rounds import Rounds

VISITS = 60


class Host(msgspec.Struct):
    name: str
    pid: int
    phase: str
    in_flight: int


class Served:
    """A server in another process, as its ports and its journal show it. Implements `tests.storm.rounds.Server`."""

    router = None

    def __init__(self, server: Any, journal: Path, session: aiohttp.ClientSession) -> None:
        self.port = int(server.url.rsplit(":", 1)[1])
        self._server = server
        self._journal = journal
        self._session = session
        self._hosts: list[Host] = []
        self._asked_s = 0.0
        self._asking = asyncio.Lock()

    async def hosts(self) -> Sequence[Host]:
        """At most 20 ms old; the last ones that were told, where the server tells no more."""
        async with self._asking:
            if time.monotonic() - self._asked_s > 0.02 and self._server.process.poll() is None:
                try:
                    told = json.loads(await self._get("/members"))["members"]
                except aiohttp.ClientError:
                    return self._hosts
                self._hosts, self._asked_s = msgspec.convert(told, list[Host]), time.monotonic()
        return self._hosts

    async def ended(self, wanted: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while all(number(record) != wanted for record in self.records()):
                await asyncio.sleep(0.1)

    def reload(self) -> None:
        self._server.signal(signal.SIGHUP)

    def records(self) -> list[Record]:
        return [line for line in Reader(self._journal) if isinstance(line, Record)]

    async def accounts_agree(self, rounds: Rounds) -> None:
        """Once all that is under way has ended, and pages and lines have come."""
        give_up = time.monotonic() + PATIENCE_S
        while True:
            page = Scrape(await self._get("/metrics"))
            try:
                assert nothing_left(page, connections=1), "requests are under way"
                check(rounds.seen, self.records(), page)
            except AssertionError:
                if time.monotonic() > give_up:
                    raise
                await asyncio.sleep(0.2)
            else:
                return

    async def _get(self, path: str) -> str:
        async with self._session.get(self._server.admin + path) as answer:
            return await answer.text()


async def play(server: Any, journal: Path, seed: int, end: signal.Signals) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        served = Served(server, journal, session)
        rounds = Rounds(served, Planner(seed, library=False, url=False), seed)
        await rounds.play(rounds.planner.round(VISITS))
        await rounds.hosts_are_idle()
        await served.accounts_agree(rounds)
        playing = asyncio.create_task(rounds.play(rounds.planner.round(VISITS, last=True)))
        await rounds.under_way(playing)
        server.signal(end)
        await playing
        code, said = await asyncio.to_thread(server.end)
        assert code == (0 if end == signal.SIGTERM else -signal.SIGKILL), said
        assert "Traceback" not in said, said
        check(rounds.seen, served.records(), None, ended=True)


@pytest.mark.parametrize(
    ("seed", "end", "sync"),
    [(1, signal.SIGTERM, "tick"), (2, signal.SIGKILL, "record"), (3, signal.SIGTERM, "record")],
    ids=["ended", "killed", "ended, with sync: record"],
)
def test_in_a_storm_clients_metrics_and_journal_agree_on_the_one_end_of_each_request(
    serve: Callable[..., Any],
    config: Callable[..., Path],
    tmp_path: Path,
    seed: int,
    end: signal.Signals,
    sync: str,
) -> None:
    journal = tmp_path / "journal"
    server = serve(config(**tree(tmp_path), journal={"path": str(journal), "sync": sync}))
    try:
        asyncio.run(play(server, journal, seed, end))
    except BaseException as error:
        error.add_note(f"in the storm of seed {seed}; the server said: {server.errors[-5000:]}")
        raise
    server.wait_childless()
