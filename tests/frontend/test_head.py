"""What a request's head decides: who may ask, from where, with which type of body, and what stands there once."""

import json

import pytest

from tests.frontend.conftest import REPLY, Ask, House, ScriptedService, chat, get, post

BODY = b'{"messages":[{"role":"user","content":"hi"}]}'
JSON = "Content-Type: application/json"
PAGE = "Origin: http://page.example"


def raw(*lines: bytes, path: bytes = b"/v1/chat/completions") -> bytes:
    """A chat request of exactly these header lines, and its length."""
    return b"POST %b HTTP/1.1\r\n%b\r\n" % (
        path,
        b"".join(line + b"\r\n" for line in (*lines, b"Content-Length: %d" % len(BODY))),
    ) + (BODY)


# Types of bodies


@pytest.mark.parametrize(
    "type",
    [
        "application/json",
        "Application/JSON",
        "application/json;charset=utf-8",
        "application/json ; charset=utf-8",
        "application/vnd.api+json",
        " application/json\t",
    ],
)
@pytest.mark.parametrize("page", [True, False])
async def test_json_is_read_from_anyone(ask: Ask, type: str, page: bool) -> None:
    assert (await ask(chat(f"Content-Type: {type}", *([PAGE] if page else [])))).body == REPLY


@pytest.mark.parametrize(
    "type",
    [
        "text/plain",
        "text/plain; x=json",
        "text/plain;application/json",
        "multipart/form-data; boundary=json",
        "json",
        "application/jsonp",
        "application/json, text/plain",
        "text/plain, application/json",
        ";application/json",
        "x+json",
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/tokenize"])
async def test_a_body_that_is_declared_to_be_no_json_is_refused(ask: Ask, type: str, path: str) -> None:
    for headers in ((f"Content-Type: {type}",), (f"Content-Type: {type}", PAGE)):
        response = await ask(post(path, BODY, *headers))
        assert response.status == 400
        assert (
            "send the body as JSON, with `content-type: application/json`"
            in json.loads(response.body)["error"]["message"]
        )


@pytest.mark.parametrize(
    "type", [None, "", "application/x-www-form-urlencoded", "application/x-www-form-urlencoded; json"]
)
async def test_a_form_and_a_body_without_a_type_are_refused_from_a_page_and_from_anyone(
    ask: Ask, type: str | None
) -> None:
    typed = () if type is None else (b"Content-Type: " + type.encode(),)
    for origin in ((), (PAGE.encode(),), (b"Origin: null",), (b"Origin:",)):
        response = await ask(raw(b"Host: h", *typed, *origin))
        assert response.status == 400
        assert response.error["param"] == "content-type"


async def test_a_page_may_ask_for_what_has_no_body(ask: Ask) -> None:
    assert (await ask(get("/v1/models", PAGE))).status == 200


# White space around values


@pytest.mark.parametrize("blank", [" ", "\t", " \t  "])
async def test_blanks_around_a_value_are_no_part_of_it(house: House, replying: ScriptedService, blank: str) -> None:
    client = await house.connect(await house.start(replying, api_keys=("sekret",)))
    for key in (f"x-api-key:{blank}sekret{blank}", f"authorization:{blank}Bearer sekret{blank}"):
        client.send(chat(key, f"x-request-id:{blank}abc{blank}", f"x-headgate-debug: true{blank}"))
        response = await client.response()
        assert (response.status, response.headers["x-request-id"]) == (200, "abc")
        assert "x-headgate-terms" in response.headers
    client.send(chat("x-api-key: sekret", f"content-encoding: identity{blank}", f"x-session-id: s{blank}"))
    assert (await client.response()).status == 200
    client.send(chat("x-api-key: sekret", f"content-type: text/plain{blank}"))
    assert (await client.response()).status == 400
    client.send(chat("x-api-key: sekret", f"x-headgate-deadline: 5{blank}"))
    assert (await client.response()).status == 200


@pytest.mark.parametrize("blank", [b"", b" ", b"  "])
async def test_a_chunked_body_is_read_whatever_stands_behind_the_coding(ask: Ask, blank: bytes) -> None:
    data = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked%b\r\n\r\n" % blank
    )
    assert (await ask(data + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY))).body == REPLY


# Keys


@pytest.mark.parametrize("authorization", ["Bearer stale", "Basic dXNlcjpwYXNz", "Bearer", "", "Negotiate x", "stale"])
async def test_one_right_key_is_enough(house: House, replying: ScriptedService, authorization: str) -> None:
    client = await house.connect(await house.start(replying, api_keys=("one", "two")))
    for lines in (
        (f"Authorization: {authorization}", "x-api-key: two"),
        ("x-api-key: two", f"Authorization: {authorization}"),
        ("Authorization: Bearer two", f"x-api-key: {authorization}"),
    ):
        client.send(chat(*lines))
        assert (await client.response()).status == 200
    client.send(chat(f"Authorization: {authorization}", "x-api-key: three"))
    assert (await client.response()).status == 401
    assert len({request.query.key_id for request in replying.requests}) == 1


async def test_no_page_asks_for_a_key_before_it_may_tell_one(house: House, replying: ScriptedService) -> None:
    client = await house.connect(await house.start(replying, api_keys=("one",)))
    client.send(get("/v1/chat/completions", method="OPTIONS"))
    assert (await client.response()).status == 204


# Headers that stand once


