"""API keys, the admin port, and what happens at start."""

import asyncio
import json
import socket

import msgspec
import pytest

from router.config import Config, Limits, Member, Server
from router.errors import ConfigError
from router.frontend.redact import redacted
from router.frontend.server import Frontend
from router.observe.metrics import Metrics
from tests.frontend.conftest import House, ScriptedService, chat, get, post

LOCAL = "Host: localhost"


def local(path: str, *headers: str) -> bytes:
    return get(path, *headers).replace(b"Host: h", b"Host: localhost:1")


@pytest.mark.parametrize("header", ["Authorization: Bearer two", "authorization: bearer two", "X-API-Key: two"])
async def test_a_right_key_opens(house: House, replying: ScriptedService, header: str) -> None:
    client = await house.connect(await house.start(replying, api_keys=("one", "two")))
    client.send(chat(header))
    assert (await client.response()).status == 200


@pytest.mark.parametrize(
    "header",
    ["X: y", "Authorization: Bearer", "Authorization: Basic two", "Authorization: two", "X-API-Key: tw", "X-API-Key: "],
)
async def test_a_wrong_key_does_not(house: House, replying: ScriptedService, header: str) -> None:
    client = await house.connect(await house.start(replying, api_keys=("one", "two")))
    for data in (chat(header), get("/v1/models", header), post("/v1/messages", b"{}", header)):
        client.send(data)
        response = await client.response()
        assert response.status == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert "API key" in response.body.decode()
        assert "two" not in response.body.decode()
    assert replying.requests == []


async def test_a_large_body_without_a_key_is_not_read(house: House, replying: ScriptedService) -> None:
    client = await house.connect(await house.start(replying, api_keys=("one",)))
    client.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 30000000\r\n\r\n")
    assert (await client.response()).status == 401


@pytest.mark.parametrize("keys", [("",), ("", "real"), ("real", " "), ("real\n",)])
def test_a_frontend_with_an_empty_key_is_not_made(replying: ScriptedService, keys: tuple[str, ...]) -> None:
    """Also where nobody checked the config: a program may make its own."""
    with pytest.raises(ConfigError, match=r"the API key .* at `\$.server.api_keys\[\d\]`"):
        Frontend(Server(api_keys=keys), replying, Metrics(process=False))


async def test_probes_need_no_key(house: House, replying: ScriptedService) -> None:
    client = await house.connect(await house.start(replying, api_keys=("one",)))
    for path in ("/health", "/ready", "/version", "/metrics"):
        client.send(get(path))
        assert (await client.response()).status == 200


async def test_admin_routes(house: House, replying: ScriptedService) -> None:
    client = await house.connect(await house.start(replying), admin=True)
    for path in ("/health", "/ready", "/metrics"):
        client.send(local(path))
        assert (await client.response()).status == 200
    client.send(local("/members"))
    (member,) = json.loads((await client.response()).body)["members"]
    assert (member["name"], member["restarts"], member["state"]["kv_use"]) == ("small", 2, 0.25)
    client.send(local("/v1/models"))
    assert (await client.response()).status == 404
    client.send(local("/drain"))
    assert (await client.response()).status == 405


ADMIN_PATHS = ("/health", "/ready", "/metrics", "/config", "/members", "/drain", "/none", "/")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "DELETE", "PUT"])
async def test_web_pages_cannot_use_any_route_of_the_admin_port(
    house: House, replying: ScriptedService, method: str
) -> None:
    frontend = await house.start(replying)
    client = await house.connect(frontend, admin=True)
    for path in ADMIN_PATHS:
        for headers in (
            ("Host: localhost:1", "Origin: http://localhost:1"),
            ("Host: localhost:1", "Origin: null"),
            ("Host: localhost:1", "Origin:", "Content-Type: application/json"),
            ("Host: 127.0.0.1:8001", "Sec-Fetch-Site: cross-site"),
            ("Host: 127.0.0.1:8001", "Sec-Fetch-Site: same-site"),
            ("Host: evil.example:8001",),
            ("Host: 127.0.0.1.evil.example",),
            ("Host: localhost.evil.example",),
            ("Host: localhost.",),
            ("Host: 127.1",),
            ("Host: 256.0.0.1",),
            ("Host:",),
        ):
            lines = "".join(f"{line}\r\n" for line in headers)
            client.send(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode())
            response = await client.response(to_head=method == "HEAD")
            assert response.status == 400
            if method != "HEAD":
                assert "not from web pages" in str(response.error["message"])
    assert not frontend.draining()


@pytest.mark.parametrize("host", ["evil:1:1", "[evil]", "127.0.0.1/x", "a b"])
async def test_a_host_of_no_right_form_is_refused_by_the_admin_port(
    house: House, replying: ScriptedService, host: str
) -> None:
    client = await house.connect(await house.start(replying), admin=True)
    client.send(get("/config").replace(b"Host: h", f"Host: {host}".encode()))
    assert (await client.response()).status == 400


