"""Error bodies of engines and upstreams, read."""

import pytest

from router.errors import ContextTooLong, Overloaded, UpstreamError
from router.pool.failure import failure_of


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"too long","type":"BadRequestError","code":"context_length_exceeded"}}',
        b'{"error":{"message":"This model\'s maximum context length is 1024 tokens. However, ...","code":400}}',
        b'{"object":"error","message":"prompt is longer than the maximum model length of 512","code":400}',
    ],
)
def test_a_prompt_that_is_too_long_may_go_to_a_larger_context(body: bytes) -> None:
    failure = failure_of(400, body, "", retryable=False)
    assert isinstance(failure.error, ContextTooLong)
    assert (failure.retryable, failure.context) == (True, True)


def test_a_limit_of_tokens_beyond_the_context_names_its_own_field() -> None:
    body = b'{"error":{"message":"max_tokens=600 cannot be greater than max_model_len=512","param":"max_tokens"}}'
    assert failure_of(400, body, "", retryable=False).error.param == "max_tokens"
    assert failure_of(400, b"maximum context length", "", retryable=False).error.param == "messages"


def test_a_refusal_keeps_status_body_and_code() -> None:
    body = b'{"error":{"message":"no such tool","type":"x","code":"bad_tool"}}'
    failure = failure_of(400, body, "", retryable=False)
    assert isinstance(failure.error, UpstreamError)
    assert (failure.error.status, failure.error.body, failure.error.code) == (400, body, "bad_tool")
    assert str(failure.error) == "no such tool"
    assert not failure.retryable


def test_overload_and_server_errors_may_be_tried_elsewhere() -> None:
    assert isinstance(failure_of(429, b"{}", "", retryable=False).error, Overloaded)
    assert failure_of(429, b"{}", "", retryable=False).retryable
    assert failure_of(500, b"", "", retryable=False).retryable
    assert failure_of(400, b"", "", retryable=True).retryable


@pytest.mark.parametrize("body", [b"<html>bad gateway</html>", b"", b"\xff\xfe", b"[1]", b'{"error": "plain"}'])
def test_any_body_is_read(body: bytes) -> None:
    assert failure_of(502, body, "", retryable=False).error.message


@pytest.mark.parametrize(
    ("status", "type"),
    [
        (400, "invalid_request_error"),
        (404, "not_found_error"),
        (422, "invalid_request_error"),
        (500, "internal_error"),
        (501, "internal_error"),
        (502, "engine_error"),
        (503, "service_unavailable"),
    ],
)
def test_an_engines_error_is_counted_under_the_type_of_its_status(status: int, type: str) -> None:
    error = failure_of(status, b'{"error":{"message":"no"}}', "", retryable=False).error
    assert (error.status, error.type) == (status, type)
