"""`server.uds`: a Unix socket in the place of host and port; `server.root_path`: what a proxy leaves on paths."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from router.config import Server
from router.errors import ConfigError
from router.frontend.server import Frontend
from router.observe.metrics import Metrics
from tests.conftest import until
from tests.frontend.conftest import REPLY, Client, Response, ScriptedService, chat, get

Start = Callable[..., Any]


@pytest.fixture
async def start(replying: ScriptedService) -> AsyncIterator[Start]:
    made: list[Frontend] = []

    async def begin(**server: Any) -> Frontend:
        made.append(Frontend(Server(port=0, admin_port=0, **server), replying, Metrics(process=False)))
        await made[-1].start()
        return made[-1]

    yield begin
    for frontend in made:
        await frontend.stop()


async def asked(path: Path | str, data: bytes) -> Response:
    client = Client(*await asyncio.open_unix_connection(str(path)))
    client.send(data)
    response = await client.response()
    await client.close()
    return response


async def test_a_unix_socket_answers_and_its_file_goes_with_it(tmp_path: Path, start: Start) -> None:
    path = tmp_path / "s"
    frontend = await start(uds=str(path))
    assert frontend.port == 0
    assert (await asked(path, chat())).body == REPLY
    await until(lambda: frontend.connections == 0)
    await frontend.stop()
    assert not path.exists()


async def test_a_socket_that_nobody_listens_on_is_replaced(tmp_path: Path, start: Start) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    await start(uds=str(path))
    assert (await asked(path, get("/health"))).status == 200


async def test_a_socket_in_use_is_refused_and_left(tmp_path: Path, start: Start) -> None:
    path = tmp_path / "s"
    await start(uds=str(path))
    with pytest.raises(ConfigError, match=r"cannot listen on .*: address already in use - at `\$.server.uds`"):
        await start(uds=str(path))
    assert (await asked(path, get("/health"))).status == 200


@pytest.mark.parametrize("what", ["file", "folder", "no folder"])
async def test_what_is_no_socket_is_refused_and_left(tmp_path: Path, start: Start, what: str) -> None:
    path = tmp_path / "s"
    if what == "file":
        path.write_text("mine")
    elif what == "folder":
        path.mkdir()
    else:
        path = tmp_path / "none" / "s"
    with pytest.raises(ConfigError, match=r"at `\$.server.uds`"):
        await start(uds=str(path))
    assert path.exists() == (what != "no folder")


async def test_a_file_that_took_the_place_of_ours_is_left(tmp_path: Path, start: Start) -> None:
    path = tmp_path / "s"
    frontend = await start(uds=str(path))
    os.unlink(path)
    path.write_text("mine")
    await frontend.stop()
    assert path.read_text() == "mine"


async def test_a_prefix_that_a_proxy_leaves_on_paths_is_passed_over(tmp_path: Path, start: Start) -> None:
    path = tmp_path / "s"
    await start(uds=str(path), root_path="/llm/v2")
    for prefix in ("", "/llm/v2"):
        for route in ("/health", "/v1/models", "/v1/models/small", "/ready?x=1"):
            assert (await asked(path, get(prefix + route))).status == 200
        assert (await asked(path, chat().replace(b" /v1", f" {prefix}/v1".encode()))).body == REPLY
    for unknown in ("/llm/v2", "/llm/v1/models", "/llm/v2health", "/llm/v2/llm/v2/health"):
        assert (await asked(path, get(unknown))).status == 404
    response = await asked(path, get("/llm/v2/v1/messages"))
    assert (response.status, json.loads(response.body)["type"]) == (405, "error")
