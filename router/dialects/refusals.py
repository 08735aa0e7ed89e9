"""The JSON body of an error, in the shape of the API that was asked. Its status and headers are those of HTTP.

openai      {"error": {"message", "type", "param", "code"}}
anthropic   {"type": "error", "error": {"type", "message"}}
"""

from typing import Literal

import msgspec

from router.errors import RouterError, UpstreamError

Dialect = Literal["openai", "anthropic", "responses"]

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_encode = msgspec.json.Encoder().encode


class _OpenAIError(msgspec.Struct):
    message: str
    type: str | msgspec.UnsetType = msgspec.UNSET
    param: str | msgspec.UnsetType | None = msgspec.UNSET
    code: str | int | msgspec.UnsetType = msgspec.UNSET  # never null: docs/frontend.md


class _OpenAIBody(msgspec.Struct):
    error: _OpenAIError


class _AnthropicError(msgspec.Struct):
    type: Literal[
        "invalid_request_error", "authentication_error", "billing_error", "permission_error", "not_found_error",
        "request_too_large", "rate_limit_error", "timeout_error", "overloaded_error", "api_error",
    ]  # fmt: skip
    message: str


class _AnthropicBody(msgspec.Struct):
    type: Literal["error"]
    error: _AnthropicError


class _Told(msgspec.Struct):
    """What is kept of an error object of another shape."""

    message: str = ""
    param: str | None = None


class _ToldBody(msgspec.Struct):
    error: _Told


def body(error: RouterError, dialect: Dialect) -> bytes:
    """The JSON body of `error`. An engine's own is passed on where it has the dialect's shape, else made anew."""
    message, param = error.message, error.param
    if isinstance(error, UpstreamError):
        if _is_shaped(error.body, dialect):
            return error.body
        told = _read(error.body)
        message, param = told.message or message, told.param
    if dialect == "anthropic":
        return _encode({"type": "error", "error": {"type": _anthropic_type(error), "message": message}})
    fields = {"message": message, "type": error.type, "param": param, "code": error.code or error.status}
    return _encode({"error": fields})


def _anthropic_type(error: RouterError) -> str:
    return _ANTHROPIC_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")


def _is_shaped(body: bytes, dialect: Dialect) -> bool:
    """Whether an engine's or upstream's error body is what the dialect's clients expect."""
    try:
        body.decode()  # what msgspec skips it does not check
        msgspec.json.decode(body, type=_AnthropicBody if dialect == "anthropic" else _OpenAIBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _read(body: bytes) -> _Told:
    try:
        return msgspec.json.decode(body, type=_ToldBody).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Told()
