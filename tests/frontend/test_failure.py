"""Errors as answers: an engine's or upstream's own body, in the shape of the route that was asked."""

import json

import pytest

from router.errors import EngineFailed, NoEngine, UpstreamError
from tests.frontend.conftest import DECISION, House, ScriptedService, chat, post

OPENAI = b'{"error":{"message":"no","type":"t","param":null,"code":"c"}, "more": 1}'
ANTHROPIC = b'{"type":"error","error":{"type":"not_found_error","message":"no"},"request_id":"r"}'
MESSAGES = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
#: Bodies of no dialect's shape, and what is said instead.
OTHERS = {
    b'{"detail":"Not Found"}': "words",
    b'{"error":"model not found"}': "words",
    b'{"error":{"message":"no","type":"t","param":null,"code":null}}': "no",
    b'{"error":{"message":"no","param":"messages[0]","code":null}}': "no",
    b'{"error":{"message":"no","type":7}}': "no",
    b'{"error":{"message":"","code":null}}': "words",
    b'{"error":{"message":["no"]}}': "words",
    b'{"error":{"message":"no","type":"t","code":true}}': "no",
    b'{"error":null}': "words",
    b"{}": "words",
    b"[]": "words",
    b"": "words",
    b"{": "words",
    b"<html>": "words",
    b'{"error":{"message":"no"},"x":"\xff"}': "no",
    b'{"x":%b%b}' % (b"[" * 100_000, b"]" * 100_000): "words",
}


async def failed(house: House, service: ScriptedService, path: str, error: UpstreamError) -> tuple[int, bytes]:
    client = await house.connect(await house.start(service))
    body = {"input": "hi"} if path == "/v1/responses" else MESSAGES
    client.send(post(path, body))
    (await service.asked()).sink.fail(error)
    response = await client.response()
    return response.status, response.body


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
@pytest.mark.parametrize("body", [OPENAI, b'{"error":{"message":"no"}}', b'{"error":{"message":"m","code":400}}'])
async def test_a_body_of_openais_shape_is_passed_on(
    house: House, service: ScriptedService, path: str, body: bytes
) -> None:
    assert await failed(house, service, path, UpstreamError(404, body, "words")) == (404, body)


async def test_a_body_of_anthropics_shape_is_passed_on_to_its_own_route(house: House, service: ScriptedService) -> None:
    assert await failed(house, service, "/v1/messages", UpstreamError(404, ANTHROPIC, "words")) == (404, ANTHROPIC)


@pytest.mark.parametrize("body", OTHERS, ids=lambda body: body[:30].decode("latin-1"))
async def test_any_other_body_is_made_anew_for_openais_routes(
    house: House, service: ScriptedService, body: bytes
) -> None:
    status, answer = await failed(house, service, "/v1/chat/completions", UpstreamError(404, body, "words"))
    error = json.loads(answer)["error"]
    assert (status, error["message"], error["type"], error["code"]) == (404, OTHERS[body], "not_found_error", 404)
    assert error["param"] == ("messages[0]" if b"messages[0]" in body else None)


@pytest.mark.parametrize("body", [*OTHERS, OPENAI, b'{"type":"error","error":{"type":"NotFoundError","message":"no"}}'])
async def test_any_other_body_is_made_anew_for_messages(house: House, service: ScriptedService, body: bytes) -> None:
    status, answer = await failed(house, service, "/v1/messages", UpstreamError(503, body, "words"))
    assert status == 503
    assert json.loads(answer) == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": OTHERS.get(body, "no")},
    }


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "/v1/chat/completions",
            b'data: {"error":{"message":"words","type":"internal_error","param":null,"code":500}}\n\ndata: [DONE]\n\n',
        ),
        (
            "/v1/messages",
            b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"words"}}\n\n',
        ),
    ],
)
async def test_within_a_stream_as_well(house: House, service: ScriptedService, path: str, expected: bytes) -> None:
    client = await house.connect(await house.start(service))
    client.send(post(path, MESSAGES | {"stream": True}))
    request = await service.asked()
    request.sink.start(DECISION)
    request.sink.fail(UpstreamError(500, b'{"detail":"x"}', "words"))
    assert (await client.response()).body == expected


async def test_code_is_a_word_or_the_status_and_never_null(house: House, service: ScriptedService) -> None:
    client = await house.connect(await house.start(service))
    for number, (error, code) in enumerate(
        (
            (NoEngine("x"), "no_engine"),
            (EngineFailed("x"), "engine_failed"),
            (UpstreamError(400, b'{"error":{"message":"x","code":null}}', "x"), 400),
            (UpstreamError(400, b"", "x", code="context_length_exceeded"), "context_length_exceeded"),
        ),
        1,
    ):
        client.send(chat())
        (await service.asked(number)).sink.fail(error)
        assert (await client.response()).error["code"] == code
    client.send(chat(n=0))
    assert (await client.response()).error["code"] == 400


@pytest.mark.parametrize("status", [0, -1, 2**63, 99, 600, 100, 101, 204, 304, 200])
async def test_a_status_that_is_no_errors_goes_out_as_502(house: House, service: ScriptedService, status: int) -> None:
    for path in ("/v1/chat/completions", "/v1/messages"):
        assert (await failed(house, ScriptedService(), path, UpstreamError(status, b"{}", "words")))[0] == 502
