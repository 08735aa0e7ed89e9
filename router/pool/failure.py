"""What an engine's or upstream's error means: whose fault it is, and whether another member may do better."""

from collections.abc import Mapping

import msgspec

from router.dialects.answers import UNREADABLE
from router.errors import ContextTooLong, EngineFailed, Overloaded, UpstreamError, error_status
from router.pool.base import Failure

_CONTEXT_CODE = "context_length_exceeded"
_CONTEXT_WORDS = ("maximum context length", "max_model_len", "context window", "longer than the maximum model length")
#: Statuses that speak of what the gateway adds to a request: its key, its account, its route and its headers.
_OF_THE_GATEWAY = frozenset({401, 402, 403, 404, 405, 406, 407, 411, 414, 415, 417, 421, 426, 431, 511})
#: Those of them that no client can bring about, whatever it asks for: they count against the member.
_OF_ITS_LOGIN = frozenset({401, 402, 407, 421, 426, 511})
_GATEWAY_CODES = frozenset({
    "invalid_api_key", "insufficient_quota", "billing_hard_limit_reached", "account_deactivated",
    "model_not_found", "unavailable_model", "DeploymentNotFound",
})  # fmt: skip
#: A 404 that speaks of a thing that the client's body names.
_CLIENTS_THINGS = ("response with id", "previous response", "previous_response", "no such file", "file with id")
#: What the types of errors that come without a status mean.
_STATUS_OF_TYPE: Mapping[str, int] = {
    "BadRequestError": 400,
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "AuthenticationError": 401,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "insufficient_quota": 402,
    "billing_error": 402,
    "permission_error": 403,
    "NotFoundError": 404,
    "not_found_error": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "overloaded_error": 503,
    "timeout_error": 504,
}
_LONGEST_MESSAGE = 1_000
_LONGEST_CODE = 100
#: Where an error's words stand, the most telling first.
_WORDS_AT = ("message", "msg", "error_description", "detail", "error", "errors", "title", "reason")


class Told(msgspec.Struct, frozen=True):
    """What an error body says, whatever its shape."""

    message: str = ""
    code: str = ""
    status: int = 0
    param: str = ""
    type: str = ""


class Refusal(msgspec.Struct, frozen=True):
    """What an upstream's error is to us."""

    failure: Failure
    counts: bool = False  #: against the member's health
    why: str = ""  #: for the operator, where it is about the member and not about the client's request


def failure_of(status: int, body: bytes, code: str, *, retryable: bool, retry_after_s: float = 1.0) -> Failure:
    """The failure that an error of this HTTP status and body is. The body is passed on to the client as it is."""
    told = _read(body)
    code = code[:_LONGEST_CODE] or told.code
    message = told.message or f"the engine answered with status {status}"
    status = error_status(status)
    if status in (400, 413, 422) and (code == _CONTEXT_CODE or any(words in message for words in _CONTEXT_WORDS)):
        return Failure(ContextTooLong(message, param=told.param or "messages"), retryable=True, context=True)
    if status == 429:
        return Failure(Overloaded(message, retry_after_s=retry_after_s), retryable=True)
    return Failure(UpstreamError(status, body, message, code=code or None), retryable=retryable or status >= 500)


def refusal_of(name: str, status: int, body: bytes, *, retry_after_s: float = 1.0) -> Refusal:
    """What it means that the upstream of member `name` answered with this status, 400 or more, and body."""
    told = _read(body)
    words = one_line(told.message) or f"status {status}"
    if _speaks_of_the_gateway(status, told):
        # The words may hold parts of our key or account: they are the operator's.
        error = EngineFailed(f"model {name!r} failed: it refused the gateway's own request with status {status}")
        why = f"it refused the gateway's own request with status {status}: {words}"
        return Refusal(Failure(error, retryable=True), status in _OF_ITS_LOGIN, why)
    failure = failure_of(status, body, "", retryable=status in (408, 425), retry_after_s=retry_after_s)
    if is_members_fault(status):
        return Refusal(failure, True, f"it answered with status {status}: {words}")
    return Refusal(failure)


def status_of(error: bytes) -> int:
    """The status of an error that came inside an answer of status 200."""
    told = _read(error)
    if 400 <= told.status <= 599:
        return told.status
    return _STATUS_OF_TYPE.get(told.code) or _STATUS_OF_TYPE.get(told.type, 500)


def is_members_fault(status: int) -> bool:
    """Whether a status speaks against the member's health. A refusal (4xx, 503, 529) is an answer; so is a 501."""
    return not 400 <= status < 500 and status not in (501, 503, 529)


def one_line(text: str) -> str:
    """`text` for a log or a page: no line breaks, no control characters, not long."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))[:_LONGEST_MESSAGE]


def _speaks_of_the_gateway(status: int, told: Told) -> bool:
    if status == 404:
        of_the_body = told.param not in ("", "model")
        return not of_the_body and not any(words in told.message.lower() for words in _CLIENTS_THINGS)
    # The client's name of a model was replaced by ours: whoever finds fault with it finds fault with the config.
    return status in _OF_THE_GATEWAY or (status < 500 and (told.code in _GATEWAY_CODES or told.param == "model"))


def _read(body: bytes) -> Told:
    """What an error body of any of these shapes says, or its text where it is not JSON.

    {"error": {"message", "code", "param"}}   {"error": "words"}   {"detail": "words" or [{"loc", "msg"}]}
    {"message": "words", "code"}   {"error": "code", "error_description": "words"}
    {"errors": ["words" or {"message"}]}   [any of these]
    """
    try:
        tree = msgspec.json.decode(body)
    except UNREADABLE:
        return Told(
            "" if body.lstrip()[:1] == b"<" else _bounded(body[: 4 * _LONGEST_MESSAGE].decode("utf-8", "replace"))
        )
    if isinstance(tree, list) and tree:
        tree = tree[0]
    if not isinstance(tree, dict):
        return Told(_words(tree))
    error = tree.get("error")
    fields: dict[str, object] = error if isinstance(error, dict) else tree
    code = fields.get("code")
    status = code if isinstance(code, int) else fields.get("status")
    return Told(
        _words(tree if not isinstance(error, dict) else error) or _words(tree),
        _short(code) or ("" if "error_description" not in tree else _short(error)),
        status if isinstance(status, int) and not isinstance(status, bool) else 0,
        _short(fields.get("param")),
        _short(fields.get("type")),
    )


def _words(node: object, depth: int = 4) -> str:
    """The text of an error, wherever it stands in `node`."""
    if isinstance(node, str):
        return _bounded(node)
    if depth and isinstance(node, list):
        return _bounded("; ".join(filter(None, (_words(item, depth - 1) for item in node[:8]))))
    if not depth or not isinstance(node, dict):
        return ""
    words = next(filter(None, (_words(node.get(name), depth - 1) for name in _WORDS_AT)), "")
    where = node.get("loc")  # of FastAPI's details
    if words and isinstance(where, list):
        words = f"{'.'.join(str(part)[:_LONGEST_CODE] for part in where[:8])}: {words}"
    return words


def _bounded(text: str) -> str:
    text = text[: 4 * _LONGEST_MESSAGE].strip()
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}..."


def _short(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= _LONGEST_CODE else ""
