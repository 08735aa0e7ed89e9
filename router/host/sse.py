"""Writes the bytes of OpenAI answers from templates: per token only the text is encoded, all other bytes are made once.

Knows the JSON of chat and text completions, not where their text comes from.
"""

import time
from typing import Literal, NamedTuple

import msgspec

from router.types import Usage

DONE = b"data: [DONE]\n\n"
_encode = msgspec.json.encode
_NULL = b"null"


class Choice(msgspec.Struct, frozen=True, gc=False):
    """One finished choice of a response that is not streamed."""

    index: int
    text: str
    finish_reason: str | None
    stop_reason: int | str | None = None


class Cached(NamedTuple):
    """Prompt tokens that the prefix cache had, and those that were written to it."""

    read: int = 0
    created: int = 0


NONE_CACHED = Cached()


class Shape(msgspec.Struct, frozen=True, gc=False):
    """The fields that vLLM sends empty, for clients of typed languages to find: each place's, as `,"name":null,...`."""

    answer: bytes = b""  #: a whole answer's own
    choice: bytes = b""
    message: bytes = b""
    usage: bytes = b""
    details: bytes = b""  #: of the usage's `prompt_tokens_details`
    tells_created: bool = False  #: which also says how much of the prompt was written to the cache
    role: bytes = b""  #: of the event that opens a choice of chat
    text: bytes = b""  #: of a streamed choice
    finish: bytes = b""  #: of a streamed choice, at its end
    event_usage: bytes = b""
    empty_delta: bytes = b'"content":""'  #: of a chat choice that ends without new text


class Head(msgspec.Struct, frozen=True, gc=False):
    """What every chunk of one response carries."""

    id: str
    model: str
    kind: Literal["chat", "completions"]
    created: int
    fingerprint: str | None = None  #: on last chunks and whole responses only, as vLLM does
    cached_details: bool = False  #: usage says how much of the prompt was cached
    shape: Shape = Shape()


class EventWriter:
    """Server-sent events of one streamed response.

    data: {"id":...,"choices":[{"index":  i  ,"delta":{"content":  "text"  },"logprobs":null,"finish_reason":null}]}
    |------- head, once a request -----|  |--- before, once a choice ---|  |-------------- after, constant -------|
    """

    __slots__ = (
        "_after",
        "_before",
        "_chat",
        "_closing_usage",
        "_continuous",
        "_fingerprint",
        "_head",
        "_prompt_tokens",
        "_start",
    )

    def __init__(
        self, head: Head, *, prompt_tokens: int, closing_usage: bool = False, continuous_usage: bool = False
    ) -> None:
        self._chat = head.kind == "chat"
        object_ = b"chat.completion.chunk" if self._chat else b"text_completion"
        self._head = head
        self._fingerprint = b""
        if head.fingerprint is not None:
            self._fingerprint = b',"system_fingerprint":' + _encode(head.fingerprint)
        self._start = b'data: {"id":%b,"object":"%b","created":%d,"model":%b,"choices":[' % (
            _encode(head.id),
            object_,
            head.created,
            _encode(head.model),
        )
        self._before: dict[int, bytes] = {}
        self._continuous = continuous_usage
        self._closing_usage = closing_usage
        self._prompt_tokens = prompt_tokens
        self._after = b',"logprobs":null,"finish_reason":null%b}]' % head.shape.text
        if self._chat:
            self._after = b"}" + self._after
        if not continuous_usage:
            self._after += b"}\n\n"

    def role(self, index: int) -> bytes:
        """The event that opens a chat choice; completions have none."""
        if not self._chat:
            return b""
        event = b'%b{"index":%d,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]' % (
            self._start,
            index,
        )
        return event + self._head.shape.role + self._tail(0)

    def text(self, index: int, text: str, tokens: int) -> bytes:
        """New text of a choice; `tokens` counts all its tokens so far."""
        try:
            before = self._before[index]
        except KeyError:
            before = self._open(index)
        if self._continuous:
            return before + _encode(text) + self._after + self._tail(tokens)
        return b"".join((before, _encode(text), self._after))

    def finish(self, index: int, text: str, tokens: int, reason: str, stop_reason: int | str | None) -> bytes:
        """The last text of a choice and why it ended."""
        shape = self._head.shape
        if self._chat and not text:
            start = b'%b{"index":%d,"delta":{%b}' % (self._start, index, shape.empty_delta)
        else:
            start = (self._before.get(index) or self._open(index)) + _encode(text) + (b"}" if self._chat else b"")
        event = b'%b,"logprobs":null,"finish_reason":%b,"stop_reason":%b%b}]' % (
            start,
            _encode(reason),
            _NULL if stop_reason is None else _encode(stop_reason),
            shape.finish,
        )
        # The last event of a stream carries the fingerprint.
        return event + self._tail(tokens) if self._closing_usage else event + self._fingerprint + self._tail(tokens)

    def usage(self, usage: Usage, created: int = 0, more: bytes = b"") -> bytes:
        """The closing event of `include_usage`. `created`: see `Cached`. `more`: fields behind."""
        details = b""
        if self._head.cached_details:
            details = b',"prompt_tokens_details":{%b}' % _cached(usage, created, self._head.shape)
        return b'%b],"usage":%b%b}\n\n' % (self._start, _usage(usage, details + more), self._fingerprint)

    def _open(self, index: int) -> bytes:
        middle = b'{"index":%d,"delta":{"content":' if self._chat else b'{"index":%d,"text":'
        before = self._before[index] = self._start + middle % index
        return before

    def _tail(self, tokens: int) -> bytes:
        if not self._continuous:
            return b"}\n\n"
        return b',"usage":%b}\n\n' % _usage(Usage(self._prompt_tokens, tokens), self._head.shape.event_usage)


