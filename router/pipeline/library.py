"""Answers for library callers: chunks and whole completions, typed, from the same bytes that HTTP clients get."""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

import msgspec

from router.errors import EngineFailed, Overloaded, RouterError
from router.ipc.messages import Done
from router.native.call import Receiver
from router.pipeline.conversation import Conversation, request_of
from router.pipeline.service import Ticket
from router.pipeline.sink import Sink
from router.types import Decision, Query, Usage

#: Answer bytes kept for a caller that does not ask for them.
MAX_UNREAD_BYTES = 16 << 20


class ChatChunk(msgspec.Struct, frozen=True):
    """One event of a streamed answer. `raw` is its JSON, with whatever else the engine said (tool calls, logprobs)."""

    text: str
    finish_reason: str | None
    usage: Usage | None
    raw: bytes
    index: int = 0  #: which of `n` choices


class Completion(msgspec.Struct, frozen=True):
    """A whole answer. `text` is that of the first choice; `raw` is the response's JSON."""

    text: str
    finish_reason: str | None
    usage: Usage
    raw: bytes
    decision: Decision


class _Content(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Content = _Content()
    message: _Content = _Content()
    finish_reason: str | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int | None = 0
    prompt_tokens_details: _Details | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None


_decode = msgspec.json.Decoder(_Answer).decode


#: A query, and the body that goes with it.
Asked: TypeAlias = tuple[Query, bytes]


class Submitter(Protocol):
    """The pipeline, as far as an answer needs it."""

    def submit(self, query: Query, body: bytes, sink: Sink) -> Ticket: ...


class _Inbox(Receiver):
    """A `Sink` that keeps what came until the caller asks for it."""

    def __init__(self) -> None:
        self.decision: Decision | None = None
        self.ticket: Ticket | None = None
        self._chunks: deque[bytes] = deque()
        self._bytes = 0
        self._end: Done | RouterError | None = None
        self._arrived = asyncio.Event()

    def start(self, decision: Decision) -> None:
        self.decision = decision

    def chunk(self, data: bytes) -> None:
        self._chunks.append(data)
        self._bytes += len(data)
        self._arrived.set()
        if self._bytes > MAX_UNREAD_BYTES:
            self.fail(Overloaded(f"more than {MAX_UNREAD_BYTES} bytes of the answer were not read"))
            self.cancel()

    def done(self, done: Done) -> None:
        self._end = done
        self._arrived.set()

    def fail(self, error: RouterError) -> None:
        self._end = error
        self._arrived.set()

    async def next(self) -> bytes | None:
        """The next bytes of the body; None after the last. Raises the error that ended the answer."""
        while not self._chunks:
            if isinstance(self._end, RouterError):
                raise self._end
            if self._end is not None:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        data = self._chunks.popleft()
        self._bytes -= len(data)
        return data

    def cancel(self) -> None:
        """Abort what still runs; a reader finds the end."""
        self._end = self._end or Done(id=0)
        ticket, self.ticket = self.ticket, None
        if ticket is not None:
            ticket.cancel()


class ChatStream:
    """An asynchronous iterator of `ChatChunk`. `decision` is known from the first chunk on."""

    def __init__(self, router: Submitter, asked: Asked) -> None:
        self._router = router
        self._asked = asked
        self._inbox: _Inbox | None = None
        self._events: deque[bytes] = deque()

    @property
    def decision(self) -> Decision | None:
        return None if self._inbox is None else self._inbox.decision

    def __aiter__(self) -> "ChatStream":
        return self

    async def __anext__(self) -> ChatChunk:
        if self._inbox is None:
            self._inbox = _submit(self._router, self._asked)
        while not self._events:
            try:
                data = await self._inbox.next()
            except asyncio.CancelledError:
                self._inbox.cancel()
                raise
            if data is None:
                raise StopAsyncIteration
            self._events.extend(_events(data))
        return _chunk(self._events.popleft())

    async def aclose(self) -> None:
        """Stop the generation, if it still runs."""
        if self._inbox is not None:
            self._inbox.cancel()

    async def __aenter__(self) -> "ChatStream":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self._inbox is not None:
            self._inbox.cancel()


async def complete(router: Submitter, asked: Asked) -> Completion:
    """The whole of an answer that is not streamed."""
    inbox = _submit(router, asked)
    try:
        parts: list[bytes] = []
        while (data := await inbox.next()) is not None:
            parts.append(data)
    finally:
        inbox.cancel()
    raw = b"".join(parts)
    answer = _read(raw)
    if not answer.choices or inbox.decision is None:
        raise EngineFailed("the engine's answer holds no choice")
    choice = answer.choices[0]
    return Completion(
        text=choice.message.content or "",
        finish_reason=choice.finish_reason,
        usage=_usage(answer.usage) or Usage(),
        raw=raw,
        decision=inbox.decision,
    )


def ask(
    messages: str | Conversation,
    model: str,
    parameters: Mapping[str, Any],
    *,
    stream: bool,
    deadline_s: float | None = None,
) -> Asked:
    """The query and the body that a client would have sent. Raises `BadRequest` where `messages` are none."""
    if stream:
        parameters = {"stream_options": {"include_usage": True}, **parameters}
    query, body = request_of(messages, {**parameters, "model": model, "stream": stream})
    return msgspec.structs.replace(query, deadline_s=deadline_s), body


def _submit(router: Submitter, asked: Asked) -> _Inbox:
    inbox = _Inbox()
    inbox.ticket = router.submit(*asked, inbox)
    return inbox


def _events(data: bytes) -> list[bytes]:
    """The JSON of each event in whole SSE events, without the closing `[DONE]`."""
    lines = data.split(b"\n")
    found = [line[5:].strip() for line in lines if line.startswith(b"data:")]
    return [event for event in found if event != b"[DONE]"]


def _chunk(event: bytes) -> ChatChunk:
    answer = _read(event)
    choice = answer.choices[0] if answer.choices else _Choice()
    return ChatChunk(
        text=choice.delta.content or "",
        finish_reason=choice.finish_reason,
        usage=_usage(answer.usage),
        raw=event,
        index=choice.index,
    )


def _read(json: bytes) -> _Answer:
    try:
        return _decode(json)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EngineFailed(f"the engine's answer is not understood: {error}") from error


def _usage(usage: _Usage | None) -> Usage | None:
    if usage is None:
        return None
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None
    return Usage(usage.prompt_tokens, usage.completion_tokens or 0, cached or 0)
