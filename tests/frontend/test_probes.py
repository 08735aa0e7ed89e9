"""What probes and tools are told, on both ports, without a key."""

import json
from typing import Any

import msgspec
import pytest

from router.frontend.server import Frontend
from router.version import __version__
from tests.frontend.conftest import REPLY, Ask, House, Response, ScriptedService, chat, get, post

PROBES = ("/live", "/health", "/ready", "/ping", "/load", "/version", "/metrics")


async def asked(house: House, frontend: Frontend, data: bytes, *, admin: bool = False) -> Response:
    client = await house.connect(frontend, admin=admin)
    client.send(data.replace(b"Host: h", b"Host: localhost"))
    return await client.response()


async def test_no_probe_needs_a_key(house: House, replying: ScriptedService) -> None:
    frontend = await house.start(replying, api_keys=("one",))
    for path in PROBES:
        assert (await asked(house, frontend, get(path))).status == 200
    assert (await asked(house, frontend, post("/invocations", b"{}"))).status == 401


async def test_the_admin_port_has_the_probes_too(house: House, replying: ScriptedService) -> None:
    frontend = await house.start(replying)
    for path in PROBES:
        status = 404 if path == "/ping" else 200
        assert (await asked(house, frontend, get(path), admin=True)).status == status


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_health_and_ping_are_503_until_a_model_can_answer(
    house: House, replying: ScriptedService, method: str
) -> None:
    frontend = await house.start(replying)
    paths = ["/ping", "/health"] if method == "GET" else ["/ping"]
    for ready, status in ((False, 503), (True, 200), (False, 503)):
        replying.ready = ready
        for path in paths:
            response = await asked(house, frontend, get(path, method=method))
            assert (response.status, "retry-after" in response.headers) == (status, status == 503)
        assert (await asked(house, frontend, get("/live"))).status == 200


async def test_health_stays_200_in_a_drain_and_ready_does_not(house: House, replying: ScriptedService) -> None:
    frontend = await house.start(replying)
    frontend.begin_drain()
    assert (await asked(house, frontend, get("/health"), admin=True)).status == 200
    assert (await asked(house, frontend, get("/ready"), admin=True)).status == 503


async def test_load_counts_the_requests_that_run(house: House, service: ScriptedService) -> None:
    frontend = await house.start(service)
    assert json.loads((await asked(house, frontend, get("/load"))).body) == {"server_load": 0}
    client = await house.connect(frontend)
    client.send(chat())
    await service.asked()
    assert json.loads((await asked(house, frontend, get("/load"))).body) == {"server_load": 1}


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (["vllm 0.32.0", "vllm 0.32.0"], "0.32.0"),
        (["vllm 0.32.0", "vllm 0.33.0"], __version__),
        (["vllm 0.32.0", ""], __version__),
        (["http://user:pass@h"], __version__),
        ([], __version__),
    ],
)
async def test_version_is_vllms_where_all_engines_agree(
    house: House, told: list[str], shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = ScriptedService()
    (member,) = service.members()
    url = msgspec.structs.replace(member, name="url", kind="openai")
    members = tuple(msgspec.structs.replace(member, engine_version=version) for version in told)
    monkeypatch.setattr(service, "members", lambda: (*members, url))
    response = await asked(house, await house.start(service), get("/version"))
    assert json.loads(response.body) == {"version": shown, "headgate": __version__}


@pytest.mark.parametrize(
    ("body", "kind"), [({"messages": [{"role": "user", "content": "x"}]}, "chat"), ({"prompt": "x"}, "completions")]
)
@pytest.mark.parametrize("padding", [0, 300_000])
async def test_an_invocation_is_answered_as_what_its_body_is(
    ask: Ask, replying: ScriptedService, body: dict[str, Any], kind: str, padding: int
) -> None:
    response = await ask(post("/invocations", body | {"user": "x" * padding}))
    assert (response.status, response.body) == (200, REPLY)
    assert replying.requests[0].query.kind == kind


@pytest.mark.parametrize("padding", [0, 300_000])
async def test_an_invocation_that_is_neither_is_refused(ask: Ask, padding: int) -> None:
    response = await ask(post("/invocations", {"inputs": "x", "user": "x" * padding}))
    assert response.status == 400
    assert "expected one of `messages` (chat), `prompt` (completions)" in str(response.error["message"])
