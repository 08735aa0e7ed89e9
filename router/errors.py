"""Every error a user can meet, each with its HTTP status and OpenAI error type.

Translated to a response in one place of the frontend, and in one of the engine host; nothing here knows how.
"""

#: What a client is told where the fault is a bug of ours.
OUR_FAULT = "internal error; the server's log says more"


class HeadgateError(Exception):
    """Root of all our errors. `str(error)` is what the user reads."""


class ConfigError(HeadgateError):
    """A config, checkpoint or data file that is refused: says the file, the key and what was expected."""


class EngineStartError(HeadgateError):
    """An engine host that died before it was ready. Carries the engine's own last words."""

    def __init__(self, member: str, why: str) -> None:
        super().__init__(f"engine {member!r} failed to start: {why}")
        self.member = member
        self.why = why


class ArgumentsRefused(EngineStartError):
    """vLLM refuses an argument of an engine: `key` as it is written in `engine_args`, empty where several are to blame.
    No engine of the pool was loaded where it is the first start."""

    def __init__(self, member: str, key: str, why: str) -> None:
        super().__init__(member, f"engine_args: {key}{key and ': '}{why}")
        self.key = key
        self.said = why


class ProtocolError(HeadgateError):
    """A peer sent a frame that we refuse: too large, malformed, or out of turn."""


class RouterError(HeadgateError):
    """A request that is refused or that failed. Subclasses fix status and type."""

    status = 500
    type = "internal_error"
    code: str | None = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code
        self.retry_after_s = retry_after_s


class BadRequest(RouterError):
    status = 400
    type = "invalid_request_error"


class Unauthorized(RouterError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class Forbidden(RouterError):
    status = 403
    type = "permission_error"


class NotFound(RouterError):
    status = 404
    type = "not_found_error"


class ModelNotFound(NotFound):
    code = "model_not_found"


class Conflict(RouterError):
    """What is asked for does not go together with what is so now."""

    status = 409
    type = "invalid_request_error"


class MethodNotAllowed(RouterError):
    status = 405
    type = "invalid_request_error"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class RequestTimeout(RouterError):
    status = 408
    type = "timeout_error"


class ContentTooLarge(RouterError):
    status = 413
    type = "invalid_request_error"
    code = "content_too_large"


class HeadersTooLarge(RouterError):
    status = 431
    type = "invalid_request_error"
    code = "headers_too_large"


class ContextTooLong(BadRequest):
    code = "context_length_exceeded"


class Overloaded(RouterError):
    """Over a configured bound. Always sent with `Retry-After`."""

    status = 429
    type = "rate_limit_error"
    code = "overloaded"


class ClientGone(RouterError):
    """The client closed its connection; 499 appears in metrics only."""

    status = 499
    type = "client_closed_request"


class EngineFailed(RouterError):
    """The engine died or broke the protocol while it held the request."""

    status = 502
    type = "engine_error"
    code = "engine_failed"


class EngineLost(RouterError):
    """The engine was lost together with this request, which may be why: it is not handed to another one."""

    status = 500
    type = "engine_error"
    code = "engine_lost"


class NoEngine(RouterError):
    """No member of the pool can take the request now."""

    status = 503
    type = "service_unavailable"
    code = "no_engine"


class OlderHost(RouterError):
    """The engine's host is of a release that does not know what is asked of it."""

    status = 501
    type = "not_supported_error"
    code = "older_host"


class NotSupported(RouterError):
    """Known, and not served here. Says what is served in its place."""

    status = 501
    type = "not_supported_error"
    code = "not_supported"


class FeedbackOff(NotSupported):
    """The server writes no journal, so there is nowhere to write feedback to."""

    code = "feedback_off"


class NotWritten(RouterError):
    """The journal could not take a line that somebody waits for."""

    status = 503
    type = "service_unavailable"
    code = "feedback_not_written"


class BatchesOff(RouterError):
    """The server has no folder for files and batches."""

    status = 501
    type = "not_supported_error"
    code = "batches_off"


class BatchesElsewhere(RouterError):
    """The folder of the batches is not ours yet: another process has it, or it is still being read."""

    status = 503
    type = "service_unavailable"
    code = "batches_not_ready"


class StorageFull(RouterError):
    """There is no room for a file: of the disk, or of what the config allows."""

    status = 507
    type = "insufficient_storage"
    code = "storage_full"


class Withdrawn(RouterError):
    """A batch's line made room for other requests. It is put back: in the ledger only."""

    status = 503
    type = "withdrawn"


class DeadlineExceeded(RouterError):
    status = 504
    type = "timeout_error"
    code = "deadline_exceeded"


#: What OpenAI calls errors of these statuses; others are the request's fault below 500 and the server's above.
_UPSTREAM_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
    502: "engine_error",
    503: "service_unavailable",
    504: "timeout_error",
}


def error_status(status: int) -> int:
    """`status` where it is an error's, else 502: an engine may say any number, and a client must be given an error."""
    return status if 400 <= status <= 599 else 502


class UpstreamError(RouterError):
    """An engine's own refusal: its status (`error_status`), its words, and its error body, which is passed on where its
    shape is right."""

    def __init__(self, status: int, body: bytes, message: str, *, code: str | None = None) -> None:
        status = error_status(status)
        super().__init__(message, code=code)
        self.status = status
        self.type = _UPSTREAM_TYPES.get(status, "invalid_request_error" if status < 500 else "internal_error")
        self.body = body
