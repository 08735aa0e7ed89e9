"""The one place where an error becomes an answer: its status, its extra headers and its body in the route's dialect.

openai      {"error": {"message", "type", "param", "code"}};   in a stream  data: {"error": ...}   data: [DONE]
anthropic   {"type": "error", "error": {"type", "message"}};   in a stream  event: error
responses   as openai;                  in a stream  event: error, data: {"type": "error", "code", ...}   data: [DONE]
"""

import math

import msgspec

from router.dialects.refusals import Dialect, body
from router.errors import EngineLost, MethodNotAllowed, RouterError

__all__ = ["Dialect", "body", "events", "headers"]

DONE_EVENT = b"data: [DONE]\n\n"
#: Sent where a refusal names no better moment.
RETRY_AFTER_S = 1.0

_encode = msgspec.json.Encoder().encode


def events(error: RouterError, dialect: Dialect) -> bytes:
    """What ends a stream that `error` broke: an error event, then the dialect's end mark."""
    if dialect == "responses":
        fields = {
            "type": "error",
            "code": str(error.code or error.type),
            "message": error.message,
            "param": error.param,
        }
        return b"event: error\ndata: %b\n\n" % _encode(fields) + DONE_EVENT
    # An event is one line; in JSON a raw line break can only be white space between tokens.
    line = body(error, dialect).replace(b"\r", b" ").replace(b"\n", b" ")
    if dialect == "anthropic":
        return b"event: error\ndata: %b\n\n" % line
    return b"data: %b\n\n" % line + DONE_EVENT


def headers(error: RouterError) -> str:
    """Header lines that `error` asks for."""
    lines = ""
    if error.status == 429 or error.retry_after_s is not None:
        wait_s = error.retry_after_s or RETRY_AFTER_S
        lines += f"retry-after: {max(1, math.ceil(wait_s))}\r\nretry-after-ms: {max(1, math.ceil(1e3 * wait_s))}\r\n"
    if isinstance(error, EngineLost):
        # The clients of OpenAI and Anthropic ask again after a 500, and would lose the next engine.
        lines += "x-should-retry: false\r\n"
    if isinstance(error, MethodNotAllowed):
        lines += f"allow: {error.allow}\r\n"
    if error.status == 401:
        lines += "www-authenticate: Bearer\r\n"
    return lines
