"""Converts vLLM's refusals to ours: error bodies, error events in streams, and exceptions raised after a response has
begun."""

import re
from typing import Any

import msgspec

from router.host.base import ErrorAnswer, printable
from router.types import Kind

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    503: "service_unavailable",
}
#: The status of an error event that names none: vLLM's names of errors, OpenAI's and Anthropic's.
_STATUSES = {
    "BadRequestError": 400,
    "invalid_request_error": 400,
    "NotFoundError": 404,
    "not_found_error": 404,
    "UnprocessableEntityError": 422,
    "NotImplementedError": 501,
    "ServiceUnavailableError": 503,
    "overloaded_error": 503,
}
_TOO_LONG = re.compile(r"maximum context length|maximum model length|max_model_len|max_total_tokens")
#: One reason in pydantic's report: where, as 0.30 and later write it or as earlier versions do, and what.
_REPORT = re.compile(r"""'loc': (?:'body\.([^']*)'|\('body', ([^)]*)\)), 'msg': (?:'((?:[^'\\]|\\.)*)'|"([^"]*)")""")
#: vLLM's refusals that say how an engine was configured, not that the request is wrong: another member may do it.
_NOT_CONFIGURED = re.compile(r"requires --|does not support|is not supported by this model")


class _Error(msgspec.Struct):
    message: str = ""
    param: Any = None
    type: Any = ""
    code: Any = None


class _Errors(msgspec.Struct):
    """An error body or event: its fields stand within `error`, or, as in events of `responses`, at the top."""

    error: _Error | None = None
    message: str = ""
    param: Any = None
    code: Any = None

    def only(self) -> _Error:
        return self.error or _Error(message=self.message, param=self.param, code=self.code)


_errors = msgspec.json.Decoder(_Errors, strict=False)


def cause(error: BaseException) -> BaseException:
    """The exception that vLLM raised, within what was raised around it once the response had begun."""
    while True:
        inner: BaseException | None = None
        if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            inner = error.exceptions[0]
        elif isinstance(error, RuntimeError) and "response already started" in str(error):
            inner = error.__cause__
        elif type(error).__name__ == "ValidationError":
            inner = error.__context__  # an error that pydantic could not make an event of
        if inner is None:
            return error
        error = inner


def _read(body: bytes, otherwise: str) -> _Error:
    try:
        return _errors.decode(body).only()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Error(message=body.decode(errors="replace") or otherwise)


def status_of(event: bytes) -> int:
    """The HTTP status of an error event."""
    error = _read(event, "")
    for told in (error.code, error.type):
        status = _STATUSES.get(told, 0) if isinstance(told, str) else told
        if type(status) is int and 400 <= status < 600:
            return status
    return 500


def failure(status: int, body: bytes, kind: Kind, code: str = "") -> ErrorAnswer:
    """vLLM's error in our shape: its message and parameter, OpenAI's type, our code (`code`, where given)."""
    error = _plain(_read(body, f"the engine answered with status {status}"))
    message = printable(error.message) or f"the engine answered with status {status}"
    too_long = status < 500 and _TOO_LONG.search(message) is not None
    code = "context_length_exceeded" if too_long else code
    type_ = _TYPES.get(status, "invalid_request_error" if status < 500 else "internal_error")
    param = printable(error.param) if isinstance(error.param, str) else None
    content: dict[str, Any] = {"message": message, "type": type_, "param": param, "code": code or None}
    if kind in ("messages", "count_tokens"):
        content = {"type": "error", "error": {"type": type_, "message": message}}
    else:
        content = {"error": content}
    retryable = too_long or status in (501, 503) or (status < 500 and bool(_NOT_CONFIGURED.search(message)))
    return ErrorAnswer(status=status, body=msgspec.json.encode(content), code=code, retryable=retryable)


def _plain(error: _Error) -> _Error:
    """pydantic's report of a bad body in plain words."""
    found = [
        (path or steps.rstrip(",").replace("'", "").replace(", ", "."), single or double)
        for path, steps, single, double in _REPORT.findall(error.message)
    ]
    if not found:
        return error
    # A position alone is where the JSON itself breaks off: no field to name.
    reasons = [what if where.isdigit() else f"{where}: {what}" for where, what in found]
    first = None if found[0][0].isdigit() else found[0][0]
    param = first if error.param is None or str(error.param).startswith("body.") else error.param
    return _Error(message="; ".join(reasons).replace("Value error, ", ""), param=param)
