"""What a client was told of a stream, read from the bytes that it was sent: only once another engine has to go on.

Knows the events of chats and text completions, as engine hosts write them.
"""

from collections.abc import Iterable, Iterator

import msgspec

from router.types import Kind
from router.watched import Continued

_EVENT = b"data: "
_END = b"[DONE]"


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Message(msgspec.Struct):
    content: str | None = None


class _WholeChoice(msgspec.Struct):
    message: _Message | None = None
    text: str | None = None


class _Event(msgspec.Struct):
    id: str = ""
    created: int = 0
    model: str = ""
    choices: list[_Choice] = []


class _Whole(msgspec.Struct):
    choices: list[_WholeChoice] = []


_event = msgspec.json.Decoder(_Event).decode
_whole = msgspec.json.Decoder(_Whole).decode


class Told(msgspec.Struct, kw_only=True):
    """Of one choice."""

    id: str = ""
    created: int = 0
    model: str = ""
    text: str = ""
    pieces: list[str] = []  #: of `text`, as they came: about a token each
    finished: bool = False  #: its end was told
    plain: bool = True  #: it is text alone: no tool call, no reasoning apart, one choice

    def tokens_after(self, characters: int) -> int:
        """Of the text behind so many characters, about: a piece may hold several tokens where the reader lagged."""
        at = tokens = 0
        for piece in self.pieces:
            at += len(piece)
            tokens += bool(piece) and at > characters
        return tokens


def stream_told(kind: Kind, data: bytes) -> Told | None:
    """None where it is no stream of a chat or text completion."""
    if kind not in ("chat", "completions"):
        return None
    told = Told()
    try:
        for event in _events(data):
            _add(told, event)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    told.text = "".join(told.pieces)
    return told


def answer_text(kind: Kind, stream: bool, chunks: Iterable[bytes]) -> str | None:
    """The text of a complete answer of one choice; None where it cannot be read."""
    data = b"".join(chunks)
    if stream:
        told = stream_told(kind, data)
        return None if told is None else told.text
    try:
        choices = _whole(data).choices
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if not choices:
        return None
    message = choices[0].message
    return choices[0].text if message is None else message.content


def continued_from(told: Told, before: Continued) -> Continued:
    """For the engine that goes on behind all that was told. `before`: what is known of an earlier part, exactly."""
    return Continued(
        id=told.id,
        created=told.created,
        opened=True,
        prompt_tokens=before.prompt_tokens,
        completion_tokens=before.completion_tokens + told.tokens_after(before.sent),
        cached_tokens=before.cached_tokens,
        sent=len(told.text),
        model=told.model,
    )


def _events(data: bytes) -> Iterator[_Event]:
    for event in data.split(b"\n\n"):
        if event.startswith(_EVENT) and event[len(_EVENT) :] != _END:
            yield _event(event[len(_EVENT) :])


def _add(told: Told, event: _Event) -> None:
    told.id, told.created = told.id or event.id, told.created or event.created
    told.model = told.model or event.model
    for choice in event.choices:
        delta = choice.delta
        if choice.index or (delta and (delta.reasoning or delta.reasoning_content or delta.tool_calls)):
            told.plain = False
        text = choice.text if delta is None else delta.content
        if text:
            told.pieces.append(text)
        told.finished = told.finished or choice.finish_reason is not None
