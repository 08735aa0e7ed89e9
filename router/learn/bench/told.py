"""What an answer said and when: text, tokens and their times, usage, and how it ended. One reader for streamed and
whole answers of chat completions. Knows no connection and no clock.
"""

import contextlib
from typing import Literal

import msgspec

from router.learn.bench.client import Answer

#: How a request failed. `refused`: no connection; `cut`: the connection was lost midway; `early`: a stream without its
#: end; `malformed`: what came is no answer of this API; `status` and `stream`: an error in the API's own words.
Fault = Literal["", "refused", "timeout", "cut", "early", "malformed", "limited", "status", "stream"]


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Error(msgspec.Struct, gc=False):
    message: str = ""
    type: str | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: _Error | str | None = None
    model: str | None = None


_decode = msgspec.json.Decoder(_Event).decode
_DONE = b"[DONE]"


class Told(msgspec.Struct, kw_only=True):
    """Times are of `time.perf_counter`."""

    text: str = ""
    model: str = ""  #: that answered, as it says
    at_s: list[float] = []  #: of each event that brought something of the answer
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish: str = ""
    fault: Fault = ""
    why: str = ""  #: the fault, in the target's words


def read(answer: Answer, *, stream: bool) -> Told:
    """All that is known of one answer, broken or whole."""
    told = Told(model=answer.headers.get("x-headgate-model", ""), at_s=[])
    if answer.status >= 400 or (answer.complete and answer.status != 200):
        told.fault = "limited" if answer.status == 429 else "status"
        told.why = f"{answer.status} {_message(answer.body)}".strip()
        return told
    try:
        _streamed(answer, told) if stream else _whole(answer, told)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        told.fault, told.why = "malformed", f"not a chat completion: {error}"
    return told


def _whole(answer: Answer, told: Told) -> None:
    if answer.complete:
        event = _decode(answer.body)
        if not event.choices and event.error is None:
            told.fault, told.why = "malformed", "an answer without choices"
        texts: list[str] = []
        _take(event, told, texts)
        told.text = "".join(texts)


def _streamed(answer: Answer, told: Told) -> None:
    texts: list[str] = []
    rest, done = b"", False
    for at_s, part in zip(answer.times_s, answer.parts, strict=True):
        if not rest and part.startswith(b"data: {") and part.find(b"\n\n") == len(part) - 2:  # one event, as most are
            if _take(_decode(part[6:]), told, texts):
                told.at_s.append(at_s)
            continue
        if b"\r" in part:  # JSON text holds none: it ends lines
            part = part.replace(b"\r", b"")
        *events, rest = (rest + part if rest else part).split(b"\n\n")
        for event in events:
            if event.startswith(b"data: "):
                data = event[6:]
            else:
                data = _data(event)
                if not data:
                    continue
            if data == _DONE:
                done = True
            elif _take(_decode(data), told, texts):
                told.at_s.append(at_s)
    told.text = "".join(texts)
    if answer.complete and not (told.fault or done or told.finish):
        told.fault, told.why = "early", "the stream ended without a finish reason or [DONE]"


def _data(event: bytes) -> bytes:
    """The data of an event that has further fields, comments or no space behind the colon."""
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)


def _take(event: _Event, told: Told, texts: list[str]) -> bool:
    """Whether it brought something of the answer."""
    if event.usage is not None:
        told.prompt_tokens = event.usage.prompt_tokens
        told.completion_tokens = event.usage.completion_tokens
    if event.error is not None:
        told.fault = "stream"
        told.why = event.error if isinstance(event.error, str) else event.error.message
    if event.model and not told.model:
        told.model = event.model
    brought = False
    for choice in event.choices:
        said = choice.delta or choice.message
        if said is not None:
            if said.content:
                texts.append(said.content)
                brought = True
            elif said.reasoning_content or said.reasoning or said.tool_calls:
                brought = True
        if choice.finish_reason:
            told.finish = choice.finish_reason
    return brought


def _message(body: bytes) -> str:
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
        error = _decode(body).error
        if error is not None:
            return (error if isinstance(error, str) else error.message)[:300]
    return body[:120].decode("utf-8", "replace")
