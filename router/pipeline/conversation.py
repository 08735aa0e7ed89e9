"""What library callers hand in, a text or OpenAI's messages, as a request: read by the very reader of HTTP's bodies."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from router.dialects.decode import read
from router.errors import BadRequest
from router.types import Query

#: Messages as OpenAI's chat API takes them: `{"role": ..., "content": text or parts}`.
Message: TypeAlias = Mapping[str, Any]
Conversation: TypeAlias = Sequence[Message]

#: What decides, beside the messages; other parameters need not be JSON here.
_READ = ("tools", "functions", "response_format", "structured_outputs", "logprobs")


def query_of(
    what: str | Conversation,
    *,
    model: str,
    max_tokens: int | None = None,
    choices: int = 1,
    parameters: Mapping[str, Any] | None = None,
) -> Query:
    """Raises `BadRequest` where a message is none."""
    found = parameters or {}
    more = {name: found[name] for name in _READ if name in found}
    return request_of(what, {**more, "model": model, "max_tokens": max_tokens, "n": choices})[0]


def request_of(what: str | Conversation, parameters: Mapping[str, Any]) -> tuple[Query, bytes]:
    """The query, and the body that a client would have sent. Raises `BadRequest`."""
    messages = [{"role": "user", "content": what}] if isinstance(what, str) else what
    try:
        body = msgspec.json.encode({"messages": messages, **parameters}, enc_hook=_plain)
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise BadRequest(f"expected text, got half of a surrogate pair, {half}, alone", param="messages") from None
    except (TypeError, OverflowError, ValueError, RecursionError) as error:
        raise BadRequest(f"expected what JSON can hold: {error}", param="messages") from None
    return read("chat", body)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"got {type(value).__name__}")