async def test_an_admin_port_that_others_reach_is_warned_of(
    house: House, replying: ScriptedService, caplog: pytest.LogCaptureFixture
) -> None:
    for host, warned in (("127.0.0.1", False), ("0.0.0.0", True)):
        caplog.clear()
        server = Server(port=0, admin_port=0, admin_host=host, api_keys=("k",))
        frontend = Frontend(server, replying, Metrics(process=False))
        await frontend.start()
        house.frontends.append(frontend)
        assert ("whoever reaches the admin port" in caplog.text) is warned


@pytest.mark.parametrize("host", ["127.0.0.1:8001", "[::1]:8001", "10.0.0.7", "localhost", "[::1]", "LocalHost:"])
async def test_the_admin_port_is_asked_by_address(house: House, replying: ScriptedService, host: str) -> None:
    client = await house.connect(await house.start(replying), admin=True)
    client.send(get("/members").replace(b"Host: h", f"Host: {host}".encode()))
    assert (await client.response()).status == 200


async def test_the_config_is_shown_without_secrets(house: House, replying: ScriptedService) -> None:
    members = (
        Member(name="a", kind="openai", url="http://user:hunter2@h/v1", api_key="sk-1"),
        Member(name="b", model="m", env={"HF_TOKEN": "hf-1"}, engine_args={"hf_token": "hf-2", "max_model_len": 4096}),
    )
    config = Config(server=Server(port=0, admin_port=0, api_keys=("k-1",)), pool=members)
    frontend = Frontend(config.server, replying, Metrics(process=False), shown_config=lambda: config)
    await frontend.start()
    house.frontends.append(frontend)
    client = await house.connect(frontend, admin=True)
    client.send(local("/config"))
    response = await client.response()
    shown = json.loads(response.body)
    for secret in ("hunter2", "sk-1", "hf-1", "hf-2", "k-1"):
        assert secret not in response.body.decode()
    assert shown["pool"][0]["url"] == "http://***@h/v1"
    assert shown["pool"][1]["engine_args"] == {"hf_token": "***", "max_model_len": 4096}
    assert shown["server"]["limits"]["body_bytes"] == Limits().body_bytes
    assert shown["pool"][1]["like"] == ""


async def test_members_are_shown_without_logins(house: House, replying: ScriptedService) -> None:
    (member,) = replying.members()
    odd = msgspec.structs.replace(
        member, engine_version="http://user:hunter2@h/v1", last_error="401 of http://h/v1?key=hunter2: Bearer hunter2"
    )
    replying.members = lambda: (odd,)  # type: ignore[method-assign]
    client = await house.connect(await house.start(replying), admin=True)
    client.send(local("/members"))
    response = await client.response()
    assert b"hunter2" not in response.body
    assert json.loads(response.body)["members"][0]["engine_version"] == "http://***@h/v1"


def test_redaction_leaves_numbers_of_tokens() -> None:
    class Sizes(msgspec.Struct):
        max_tokens: int = 3
        context_tokens: str = "4"
        tokenizer: str = "t"
        access_token: str = "s"
        key: str = ""

    assert redacted(Sizes()) == {
        "max_tokens": 3,
        "context_tokens": "4",
        "tokenizer": "t",
        "access_token": "***",
        "key": "",
    }


@pytest.mark.parametrize("which", ["port", "admin_port"])
async def test_a_port_in_use_is_named(replying: ScriptedService, which: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        frontend = Frontend(Server(**{"port": 0, "admin_port": 0} | {which: port}), replying, Metrics(process=False))
        with pytest.raises(
            ConfigError, match=rf"cannot listen on 127.0.0.1, port {port}: .*in use.* at `\$.server.{which}`"
        ):
            await frontend.start()
    await asyncio.sleep(0)


async def test_an_open_door_to_the_network_is_warned_of(
    house: House, replying: ScriptedService, caplog: pytest.LogCaptureFixture
) -> None:
    for host, keys, warned in (
        ("127.0.0.1", (), False),
        ("localhost", (), False),
        ("127.1", (), False),
        ("0.0.0.0", ("k",), False),
        ("0.0.0.0", (), True),
        ("", (), True),
        ("0", (), True),
    ):
        caplog.clear()
        frontend = Frontend(Server(host=host, port=0, admin_port=0, api_keys=keys), replying, Metrics(process=False))
        await frontend.start()
        house.frontends.append(frontend)
        assert ("whoever reaches the public port" in caplog.text) is warned


async def test_a_host_that_is_not_ours_is_named(replying: ScriptedService) -> None:
    frontend = Frontend(Server(host="192.0.2.1", port=0, admin_port=0), replying, Metrics(process=False))
    with pytest.raises(
        ConfigError, match=r"cannot listen on 192.0.2.1, port 0: .* at `\$.server.port`, `\$.server.host`"
    ):
        await frontend.start()


async def test_metrics_are_escaped_and_process_figures_are_there(replying: ScriptedService) -> None:
    frontend = Frontend(Server(port=0, admin_port=0), replying)
    frontend.metrics.error('odd"\n')
    text = frontend.metrics.render().decode()
    assert 'headgate_errors_total{type="odd\\"\\n"} 1.0' in text
    assert "process_resident_memory_bytes" in text
