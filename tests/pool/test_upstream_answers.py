"""Answers of status 200 that are none, or not all of one: told before the first byte, and the member's fault."""

import json
from typing import Any

import pytest

from router.errors import EngineFailed, Overloaded, UpstreamError
from router.ipc.messages import Done
from router.pool.base import Failure
from tests.pool.conftest import Asked
from tests.pool.raw_upstream import CHOICE, DONE, STREAM, WHOLE, answer, chunked, data, event

JSON = json.dumps(WHOLE).encode()
PAGE = b"<html><body>Please log in</body></html>"
DEEP = b'{"choices": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


async def broken(asked: Asked, said: bytes, **fields: Any) -> EngineFailed:
    """The failure of an answer of which nothing was passed on, and for which the member answers."""
    passed, end = await asked(said, **fields)
    assert passed == b""
    assert isinstance(end, Failure)
    assert end.retryable
    assert isinstance(end.error, EngineFailed)
    assert (end.error.status, end.error.code) == (502, "engine_failed")
    assert end.error.message == f"model 'ours' failed: {asked.member.status().last_error}"
    return end.error


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (answer(PAGE, kind="text/html"), "its answer is a page, not a JSON object"),
        (answer(PAGE), "its answer is a page, not a JSON object"),
        (answer(b""), r"its answer is empty \(status 200\), not a JSON object"),
        (answer(b" \n \n"), r"its answer is empty \(status 200\)"),
        (b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", r"its answer is empty \(status 204\)"),
        (answer(JSON[:60]), "its answer is no JSON of this API"),
        (answer(b"[" + JSON + b"]"), "its answer is of type application/json, not a JSON object"),
        (answer(b"ok", kind="text/plain"), "its answer is of type text/plain, not a JSON object"),
        (answer(STREAM, kind="text/event-stream"), "its answer is of type text/event-stream, not a JSON object"),
        (chunked(STREAM), "its answer is of type text/event-stream, not a JSON object"),
        (answer({}), "without an answer"),
        (answer({"object": "x", "choices": None}), "without an answer"),
        (answer({"choices": []}), "without an answer"),
        (answer({"choices": "4"}), "no JSON of this API"),
        (answer({"detail": "Not authenticated"}), "without an answer"),
        (answer({"output": []}), "without an answer"),
        (answer(DEEP), "no JSON of this API"),
        (answer(JSON.replace(b"4", b"\xe9"), kind="application/json; charset=iso-8859-1"), "no JSON of this API"),
        (answer(JSON.decode().encode("utf-16")), "its answer is of type application/json, not a JSON object"),
    ],
)
async def test_what_is_no_whole_answer_is_the_members_fault(asked: Asked, said: bytes, why: str) -> None:
    with pytest.raises(EngineFailed, match=why):
        raise await broken(asked, said)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (answer(PAGE, kind="text/html"), "its answer is a page, not an event stream"),
        (chunked(PAGE), "its answer is a page, not an event stream"),
        (answer(b""), r"its answer is empty \(status 200\), not an event stream"),
        (chunked(), r"its answer is empty \(status 200\), not an event stream"),
        (answer(JSON), "its answer is a whole one, not an event stream"),
        (answer(JSON[:60]), "no JSON of this API"),
        (answer(b"ok", kind="text/plain"), "its stream holds no answer"),
        (chunked(DONE), "its stream holds no answer"),
        (chunked(b": ping\n\n", b": ping\n\n"), "its stream holds no answer"),
        (chunked(data({"detail": "Not authenticated"}), DONE), "its stream holds no answer"),
        (chunked(data({"type": "ping"})), "its stream holds no answer"),
        (chunked(b"data: <html>\n\n", DONE), "an event of its stream is no JSON of this API"),
        (chunked(b"data: " + JSON[:60] + b"\n\n", DONE), "an event of its stream is no JSON of this API"),
        (chunked(b"data: " + DEEP + b"\n\n"), "an event of its stream is no JSON of this API"),
        (chunked(event("1").replace(b"1", b"\xe9"), DONE), "an event of its stream is no JSON of this API"),
        (chunked(*[b"data: " + b"x" * 999_999] * 17), "an event is larger than 16777216 bytes"),
    ],
)
async def test_what_is_no_stream_is_the_members_fault_before_its_first_byte(
    asked: Asked, said: bytes, why: str
) -> None:
    with pytest.raises(EngineFailed, match=why):
        raise await broken(asked, said, stream=True)


