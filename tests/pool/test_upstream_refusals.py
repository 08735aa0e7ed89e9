"""Errors of upstreams: whose fault they are, in whichever shape they come."""

import json
from typing import Any

import pytest

from router.errors import EngineFailed, Overloaded, UpstreamError
from router.pool.base import Failure
from tests.pool.conftest import Asked
from tests.pool.raw_upstream import answer

NO_MODEL = {
    "error": {"message": "The model `up` does not exist.", "type": "NotFoundError", "param": "model", "code": 404}
}


async def refused(asked: Asked, said: bytes, **fields: Any) -> Failure:
    passed, end = await asked(said, **fields)
    assert passed == b""
    assert isinstance(end, Failure)
    return end


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, {"error": {"message": "Incorrect API key provided: sekret-key", "code": "invalid_api_key"}}),
        (402, {"error": {"message": "Insufficient credits"}}),
        (403, {"detail": "Forbidden"}),
        (404, {"detail": "Not Found"}),
        (404, NO_MODEL),
        (404, {"error": {"message": "status 404", "type": "t", "param": None, "code": "c"}}),
        (400, {"error": {"message": "invalid model ID", "param": "model"}}),
        (400, {"error": {"message": "no", "code": "model_not_found"}}),
        (405, {"detail": "Method Not Allowed"}),
        (407, b"<html>proxy</html>"),
        (415, b""),
        (421, b""),
        (426, b"Upgrade Required"),
        (429, {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}),
        (511, b"<html>log in</html>"),
    ],
)
async def test_a_refusal_of_what_the_gateway_adds_is_never_the_clients(
    asked: Asked, status: int, body: bytes | dict[str, Any]
) -> None:
    failure = await refused(asked, answer(body, status))
    assert failure.retryable
    assert isinstance(failure.error, EngineFailed)
    assert failure.error.status == 502
    assert failure.error.message == f"model 'ours' failed: it refused the gateway's own request with status {status}"
    told = asked.member.status().last_error
    assert told.startswith(f"it refused the gateway's own request with status {status}: ")
    assert "sekret-key" not in told


@pytest.mark.parametrize(("status", "opens"), [(401, True), (402, True), (407, True), (403, False), (404, False)])
async def test_only_what_no_client_can_bring_about_opens_the_breaker(asked: Asked, status: int, opens: bool) -> None:
    for _ in range(3):
        await refused(asked, answer({"detail": "no"}, status))
    assert asked.member.state().breaker_open is opens


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"message": "bad tool", "code": "bad_tool", "param": "tools"}}),
        (404, {"error": {"message": "Response with id 'resp_1' not found.", "param": "response_id", "code": None}}),
        (404, {"error": {"message": "Previous response with id 'resp_1' not found."}}),
        (422, {"detail": [{"loc": ["body", "messages", 0], "msg": "field required"}]}),
        (413, b"<html>too large</html>"),
    ],
)
async def test_a_refusal_of_what_the_client_sent_stays_the_clients(
    asked: Asked, status: int, body: bytes | dict[str, Any]
) -> None:
    for _ in range(3):
        failure = await refused(asked, answer(body, status))
        assert isinstance(failure.error, UpstreamError)
        assert (failure.error.status, failure.retryable) == (status, False)
    assert asked.member.status().last_error == ""
    assert not asked.member.state().breaker_open


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "words"}}, "words"),
        ({"error": "words"}, "words"),
        ({"detail": "words"}, "words"),
        ({"detail": [{"loc": ["body", "n"], "msg": "words"}, {"msg": "more"}]}, "body.n: words; more"),
        ({"detail": {"error": "words"}}, "words"),
        ({"object": "error", "message": "words", "code": 503}, "words"),
        ({"error": "server_error", "error_description": "words"}, "words"),
        ({"errors": ["words", {"message": "more"}]}, "words; more"),
        ([{"error": {"message": "words"}}], "words"),
        ({"type": "error", "error": {"type": "api_error", "message": "words"}}, "words"),
        (b"words\n", "words"),
        (b'"words"', "words"),
        (b"<html><h1>503</h1></html>", "the engine answered with status 503"),
        (b"", "the engine answered with status 503"),
        ({"unknown": 1}, "the engine answered with status 503"),
        (b'{"detail": ' + b"[" * 100_000, "the engine answered with status 503"),
        ({"detail": "w" * 1_000_000}, "w" * 1_000 + "..."),
        (b"w" * 1_000_000, "w" * 1_000 + "..."),
    ],
)
async def test_the_message_is_found_in_any_shape_and_is_not_long(
    asked: Asked, body: bytes | dict[str, Any] | list[Any], message: str
) -> None:
    said = body if isinstance(body, bytes) else json.dumps(body).encode()
    failure = await refused(asked, answer(said, 503))
    if said.startswith(b'{"detail": [[['):
        assert failure.error.message.startswith('{"detail": [[[')  # no JSON: its text
        assert len(failure.error.message) < 1_100
    else:
        assert failure.error.message == message
    assert failure.retryable
    assert not asked.member.state().breaker_open


