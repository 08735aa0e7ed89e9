"""HTTP/1.1 answers as bytes: status lines, heads, chunk framing. No state, no sockets."""

from urllib.parse import quote

JSON = "application/json"
EVENTS = "text/event-stream; charset=utf-8"

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_REASONS = {
    200: "OK",
    202: "Accepted",
    204: "No Content",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    499: "Client Closed Request",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    507: "Insufficient Storage",
}
_STATUS_LINES = {status: f"HTTP/1.1 {status} {reason}\r\n" for status, reason in _REASONS.items()}


def status_line(status: int) -> str:
    line = _STATUS_LINES.get(status)
    return line if line is not None else f"HTTP/1.1 {status} Status\r\n"


_STREAM_START = f"HTTP/1.1 200 OK\r\ncontent-type: {EVENTS}\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
_CHUNKED = "transfer-encoding: chunked\r\n"
#: How the heads of whole and of streamed answers begin, up to the first line that differs between requests.
COMMON_HEADS = (
    f"{_STATUS_LINES[200]}content-type: {JSON}\r\n".encode(),
    f"{_STREAM_START}{_CHUNKED}".encode(),
)


def head(status: int, content_type: str, length: int, extra: str) -> bytes:
    """The head of an answer whose length is known. `extra` holds header lines. 204 has neither type nor length."""
    entity = "" if status == 204 else f"content-type: {content_type}\r\ncontent-length: {length}\r\n"
    return f"{_STATUS_LINES.get(status) or status_line(status)}{entity}{extra}\r\n".encode("latin-1")


def stream_head(extra: str, *, keep_alive: bool, old_client: bool) -> bytes:
    """The head of an event stream: chunked, or for an HTTP/1.0 client ended by closing the connection."""
    framing = "" if old_client else _CHUNKED
    return f"{_STREAM_START}{framing}{extra}{connection(keep_alive, old_client)}\r\n".encode("latin-1")


def connection(keep_alive: bool, old_client: bool) -> str:
    if not keep_alive:
        return "connection: close\r\n"
    return "connection: keep-alive\r\n" if old_client else ""


def header_text(text: str) -> str:
    """`text` as a header may carry it: ASCII without controls, everything else percent-encoded."""
    if text.isascii() and text.isprintable():
        return text
    return quote(text, safe=" !#$&'()*+,/:;=?@[]{}|\"<>^`\\~")