async def test_five_such_answers_are_counted_against_the_member(asked: Asked) -> None:
    for _ in range(3):
        await broken(asked, answer(PAGE, kind="text/html"))
    assert asked.member.state().breaker_open


async def test_an_answer_that_is_too_large_is_refused_and_not_counted_against_the_member(asked: Asked) -> None:
    for _ in range(3):
        passed, end = await asked(answer(WHOLE | {"x": "a" * (32 << 20)}))
        assert passed == b""
        assert isinstance(end, Failure)
        assert (end.error.message, end.retryable) == ("the answer is larger than 33554432 bytes", False)
    assert not asked.member.state().breaker_open


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("chat", WHOLE),
        ("completions", {"choices": [{"index": 0, "text": "4", "finish_reason": "stop"}]}),
        ("responses", {"object": "response", "error": None, "output": []}),
        ("messages", {"type": "message", "content": [], "stop_reason": "end_turn"}),
        ("tokenize", {"count": 1, "tokens": [1]}),
        ("detokenize", {"prompt": "x"}),
        ("count_tokens", {"input_tokens": 3}),
    ],
)
async def test_whole_answers_of_every_route_pass(asked: Asked, kind: str, body: dict[str, Any]) -> None:
    passed, end = await asked(answer(body), kind=kind)
    assert isinstance(end, Done)
    assert json.loads(passed) == body | ({"model": "ours"} if "model" in body else {})


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("count_tokens", WHOLE),
        ("count_tokens", {"input_tokens": None}),
        ("count_tokens", {"input_tokens": "3"}),
        ("tokenize", WHOLE),
        ("tokenize", {"count": 0}),
        ("detokenize", {"tokens": [1]}),
        ("messages", WHOLE),
        ("responses", WHOLE),
        ("chat", {"input_tokens": 3}),
    ],
)
async def test_an_answer_of_another_route_is_none(asked: Asked, kind: str, body: dict[str, Any]) -> None:
    with pytest.raises(EngineFailed, match="its answer is a JSON object without an answer"):
        raise await broken(asked, answer(body), kind=kind)


@pytest.mark.parametrize("kind", ["application/json", "text/plain; charset=latin-1", "application/octet-stream", ""])
async def test_a_whole_answer_is_known_by_its_body_not_by_its_type(asked: Asked, kind: str) -> None:
    passed, end = await asked(answer(b"\xef\xbb\xbf\r\n" + JSON, kind=kind))
    assert isinstance(end, Done)
    assert json.loads(passed)["choices"] == [CHOICE]


@pytest.mark.parametrize("kind", ["text/plain; charset=utf-8", "application/octet-stream", "application/json"])
async def test_an_event_stream_is_known_by_its_body_not_by_its_type(asked: Asked, kind: str) -> None:
    passed, end = await asked(chunked(b"\xef\xbb\xbf", STREAM[:50], STREAM[50:], kind=kind), stream=True)
    assert isinstance(end, Done)
    assert passed == STREAM.replace(b'"model": "up"', b'"model":"ours"')


# Ends


@pytest.mark.parametrize(
    "pieces",
    [
        (event("1"), event(None, "stop")),
        (event("1"), event(None, "stop"), data({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})),
        (event("1"), event(None, "length"), b"data: [DONE]\n"),
        (event("1"), event(None, "stop"), b"data: [DONE]"),
        (event("1"), event(None, "stop")[:-2]),
        (event("1"), event(None, "stop"), b": bye"),
    ],
    ids=["none", "after usage", "one line end", "no line end", "last event cut short by its blank line", "comment"],
)
async def test_a_stream_that_says_its_finish_reason_and_ends_well_is_whole(
    asked: Asked, pieces: tuple[bytes, ...]
) -> None:
    for _ in range(5):
        passed, end = await asked(chunked(*pieces), stream=True)
        assert isinstance(end, Done)
        assert passed.endswith(b"\n\n" + DONE)
        assert passed.count(b"[DONE]") == 1
    assert asked.member.status().last_error == ""
    assert not asked.member.state().breaker_open


