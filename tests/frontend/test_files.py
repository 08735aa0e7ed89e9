"""Open files: as many as `limits.connections` needs are taken in silence; too few are told where it matters."""

import asyncio
import logging

import pytest

from router.config import Limits
from router.frontend import server
from router.frontend.server import within_file_limit
from tests.frontend.conftest import House, ScriptedService


def allow(monkeypatch: pytest.MonkeyPatch, files: int) -> None:
    monkeypatch.setattr(server, "raise_file_limit", lambda wanted: files)


@pytest.mark.parametrize(
    ("files", "connections", "wanted"),
    [
        (20_256, 20_000, 0),
        (1 << 20, 20_000, 0),
        (-1, 20_000, 0),  # no limit
        (4096, 3840, 20_256),
        (1024, 768, 20_256),
        (100, 50, 20_256),
    ],
)
def test_connections_are_no_more_than_files_can_be_had_for(
    files: int, connections: int, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(monkeypatch, files)
    limits, missing = within_file_limit(Limits())
    assert (limits.connections, missing) == (connections, wanted)


async def test_a_usual_machine_hears_nothing_of_files(
    house: House, replying: ScriptedService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    allow(monkeypatch, 20_000)  # the hard limit of many a container: 256 less than the default asks for
    with caplog.at_level(logging.DEBUG):
        await house.start(replying)
    assert "file" not in caplog.text


async def test_connections_that_were_asked_for_and_cannot_be_had_are_told_with_the_remedy(
    house: House, replying: ScriptedService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    allow(monkeypatch, 1024)
    with caplog.at_level(logging.WARNING):
        await house.start(replying, connections=50_000)
    assert "at most 768 clients can be connected, not the 50000 of `$.server.limits.connections`" in caplog.text
    assert "raise its hard limit to 50256 (`ulimit -Hn`, or LimitNOFILE of a systemd unit)" in caplog.text


async def test_when_files_keep_clients_out_it_is_told_once(
    house: House, replying: ScriptedService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    allow(monkeypatch, 6)
    with caplog.at_level(logging.WARNING):
        frontend = await house.start(replying)
        for _ in range(3):
            await house.connect(frontend)
        async with asyncio.timeout(60):
            while "clients can be connected" not in caplog.text:
                await asyncio.sleep(0.02)
            frontend._sweep()
            frontend._sweep()
    assert caplog.text.count("at most 3 clients can be connected, not the 20000") == 1
