"""What an engine's or upstream's error means: whose fault it is, and whether another member may do better."""

import msgspec

from router.errors import ContextTooLong, Overloaded, UpstreamError
from router.pool.base import Failure

_CONTEXT_CODE = "context_length_exceeded"
_CONTEXT_WORDS = ("maximum context length", "max_model_len", "context window", "longer than the maximum model length")


class _Error(msgspec.Struct):
    message: str = ""
    code: str | int | None = None


class _Envelope(msgspec.Struct):
    """OpenAI's error body, and vLLM's older one, whose fields stand at the top."""

    error: _Error | str | None = None
    message: str = ""


def failure_of(status: int, body: bytes, code: str, *, retryable: bool) -> Failure:
    """The failure that an error of this HTTP status and body is. The body is passed on to the client as it is."""
    message, body_code = _read(body)
    code = code or body_code
    message = message or f"the engine answered with status {status}"
    if status in (400, 413, 422) and (code == _CONTEXT_CODE or any(words in message for words in _CONTEXT_WORDS)):
        return Failure(ContextTooLong(message, param="messages"), retryable=True, context=True)
    if status == 429:
        return Failure(Overloaded(message, retry_after_s=1.0), retryable=True)
    return Failure(UpstreamError(status, body, message, code=code or None), retryable=retryable or status >= 500)


def is_members_fault(status: int) -> bool:
    """Whether a status speaks against the member's health. A refusal (4xx, 503) is an answer; so is a 501."""
    return status >= 500 and status not in (501, 503)


def _read(body: bytes) -> tuple[str, str]:
    """Message and code of an error body; its text when it is not JSON."""
    try:
        envelope = msgspec.json.decode(body, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body[:500].decode("utf-8", "replace").strip(), ""
    if isinstance(envelope.error, _Error):
        code = envelope.error.code
        return envelope.error.message, code if isinstance(code, str) else ""
    return envelope.error or envelope.message, ""