@pytest.mark.parametrize(
    "said",
    [
        chunked(event("1"), event("9")),
        chunked(event("1"), event(None, "")),
        chunked(event("1"), event(None, "stop"), event("1", None).replace(b'"index": 0', b'"index": 1')),
        chunked(event("1"), event(None, "stop"), end=b""),
    ],
    ids=["no finish reason", "an empty one", "of one choice of two", "cut within its framing"],
)
async def test_a_stream_that_stops_before_its_end_is_an_error(asked: Asked, said: bytes) -> None:
    passed, end = await asked(said, stream=True)
    assert passed.startswith(b"data: {")
    assert b"[DONE]" not in passed
    assert isinstance(end, Failure)
    assert end.error.status == 502


async def test_a_stream_of_messages_without_its_last_event_gets_one(asked: Asked) -> None:
    start = b"event: message_start\n" + data({"type": "message_start", "message": {"model": "up"}})
    delta = b"event: message_delta\n" + data({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}})
    passed, end = await asked(chunked(start, delta), stream=True, kind="messages")
    assert isinstance(end, Done)
    assert end.finish_reason == "max_tokens"
    assert passed.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')


async def test_a_stream_of_responses_without_its_last_event_is_an_error(asked: Asked) -> None:
    start = data({"type": "response.created", "response": {"model": "up"}})
    passed, end = await asked(chunked(start), stream=True, kind="responses")
    assert passed
    assert isinstance(end, Failure)


async def test_nothing_leaves_after_the_end_mark(asked: Asked) -> None:
    passed, end = await asked(chunked(STREAM + event("more")), stream=True)
    assert isinstance(end, Done)
    assert passed.endswith(event(None, "stop").replace(b'"model": "up"', b'"model":"ours"') + DONE)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_every_line_end_of_event_streams_is_understood(asked: Asked, line_end: bytes, size: int) -> None:
    text = b": x\r\n\r\n".replace(b"\r\n", line_end) + STREAM.replace(b"\n", line_end)
    passed, end = await asked(chunked(*(text[i : i + size] for i in range(0, len(text), size))), stream=True)
    assert isinstance(end, Done)
    assert [line for line in passed.splitlines() if line] == [
        line for line in STREAM.replace(b'"model": "up"', b'"model":"ours"').splitlines() if line
    ]


async def test_line_ends_may_be_mixed(asked: Asked) -> None:
    passed, end = await asked(chunked(event("1") + b": ping\r\n\r\n" + event(None, "stop") + DONE), stream=True)
    assert isinstance(end, Done)
    assert passed.count(b"data: ") == 3


# Errors inside an answer


ERROR = {"error": {"message": "boom", "type": "server_error", "code": 500}}
WITHIN = {"message": "boom", "param": None}


@pytest.mark.parametrize(
    ("error", "status", "kind", "retryable"),
    [
        (ERROR, 500, UpstreamError, True),
        ({"error": "boom"}, 500, UpstreamError, True),
        ({"error": WITHIN | {"type": "BadRequestError", "code": 400}}, 400, UpstreamError, False),
        ({"error": WITHIN | {"type": "invalid_request_error"}}, 400, UpstreamError, False),
        ({"error": WITHIN | {"code": "rate_limit_exceeded"}}, 429, Overloaded, True),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "boom"}}, 503, UpstreamError, True),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_object_with_status_200_is_an_error(
    asked: Asked, stream: bool, error: dict[str, Any], status: int, kind: type, retryable: bool
) -> None:
    for said in (answer(error), *([chunked(data(error), DONE)] if stream else [])):
        passed, end = await asked(said, stream=stream)
        assert passed == b""
        assert isinstance(end, Failure)
        assert isinstance(end.error, kind)
        assert (end.error.status, end.error.message, end.retryable) == (status, "boom", retryable)


async def test_an_error_in_mid_stream_comes_once_after_what_went_before(asked: Asked) -> None:
    for _ in range(3):
        passed, end = await asked(chunked(event("1") + data(ERROR) + DONE), stream=True)
        assert passed == event("1").replace(b'"model": "up"', b'"model":"ours"')
        assert isinstance(end, Failure)
        assert end.error.message == "boom"
    assert asked.member.state().breaker_open
    assert asked.member.status().last_error == "it answered with status 500: boom"


async def test_an_event_named_error_is_an_error_whatever_it_holds(asked: Asked) -> None:
    for said in (b"event: error\n\n", b"event: error\ndata: {}\n\n", b'event: error\ndata: {"message": "x"}\n\n'):
        passed, end = await asked(chunked(said, DONE), stream=True)
        assert passed == b""
        assert isinstance(end, Failure)
        assert (end.error.status, end.retryable) == (500, True)