async def test_an_error_body_in_two_packets_is_read_to_its_end(asked: Asked) -> None:
    said = answer({"error": {"message": "words", "code": "bad_tool"}}, 400)

    async def slowly(reader: Any, writer: Any) -> bool:
        writer.write(said[:-20])
        await writer.drain()
        await reader.read(1)  # the request's body: the first packet is out by then
        writer.write(said[-20:])
        await writer.drain()
        return False

    failure = (await asked(slowly))[1]
    assert isinstance(failure, Failure)
    assert (failure.error.message, failure.error.code) == ("words", "bad_tool")


@pytest.mark.parametrize("status", [0, 99, 600, 999])
async def test_a_status_that_http_does_not_know_is_the_members_fault(asked: Asked, status: int) -> None:
    said = answer({"error": {"message": "x"}}, 200).replace(b"200", b"%03d" % status, 1)
    failure = await refused(asked, said)
    assert (failure.error.status, failure.retryable) == (502, True)
    assert f"it answered with status {status}" in failure.error.message


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
async def test_a_redirect_is_not_followed(asked: Asked, status: int) -> None:
    moved = answer(b"", status, more=f"location: http://127.0.0.1:{asked.raw.port}/elsewhere\r\n")
    failure = await refused(asked, moved)
    assert failure.retryable
    assert failure.error.message.endswith(f"it answered with status {status}, a redirect, which is not followed")
    assert len(asked.raw.heads) == 2  # the models, and one request
    assert not any(b"elsewhere" in head for head in asked.raw.heads)


@pytest.mark.parametrize(
    ("told", "seconds"),
    [("30", 30.0), ("0", 1.0), ("999999", 3600.0), ("-1", 1.0), ("soon", 1.0), ("9" * 5000, 1.0), ("", 1.0)],
)
async def test_an_upstreams_retry_after_is_passed_on_within_bounds(asked: Asked, told: str, seconds: float) -> None:
    failure = await refused(asked, answer({"detail": "slow down"}, 429, more=f"retry-after: {told}\r\n"))
    assert isinstance(failure.error, Overloaded)
    assert (failure.error.retry_after_s, failure.error.message) == (seconds, "slow down")


async def test_our_key_is_not_passed_on_where_an_upstream_repeats_it(asked: Asked) -> None:
    failure = await refused(asked, answer({"error": {"message": "no route for sekret-key"}}, 500))
    assert isinstance(failure.error, UpstreamError)
    assert failure.error.message == "no route for ***"
    assert b"sekret" not in failure.error.body


async def test_what_an_operator_reads_is_one_short_line(asked: Asked) -> None:
    await refused(asked, answer({"detail": "a\nb\x1b[31m" + "c" * 10_000}, 500))
    told = asked.member.status().last_error
    assert told.startswith("it answered with status 500: a b [31m")
    assert len(told) < 1_100
    assert told.isprintable()
