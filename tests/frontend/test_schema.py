"""`/openapi.json` and `/docs`: every route is there, nothing foreign is loaded, and they can be left out."""

import json
import re
from html.parser import HTMLParser
from typing import Any

from router.config import Server
from router.frontend.public import Public
from router.frontend.server import Frontend
from router.observe.metrics import Metrics
from router.types import API_PATHS
from tests.frontend.conftest import Ask, House, ScriptedService, get


def document(**server: Any) -> dict[str, Any]:
    service = ScriptedService()
    routes = Public(service, Metrics(process=False), lambda: False, Server(**server)).routes()
    sent: list[bytes] = []

    class Heard:
        def respond(self, status: int, body: bytes, *_: object, **__: object) -> None:
            sent.append(body)

    route, _ = routes.find(b"/openapi.json")
    route.handlers[b"GET"](Heard())  # type: ignore[arg-type]
    found: dict[str, Any] = json.loads(sent[0])
    return found


async def test_both_are_open_and_tell_of_every_route(house: House, replying: ScriptedService) -> None:
    client = await house.connect(await house.start(replying, api_keys=("k",)))
    client.send(get("/openapi.json"))
    response = await client.response()
    assert response.headers["content-type"] == "application/json"
    paths = json.loads(response.body)["paths"]
    assert set(API_PATHS.values()) | {"/invocations", "/v1/models", "/v1/models/{id}", "/health", "/docs"} <= set(paths)
    client.send(get("/docs"))
    page = (await client.response()).body.decode()
    for path, operations in paths.items():
        assert f"<code>{path}</code>" in page
        for method, operation in operations.items():
            assert method == "parameters" or operation["summary"], path


async def test_the_page_runs_and_loads_nothing(ask: Ask) -> None:
    response = await ask(get("/docs"))
    assert response.headers["content-type"].startswith("text/html")
    assert response.headers["content-security-policy"] == "default-src 'none'; style-src 'unsafe-inline'"
    seen: list[tuple[str, dict[str, str | None]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.append((tag, dict(attrs)))

    Reader().feed(response.body.decode())
    assert not {tag for tag, _ in seen} & {"script", "link", "img", "iframe", "object", "embed"}
    assert [attrs["href"] for tag, attrs in seen if tag == "a"] == ["openapi.json"]
    assert not re.search(rb"https?:|url\(|@import", response.body)


def test_each_operation_is_named_once_and_each_reference_leads_somewhere() -> None:
    found = document()
    operations = [each for path in found["paths"].values() for name, each in path.items() if name != "parameters"]
    assert len({each["operationId"] for each in operations}) == len(operations) > 20
    for reference in re.findall(r'"\$ref":\s*"#/([^"]+)"', json.dumps(found)):
        place: Any = found
        for key in reference.split("/"):
            place = place[key]
    for path, each in found["paths"].items():
        places = {parameter["in"] for parameter in each.get("parameters", ())}
        queried = path in ("/tokenizer_info", "/v1/files", "/v1/batches")
        assert places == ({"path"} if "{" in path else {"query"} if queried else set())


def test_keys_are_told_of_where_they_are_asked_for() -> None:
    guarded, free = document(api_keys=("k",)), document()
    assert guarded["paths"]["/v1/chat/completions"]["post"]["security"] == [{"key": []}]
    assert "security" not in guarded["paths"]["/health"]["get"]
    assert "security" not in free["paths"]["/v1/chat/completions"]["post"]
    assert "sekret" not in json.dumps(document(api_keys=("sekret",)))


def test_a_chat_s_body_needs_messages_and_may_hold_what_is_not_named() -> None:
    body = document()["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert (body["required"], body["additionalProperties"]) == (["messages"], True)
    assert document(root_path="/llm")["servers"] == [{"url": "/llm"}]


async def test_they_can_be_left_out(house: House, replying: ScriptedService) -> None:
    frontend = Frontend(Server(port=0, admin_port=0, docs=False), replying, Metrics(process=False))
    await frontend.start()
    house.frontends.append(frontend)
    client = await house.connect(frontend)
    for path in ("/docs", "/openapi.json"):
        client.send(get(path))
        assert (await client.response()).status == 404