async def test_a_client_s_error_in_mid_stream_is_not_counted_against_the_member(asked: Asked) -> None:
    for _ in range(3):
        _, end = await asked(chunked(event("1") + data({"error": WITHIN | {"code": 400}})), stream=True)
        assert isinstance(end, Failure)
    assert not asked.member.state().breaker_open


@pytest.mark.parametrize("nothing", [None, "", False, {}])
async def test_an_error_field_that_says_nothing_is_none(asked: Asked, nothing: object) -> None:
    _, end = await asked(answer(WHOLE | {"error": nothing}))
    assert isinstance(end, Done)
    _, end = await asked(chunked(event("1", error=nothing), event(None, "stop"), DONE), stream=True)
    assert isinstance(end, Done)


async def test_a_text_that_holds_the_word_error_is_no_error(asked: Asked) -> None:
    passed, end = await asked(chunked(event('{"error": "x"}'), event("error", "stop"), DONE), stream=True)
    assert isinstance(end, Done)
    assert passed.count(b"data: ") == 3


async def test_a_failed_response_is_passed_on_and_counted(asked: Asked) -> None:
    start = data({"type": "response.created", "response": {"error": None}})
    last = data({"type": "response.failed", "response": {"error": {"code": "server_error", "message": "boom"}}})
    for _ in range(3):
        passed, end = await asked(chunked(start, last), stream=True, kind="responses")
        assert passed == start + last
        assert isinstance(end, Done)
    assert asked.member.state().breaker_open


# Figures that no answer has

ODD = [2**63, 2**64, 10**400, -1, -(2**63), 3.5, "x", None, [], {}, True]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_usage_out_of_range_is_no_usage(asked: Asked, odd: object, stream: bool) -> None:
    usage = {"prompt_tokens": odd, "completion_tokens": odd, "prompt_tokens_details": {"cached_tokens": odd}}
    before = asked.member.state()
    said = chunked(event("1", usage=usage), event(None, "stop"), DONE) if stream else answer(WHOLE | {"usage": usage})
    _, end = await asked(said, stream=stream)
    assert isinstance(end, Done)
    assert (end.usage.prompt_tokens, end.usage.completion_tokens, end.usage.cached_tokens) == (0, 0, 0)
    after = asked.member.state()
    assert after.mean_output_tokens == before.mean_output_tokens
    assert (after.running, asked.member.status().in_flight) == (0, 0)


@pytest.mark.parametrize("usage", ["x", [], 5, True])
async def test_a_usage_of_another_shape_is_no_usage(asked: Asked, usage: object) -> None:
    _, end = await asked(answer(WHOLE | {"usage": usage}))
    assert isinstance(end, Done)
    assert end.usage.completion_tokens == 0


async def test_one_odd_figure_does_not_hide_the_others(asked: Asked) -> None:
    usage = {"prompt_tokens": "many", "completion_tokens": 2, "prompt_tokens_details": "none"}
    _, end = await asked(answer(WHOLE | {"usage": usage}))
    assert isinstance(end, Done)
    assert (end.usage.prompt_tokens, end.usage.completion_tokens) == (0, 2)


@pytest.mark.parametrize("reason", ["x" * 1_000_000, 5, True, [], {"a": 1}])
async def test_an_odd_finish_reason_ends_the_answer_all_the_same(asked: Asked, reason: object) -> None:
    said = event(None, "stop").replace(b'"stop"', json.dumps(reason).encode())
    _, end = await asked(chunked(event("1"), said), stream=True)
    assert isinstance(end, Done)
    assert end.finish_reason == "stop"


async def test_only_the_model_of_the_answer_itself_is_renamed(asked: Asked) -> None:
    passed, _ = await asked(answer({"provider": {"model": "inner"}} | WHOLE))
    assert (json.loads(passed)["provider"], json.loads(passed)["model"]) == ({"model": "inner"}, "ours")
    dated = event("1").replace(b'"up"', b'"up-2024-08-06"')
    passed, _ = await asked(chunked(dated, event(None, "stop"), DONE), stream=True)
    assert b"up" not in passed


async def test_an_answer_in_many_pieces_of_one_byte_is_put_together(asked: Asked) -> None:
    text = json.dumps(WHOLE | {"x": "a" * 300_000}).encode()
    passed, end = await asked(chunked(*(bytes([byte]) for byte in text)))
    assert isinstance(end, Done)
    assert len(passed) == len(text) + len(b'"model":"ours"') - len(b'"model": "up"')
