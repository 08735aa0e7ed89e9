"""Reads usage, finish reason and error from an upstream's answer or from one event of it, and whether it is an answer.

Input is not trusted: a field of a wrong type or out of range counts as absent.
"""

from collections.abc import Mapping

import msgspec

from router.types import Kind, Usage

#: What an answer of the kind consists of: the field that it cannot do without, and how that field's value begins.
_SUBSTANCE: Mapping[Kind, tuple[str, bytes]] = {
    "chat": ("choices", b"["),
    "completions": ("choices", b"["),
    "responses": ("output", b"["),
    "messages": ("content", b"["),
    "count_tokens": ("input_tokens", b"0123456789"),
    "tokenize": ("tokens", b"["),
    "detokenize": ("prompt", b'"'),
    "embeddings": ("data", b"["),
    "embed": ("embeddings", b"{["),
    "pooling": ("data", b'[{"'),
    "score": ("data", b"["),
    "rerank": ("results", b"["),
    "classify": ("data", b"["),
    "chat_batch": ("choices", b"["),
}
_NO_ERROR = frozenset({b"null", b"false", b"{}", b'""'})
#: No answer is longer and no context wider; a larger count is a mistake.
MOST_TOKENS = 100_000_000
_LONGEST_REASON = 64

NULL = msgspec.Raw(b"null")


class Choice(msgspec.Struct):
    index: int = 0
    finish_reason: msgspec.Raw = NULL


class Said(msgspec.Struct):
    """The fields that are read, of all APIs. Absent and null are the same."""

    choices: list[Choice] | None = None
    model: msgspec.Raw = NULL
    usage: msgspec.Raw = NULL
    error: msgspec.Raw = NULL
    type: msgspec.Raw = NULL  # of an event of the responses and messages APIs
    response: msgspec.Raw = NULL  # of `response.completed`
    message: msgspec.Raw = NULL  # of `message_start`
    delta: msgspec.Raw = NULL  # of `message_delta`
    stop_reason: msgspec.Raw = NULL  # of a whole answer of the messages API, or such a `delta`


class _Details(msgspec.Struct):
    cached_tokens: msgspec.Raw = NULL


class _Usage(msgspec.Struct):
    """Of chat and completions; `input_` and `output_tokens` of responses and messages."""

    prompt_tokens: msgspec.Raw = NULL
    completion_tokens: msgspec.Raw = NULL
    prompt_tokens_details: msgspec.Raw = NULL
    input_tokens: msgspec.Raw = NULL
    output_tokens: msgspec.Raw = NULL


_said = msgspec.json.Decoder(Said).decode
_usage = msgspec.json.Decoder(_Usage).decode
_details = msgspec.json.Decoder(_Details).decode
_integer = msgspec.json.Decoder(int, strict=False).decode
_text = msgspec.json.Decoder(str).decode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
#: What decoding raises: text that is no JSON, fields of other types, broken UTF-8, brackets without end.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read(json: bytes | msgspec.Raw) -> Said:
    """Raises one of `UNREADABLE`."""
    return _said(json)


def inner(json: msgspec.Raw) -> Said:
    """Of a field that may hold anything."""
    try:
        return _said(json)
    except UNREADABLE:
        return Said()


def is_error(said: Said) -> bool:
    return said.error != NULL and bytes(said.error) not in _NO_ERROR


def is_answer(kind: Kind, body: bytes) -> bool:
    """Whether a whole body has what an answer of `kind` consists of; of kinds that have nothing always so, any object.
    Raises one of `UNREADABLE`."""
    if kind not in _SUBSTANCE:
        return bool(_fields(body))
    name, begins = _SUBSTANCE[kind]
    return bytes(_fields(body).get(name, NULL))[:1] in begins


def text(json: msgspec.Raw) -> str:
    """A short text; empty where it is none."""
    try:
        said = _text(json)
    except UNREADABLE:
        return ""
    return said if len(said) <= _LONGEST_REASON else ""


def counted(usage: Usage, json: msgspec.Raw) -> Usage:
    """The larger counts: the messages API tells those of the prompt first and those of the answer last."""
    try:
        told = _usage(json)
    except UNREADABLE:
        return usage
    try:
        cached = _tokens(_details(told.prompt_tokens_details).cached_tokens)
    except UNREADABLE:
        cached = 0
    return Usage(
        max(usage.prompt_tokens, _tokens(told.prompt_tokens) or _tokens(told.input_tokens)),
        max(usage.completion_tokens, _tokens(told.completion_tokens) or _tokens(told.output_tokens)),
        max(usage.cached_tokens, cached),
    )


def _tokens(json: msgspec.Raw) -> int:
    """A count, or 0 for what is none."""
    try:
        count = _integer(json)
    except UNREADABLE:
        return 0
    return count if 0 <= count <= MOST_TOKENS else 0
