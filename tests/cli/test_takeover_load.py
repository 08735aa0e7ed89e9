"""Two takeovers, one after the other, under streams and short requests of many clients, over connections that are kept
and over new ones: every request is answered, whole."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from router.observe.journal import Reader
from router.observe.record import Record
from tests.cli.test_takeover import script
from tests.conftest import until

CHUNKS = 20


class Clients:
    """Each asks again and again until `stop`; `faults` must stay empty."""

    def __init__(self, url: str) -> None:
        self._url = url + "/v1/chat/completions"
        self.stop = False
        self.whole = 0
        self.ids: list[str] = []  #: of requests that were answered
        self.faults: list[str] = []

    async def run(self, *, stream: bool, kept: bool, pause_s: float) -> None:
        connector = aiohttp.TCPConnector(limit=1, force_close=not kept)
        async with aiohttp.ClientSession(connector=connector) as session:
            while not self.stop:
                try:
                    await self._ask(session, stream)
                except (aiohttp.ClientError, AssertionError, OSError) as error:
                    self.faults.append(repr(error))
                await asyncio.sleep(pause_s)

    async def _ask(self, session: aiohttp.ClientSession, stream: bool) -> None:
        steps: list[list[Any]] = [["chunk", '{"a":1}'], ["done"]]
        if stream:
            steps = [*(step for i in range(CHUNKS) for step in (["chunk", f"data: {i}\n\n"], ["sleep", 0.02]))]
            steps += [["chunk", "data: [DONE]\n\n"], ["done"]]
        async with session.post(self._url, json=script(*steps, stream=stream)) as answer:
            body = await answer.read()
            assert answer.status == 200, body
            wanted = [f"data: {i}" for i in range(CHUNKS)] + ["data: [DONE]"]
            assert body.decode().split() == " ".join(wanted).split() if stream else json.loads(body) == {"a": 1}, body
            self.whole += 1
            self.ids.append(answer.headers["x-request-id"])

    async def goes_on(self) -> None:
        """Until so many more have been answered."""
        before = self.whole
        await until(lambda: self.whole >= before + 60, lambda: (self.whole, self.faults))


async def load(clients: Clients, takes: Callable[[], Any]) -> None:
    running = [
        asyncio.create_task(clients.run(stream=stream, kept=kept, pause_s=pause_s))
        for stream in (True, False)
        for kept in (True, False)
        for pause_s in (0.0, 0.0, 0.003, 0.2)
    ]
    await clients.goes_on()
    for _ in range(2):
        await asyncio.to_thread(takes)
        await clients.goes_on()
    clients.stop = True
    await asyncio.gather(*running)


@pytest.mark.parametrize("sync", ["tick", "record"])
def test_no_request_fails_or_is_cut_in_two_takeovers_under_load_and_the_journal_has_each_once(
    serve: Any, taking: Any, config: Callable[..., Path], tmp_path: Path, sync: str
) -> None:
    journal = tmp_path / "journal"
    file = config(journal={"path": str(journal), "sync": sync, "segment_bytes": 65_536})
    servers = [serve(file)]
    clients = Clients(servers[0].url)
    asyncio.run(load(clients, lambda: servers.append(taking(servers[-1], file))))
    assert clients.faults == []
    for old in servers[:-1]:
        code, error = old.end()
        assert (code, "Traceback" in error, "ERROR" in error) == (0, False, False), error
    servers[-1].signal(15)
    assert servers[-1].end()[0] == 0
    records = [line for line in Reader(journal) if isinstance(line, Record)]
    assert sorted(record.request_id for record in records) == sorted(clients.ids)
    assert {record.status for record in records} == {200}