@pytest.mark.parametrize(
    "lines",
    [
        (b"Host: a", b"Host: b"),
        (b"Host: a", b"host: a"),
        (b"Host: h", b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked"),
        (b"Host: h", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        (b"Host: h", b"Content-Type: text/plain", b"Content-Type: application/json"),
        (b"Host: h", b"Content-Type: application/json", b"content-type: text/plain"),
        (b"Host: h", b"Authorization: Bearer one", b"Authorization: Bearer k"),
        (b"Host: h", b"Authorization: Bearer k", b"authorization: Bearer one"),
        (b"Host: h", b"x-api-key: k", b"X-API-Key: one"),
        (b"Host: h", b"Content-Encoding: gzip", b"Content-Encoding: identity"),
        (b"Host: h", b"x-headgate-deadline: 1", b"x-headgate-deadline: 2"),
        (b"Host: h", b"Origin: http://a", b"Origin: http://b"),
        (b"Host: a b/c",),
        (b"Host: a/b",),
        (b"Host: a:b",),
        (b"Host: a:1:2",),
        (b"Host: [::1",),
        (b"Host: [evil]",),
        (b"Host: a@b",),
        (b"Host: \xff",),
        (b"Host: a, b",),
        (b"Host: a%zz",),
        (b"Host: a%4",),
        (),
    ],
    ids=lambda lines: b" | ".join(lines).decode("latin-1") or "no host",
)
async def test_a_head_that_two_servers_could_read_differently_is_refused(
    house: House, replying: ScriptedService, lines: tuple[bytes, ...]
) -> None:
    frontend = await house.start(replying, api_keys=("k",))
    for key in ((), (b"x-api-key: k",)):
        if key and any(line.lower().startswith((b"x-api-key", b"auth")) for line in lines):
            continue
        typed = () if any(b"Content-Type" in line for line in lines) else (JSON.encode(),)
        client = await house.connect(frontend)
        client.send(raw(*typed, *lines, *key))
        response = await client.response()
        assert (response.status, response.headers["connection"]) == (400, "close")
    assert replying.requests == []


@pytest.mark.parametrize(
    "host", ["h", "h:80", "h:", "", "127.0.0.1:8000", "[::1]:8000", "[fe80::1%25eth0]", "a-b.c_d.e.", "H%41"]
)
async def test_a_host_of_any_right_form_is_taken(ask: Ask, host: str) -> None:
    assert (await ask(raw(f"Host: {host}".encode(), JSON.encode()))).status == 200


async def test_headers_of_lists_may_repeat(ask: Ask) -> None:
    response = await ask(
        chat("Accept: a", "Accept: b", "x-forwarded-for: a", "x-forwarded-for: b", "x-request-id: a", "x-request-id: b")
    )
    assert (response.status, response.headers["x-request-id"]) == (200, "a")


async def test_equal_names_count_as_headers_too(ask: Ask) -> None:
    response = await ask(get("/health", *["a: b"] * 128))
    assert response.status == 431


# Paths


@pytest.mark.parametrize(
    "path",
    [
        "/v1/%63hat/completions",
        "/v1/chat/completions/",
        "/v1/chat/completions/?x=1",
        "/%76%31/chat/completion%73",
        "http://h/v1/chat/completions/",
    ],
)
async def test_other_spellings_of_a_path_are_the_path(ask: Ask, path: str) -> None:
    assert (await ask(post(path, BODY))).body == REPLY


@pytest.mark.parametrize(
    "path", ["/v1%2Fchat/completions", "/v1/chat/completions//", "/%2576/x", "/v1/%", "/v1/%zz", "/%"]
)
async def test_what_is_encoded_for_a_reason_stays_so(ask: Ask, path: str) -> None:
    assert (await ask(post(path, BODY))).status == 404


async def test_routes_with_a_slash_behind(ask: Ask) -> None:
    for path in ("/health/", "/metrics/", "/v1/models/"):
        assert (await ask(get(path))).status == 200
    assert json.loads((await ask(get("/v1/models/small/"))).body)["id"] == "small"
    assert json.loads((await ask(get("/v1/models/%73mall"))).body)["id"] == "small"


async def test_options_of_the_server_as_a_whole(ask: Ask) -> None:
    assert (await ask(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n")).status == 204


@pytest.mark.parametrize(
    ("path", "anthropic"),
    [
        ("/v1/messages/batches", True),
        ("/v1/messages/none/", True),
        ("/v1/%6dessages/none?x=/", True),
        ("/v1/messages_", False),
        ("/v1/none", False),
    ],
)
async def test_an_unknown_route_is_refused_in_the_shape_of_the_routes_above_it(
    ask: Ask, path: str, anthropic: bool
) -> None:
    response = await ask(post(path, b"{}"))
    body = json.loads(response.body)
    assert response.status == 404
    assert (body.get("type"), body["error"]["type"]) == ("error" if anthropic else None, "not_found_error")


async def test_a_malformed_head_of_messages_is_refused_in_anthropics_shape(ask: Ask) -> None:
    response = await ask(raw(b"Host: a", b"Host: b", JSON.encode(), path=b"/v1/messages"))
    assert json.loads(response.body)["type"] == "error"


async def test_count_tokens_is_asked_for_as_messages_are(house: House, service: ScriptedService) -> None:
    client = await house.connect(await house.start(service))
    body = {"model": "small", "messages": [{"role": "user", "content": "hi"}], "system": "s", "stream": True}
    client.send(post("/v1/messages/count_tokens", body))
    request = await service.asked()
    assert (request.query.kind, request.query.stream, request.query.max_tokens) == ("count_tokens", False, None)
    assert [turn.text for turn in request.query.turns] == ["s", "hi"]
    assert "messages" in request.query.needs
    request.reply(b'{"input_tokens":3}')
    assert (await client.response()).body == b'{"input_tokens":3}'
    client.send(post("/v1/messages/count_tokens", {"messages": []}))
    assert json.loads((await client.response()).body)["type"] == "error"
