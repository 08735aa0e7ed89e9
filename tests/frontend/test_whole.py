"""Routes that a member's own server answers whole, at the door: paths, methods, what travels on."""

import json

import pytest

from router.config import Server
from router.frontend.public import Public
from router.observe.metrics import Metrics
from router.types import API_PATHS, MEMBER_ROUTES, Kind
from tests.frontend.conftest import Ask, House, ScriptedService, get, post

POSTED = [(kind, path) for kind, route in MEMBER_ROUTES.items() if route.body == "json" for path in route.paths]


@pytest.mark.parametrize(("kind", "path"), POSTED)
async def test_each_path_asks_for_its_kind_with_the_body_as_it_came(
    ask: Ask, replying: ScriptedService, kind: Kind, path: str
) -> None:
    messages = [[{"role": "user", "content": "hi"}]]
    body = json.dumps({"model": "m", "input": ["a"], "messages": messages, "queries": "é"}).encode()
    response = await ask(post(path, body))
    assert response.status == 200
    (request,) = replying.requests
    assert (request.query.kind, request.query.model, request.body) == (kind, "m", body)


async def test_a_get_names_its_model_in_the_query(ask: Ask, replying: ScriptedService) -> None:
    assert (await ask(get("/tokenizer_info?model=org%2Fm&x=1"))).status == 200
    assert (await ask(get("/tokenizer_info"))).status == 200
    assert [request.query.model for request in replying.requests] == ["org/m", "auto"]
    response = await ask(get("/tokenizer_info?model=a&model=b"))
    assert (response.status, response.error["param"]) == (400, "model")
    assert (await ask(post("/tokenizer_info", {}))).status == 405


async def test_they_ask_for_the_key_and_for_json(house: House, replying: ScriptedService) -> None:
    frontend = await house.start(replying, api_keys=("k",))
    for data, status in (
        (post("/v1/embeddings", {"input": "x"}), 401),
        (get("/tokenizer_info"), 401),
        (post("/v1/embeddings", {"input": "x"}, "Authorization: Bearer k"), 200),
        (post("/rerank", {"input": "x"}, "Authorization: Bearer k", "Content-Type: text/plain"), 400),
    ):
        client = await house.connect(frontend)
        client.send(data)
        assert (await client.response()).status == status


async def test_an_invocation_is_what_the_named_model_can_do(ask: Ask, replying: ScriptedService) -> None:
    replying.abilities = {"auto": frozenset({"chat", "classify"}), "emb": frozenset({"embeddings"})}
    for body in ({"input": "x"}, {"input": "x", "model": "emb"}, {"messages": [], "model": "emb"}):
        assert (await ask(post("/invocations", body))).status == 200
    large = {"messages": [], "model": "emb", "input": "x" * 300_000}
    assert (await ask(post("/invocations", large))).status == 200
    kinds = [request.query.kind for request in replying.requests]
    assert kinds == ["classify", "embeddings", "embeddings", "embeddings"]


def test_every_kind_has_a_route_and_no_path_has_two() -> None:
    Public(ScriptedService(), Metrics(process=False), lambda: False, Server()).routes()
    paths = [path for route in MEMBER_ROUTES.values() for path in route.paths]
    assert len(set(paths) | set(API_PATHS.values())) == len(paths) + 7


async def test_audio_travels_with_its_type_and_names_its_model(ask: Ask, replying: ScriptedService) -> None:
    type_ = "multipart/form-data; boundary=b"
    body = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n--b--\r\n'
    for path in ("/v1/audio/transcriptions", "/v1/audio/translations"):
        assert (await ask(post(path, body, f"Content-Type: {type_}"))).status == 200
    request = replying.requests[0]
    assert (request.query.kind, request.query.model) == ("transcriptions", "whisper")
    assert request.body == type_.encode() + b"\n" + body
    response = await ask(post("/v1/audio/transcriptions", {"model": "whisper"}))
    assert (response.status, response.error["param"]) == (400, "content-type")


@pytest.mark.parametrize(
    ("origin", "status"), [("https://evil.example", 403), ("null", 403), ("https://chat.example", 200)]
)
async def test_a_form_of_a_web_page_is_taken_from_allowed_origins_only(
    house: House, replying: ScriptedService, origin: str, status: int
) -> None:
    client = await house.connect(await house.start(replying, allowed_origins=("https://chat.example",)))
    body = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n'
    headers = ("Content-Type: multipart/form-data; boundary=b", f"Origin: {origin}")
    client.send(post("/v1/audio/transcriptions", body, *headers))
    response = await client.response()
    assert response.status == status
    assert len(replying.requests) == (status == 200)
    if status == 403:
        assert response.error["code"] == "origin_not_allowed"


async def test_a_web_socket_is_refused_with_what_there_is(ask: Ask) -> None:
    upgrade = ("Upgrade: websocket", "Connection: upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: x")
    for headers in ((), upgrade):
        response = await ask(get("/v1/realtime?model=m", *headers))
        assert (response.status, response.error["code"]) == (501, "not_supported")
        assert "/v1/audio/transcriptions" in str(response.error["message"])
