"""One answer of a running server, streamed: its text piece by piece with who wrote it, then how it went."""

import http.client
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from router.cli.door import Door
from router.errors import HeadgateError

#: Of silence: a model may sleep, and take minutes to wake.
TIMEOUT_S = 900.0
_MOST_LINE = 16 * 1024 * 1024
_OURS = "x-headgate-"


class Message(msgspec.Struct, frozen=True):
    role: str
    content: str


class Piece(msgspec.Struct, frozen=True):
    """Some text of the answer."""

    text: str
    model: str
    reasoning: bool = False  #: what the model says to itself


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    headgate: dict[str, int] = {}  #: tokens of the answer, by model, where several wrote


class Ended(msgspec.Struct, frozen=True):
    """How the answer went."""

    model: str  #: that was chosen first
    finish_reason: str
    usage: Usage
    said: dict[str, str]  #: the answer's `x-headgate-` headers, without that prefix


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None


class _Writer(msgspec.Struct):
    model: str = ""


class _Error(msgspec.Struct):
    message: str = ""


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: Usage | None = None
    headgate: _Writer | None = None  #: from here on, this model writes
    error: _Error | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool = True


class _Body(msgspec.Struct):
    model: str
    messages: list[Message]
    max_tokens: int | msgspec.UnsetType = msgspec.UNSET
    stream: bool = True
    stream_options: _StreamOptions = msgspec.field(default_factory=_StreamOptions)


_decode = msgspec.json.Decoder(_Chunk).decode


def ask(
    door: Door, messages: Sequence[Message], model: str, choice: str = "", max_tokens: int | None = None
) -> Iterator[Piece | Ended]:
    """The pieces, then `Ended`. Closing it aborts the answer. Raises `HeadgateError`, in one line, where no server
    answers, it refuses, or the answer breaks off."""
    connection = _connection(door)
    body = msgspec.json.encode(_Body(model, list(messages), msgspec.UNSET if max_tokens is None else max_tokens))
    try:
        try:
            connection.request("POST", f"{door.prefix}/v1/chat/completions", body, _headers(door, choice))
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise HeadgateError(f"no server answers at {door.url}: {_why(error)}; --url says where it is") from error
        if answer.status != 200:
            raise HeadgateError(_refusal(answer, door))
        try:
            yield from _pieces(answer)
        except (OSError, http.client.HTTPException) as error:
            raise HeadgateError(f"the answer broke off, the server at {door.url} is gone: {_why(error)}") from error
    finally:
        connection.close()


def _connection(door: Door) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if door.tls else http.client.HTTPConnection
    return kind(door.host, door.port, timeout=TIMEOUT_S)


def _headers(door: Door, choice: str) -> dict[str, str]:
    told = {"content-type": "application/json", f"{_OURS}debug": "true"}
    if choice:
        told[f"{_OURS}choice"] = choice
    return told | ({"authorization": f"Bearer {door.key}"} if door.key else {})


def _pieces(answer: http.client.HTTPResponse) -> Iterator[Piece | Ended]:
    said = _said(dict(answer.getheaders()))
    writer = first = said.get("model", "")
    usage, finish = Usage(), ""
    for data in _events(answer):
        chunk = _chunk(data)
        if chunk.error is not None:
            raise HeadgateError(f"the answer ended in an error: {_one_line(chunk.error.message)}")
        if chunk.headgate is not None and chunk.headgate.model:
            writer = chunk.headgate.model
        usage = chunk.usage or usage
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            if thought := choice.delta.reasoning_content or choice.delta.reasoning:
                yield Piece(thought, writer, True)
            if choice.delta.content:
                yield Piece(choice.delta.content, writer)
    yield Ended(first, finish, usage, said)


def _events(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """The data of each event up to `[DONE]`. Raises `HeadgateError` where the stream ends before."""
    while line := answer.readline(_MOST_LINE):
        if line.startswith(b"data:"):
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            yield data
    raise HeadgateError("the answer broke off: its stream ended without [DONE]")


def _chunk(data: bytes) -> _Chunk:
    try:
        return _decode(data)
    except msgspec.MsgspecError as error:
        raise HeadgateError(f"the answer cannot be read: {error}") from error


def _said(headers: Mapping[str, str]) -> dict[str, str]:
    lowered = {name.lower(): value for name, value in headers.items()}
    return {name.removeprefix(_OURS): value for name, value in lowered.items() if name.startswith(_OURS)}


def _refusal(answer: http.client.HTTPResponse, door: Door) -> str:
    try:
        told = msgspec.json.decode(answer.read(_MOST_LINE), type=_Chunk).error
    except (msgspec.MsgspecError, OSError, http.client.HTTPException):
        told = None
    why = "" if told is None else _one_line(told.message)
    return f"{answer.status}: {why}" if why else f"status {answer.status}; expected a Headgate server at {door.url}"


def _why(error: Exception) -> str:
    return _one_line(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _one_line(text: str) -> str:
    return " ".join(text.split())
