"""Web pages of allowed origins, and of others: what a browser is told."""

import pytest

from router.config import Server, parse
from router.errors import ConfigError, Overloaded
from router.frontend.server import Frontend
from router.observe.metrics import Metrics
from tests.frontend.conftest import DECISION, DONE, Client, House, ScriptedService, chat, event, get, post

OURS = "http://localhost:3000"
PAGE, OTHER = f"Origin: {OURS}", "Origin: http://evil.example"
ASKS = (
    "Access-Control-Request-Method: POST",
    "Access-Control-Request-Headers: authorization,content-type, x-stainless-os",
)
CHAT = "/v1/chat/completions"


async def opened(house: House, service: ScriptedService, *origins: str, keys: tuple[str, ...] = ("k",)) -> Client:
    return await house.connect(await house.start(service, api_keys=keys, allowed_origins=origins))


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/models", "/health"])
@pytest.mark.parametrize(("allowed", "told"), [((OURS,), OURS), (("https://a", OURS.upper()), OURS), (("*",), "*")])
async def test_a_preflight_of_an_allowed_page_is_answered_before_the_key(
    house: House, replying: ScriptedService, path: str, allowed: tuple[str, ...], told: str
) -> None:
    client = await opened(house, replying, *allowed)
    client.send(get(path, PAGE, *ASKS, method="OPTIONS"))
    response = await client.response()
    assert response.status == 204
    assert response.headers["access-control-allow-origin"] == told
    assert response.headers["vary"] == "origin"
    assert response.headers["access-control-allow-methods"] == response.headers["allow"]
    assert response.headers["access-control-allow-headers"] == "authorization,content-type, x-stainless-os"
    assert int(response.headers["access-control-max-age"]) > 0


@pytest.mark.parametrize("keys", [(), ("k",)])
@pytest.mark.parametrize("allowed", [(), ("https://a.example",)])
@pytest.mark.parametrize(
    "origin",
    [
        OTHER,
        "Origin: null",
        "Origin: https://a.example.evil",
        "Origin: http://a.example",
        "Origin:",
        "Origin: https://a.example/",
    ],
)
async def test_a_preflight_of_another_page_is_refused_and_never_401(
    house: House, replying: ScriptedService, keys: tuple[str, ...], allowed: tuple[str, ...], origin: str
) -> None:
    client = await opened(house, replying, *allowed, keys=keys)
    client.send(get(CHAT, origin, *ASKS, method="OPTIONS"))
    response = await client.response()
    assert response.status == 403
    assert response.error["code"] == "origin_not_allowed"
    assert "`server.allowed_origins`" in str(response.error["message"])
    assert not any(name.startswith("access-control") for name in response.headers)


async def test_a_preflight_cannot_have_lines_of_its_own_echoed(house: House, replying: ScriptedService) -> None:
    client = await opened(house, replying, OURS)
    for asked in ("a\tb", "a: b", "\u00e9", "a" * 5000):
        client.send(get(CHAT, PAGE, ASKS[0], f"Access-Control-Request-Headers: {asked}", method="OPTIONS"))
        response = await client.response()
        assert response.status == 204
        assert "access-control-allow-headers" not in response.headers


async def test_answers_and_errors_can_be_read_by_an_allowed_page(house: House, service: ScriptedService) -> None:
    client = await opened(house, service, OURS)
    key = "Authorization: Bearer k"
    for data, status in (
        (get("/v1/models", PAGE, key), 200),
        (get("/v1/models", PAGE), 401),
        (get("/none", PAGE, key), 404),
        (get(CHAT, PAGE, key), 405),
        (chat(PAGE, key, "content-type: text/plain"), 400),
        (post(CHAT, b"{", PAGE, key), 400),
    ):
        client.send(data)
        _readable(await client.response(), status)
    service.refusal = Overloaded("busy")
    client.send(chat(PAGE, key))
    response = await client.response()
    _readable(response, 429)
    assert "retry-after" in response.headers["access-control-expose-headers"]
    client.send(chat(PAGE, key, "Host: a", "Host: b"))
    _readable(await client.response(), 400)


def _readable(response, status: int) -> None:  # type: ignore[no-untyped-def]
    assert (response.status, response.headers["access-control-allow-origin"]) == (status, OURS)
    assert response.headers["vary"] == "origin"
    assert "x-request-id" in response.headers["access-control-expose-headers"]


@pytest.mark.parametrize("stream", [True, False])
async def test_an_allowed_page_gets_its_answer_whatever_type_of_json_it_names(
    house: House, service: ScriptedService, stream: bool
) -> None:
    client = await opened(house, service, OURS)
    for number, type in enumerate(("application/json", "application/problem+json; charset=utf-8"), 1):
        client.send(chat(PAGE, "x-api-key: k", f"content-type: {type}", stream=stream))
        sink = (await service.asked(number)).sink
        sink.start(DECISION)
        sink.chunk(event("a"))
        sink.done(DONE)
        _readable(await client.response(), 200)


async def test_an_answer_to_another_page_has_no_such_lines(house: House, replying: ScriptedService) -> None:
    client = await opened(house, replying, OURS, keys=())
    for data in (chat(OTHER, "content-type: application/json"), chat(), get("/v1/models", OTHER)):
        client.send(data)
        response = await client.response()
        assert response.status == 200
        assert not any(name.startswith("access-control") for name in response.headers)


@pytest.mark.parametrize(
    "origin",
    ["", " ", "localhost:3000", "http://a/", "http://a/b", "http://u@a", "http://", "**", "*.example", "null",
     "http://a b", "http://a:80", "https://a:443", "http://a?b"],
)  # fmt: skip
def test_what_no_browser_sends_is_refused_by_the_config(replying: ScriptedService, origin: str) -> None:
    text = f"server: {{allowed_origins: ['https://ok', '{origin}']}}\npool: [{{name: a, model: m}}]"
    with pytest.raises(ConfigError, match=r"^headgate.yaml: .*- at `\$.server.allowed_origins\[1\]`"):
        parse(text, source="headgate.yaml")
    with pytest.raises(ConfigError, match=r"at `\$.server.allowed_origins\[0\]`"):
        Frontend(Server(allowed_origins=(origin,)), replying, Metrics(process=False))


@pytest.mark.parametrize(
    "origin", ["*", "https://a.example", "http://localhost:3000", "http://[::1]:81", "app://obsidian.md"]
)
def test_what_browsers_send_is_taken(origin: str) -> None:
    text = f"server: {{allowed_origins: ['{origin}']}}\npool: [{{name: a, model: m}}]"
    assert parse(text).server.allowed_origins == (origin,)