def whole(head: Head, choices: list[Choice], usage: Usage, created: int = 0, more: bytes = b"") -> bytes:
    """The JSON body of a response that is not streamed. `created`: see `Cached`. `more`: fields behind the usage's."""
    chat, shape, details = head.kind == "chat", head.shape, b""
    if head.cached_details:
        details = b',"prompt_tokens_details":{%b%b}' % (_cached(usage, created, shape), shape.details)
    if len(choices) == 1:
        told = _choice(choices[0], chat, shape)
    else:
        told = b",".join([_choice(choice, chat, shape) for choice in choices])
    return b'{"id":%b,"object":"%b","created":%d,"model":%b,"choices":[%b],"system_fingerprint":%b,"usage":%b%b}' % (
        _encode(head.id),
        b"chat.completion" if chat else b"text_completion",
        head.created,
        _encode(head.model),
        told,
        _NULL if head.fingerprint is None else _encode(head.fingerprint),
        _usage(usage, details + shape.usage + more),
        shape.answer,
    )


def _choice(choice: Choice, chat: bool, shape: Shape) -> bytes:
    text = _encode(choice.text)
    if chat:
        content = b'"message":{"role":"assistant","content":%b%b}' % (text, shape.message)
    else:
        content = b'"text":%b' % text
    return b'{"index":%d,%b,"logprobs":null,"finish_reason":%b,"stop_reason":%b%b}' % (
        choice.index,
        content,
        _encode(choice.finish_reason),
        _NULL if choice.stop_reason is None else _encode(choice.stop_reason),
        shape.choice,
    )


def _cached(usage: Usage, created: int, shape: Shape) -> bytes:
    told = b',"created_cache_tokens":%d' % created if shape.tells_created else b""
    return b'"cached_tokens":%d%b' % (usage.cached_tokens, told)


def _usage(usage: Usage, more: bytes) -> bytes:
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    return b'{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d%b}' % (
        prompt,
        prompt + completion,
        completion,
        more,
    )


def now() -> int:
    """Unix seconds, for `created`."""
    return int(time.time())
