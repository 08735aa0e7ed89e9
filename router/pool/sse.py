"""An upstream's answer on its way through: whole events only, the member's name as `model`, usage noted in passing.

Bytes in, bytes out; JSON is parsed only where a usage may stand. Knows no connection.
"""

import re

import msgspec

from router.errors import BadRequest, EngineFailed
from router.types import Usage

#: The events that end an answer of the messages and responses APIs, which know no [DONE].
_LAST = re.compile(rb"event: ?(message_stop|error|response\.(completed|incomplete|failed))\r?\n")
_MODEL = re.compile(rb'"model"\s*:\s*"(?:[^"\\]|\\.)*"')
#: An event that no upstream ends is not kept for ever.
_LARGEST_EVENT_BYTES = 16 * 1024 * 1024


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    """Of chat and completions; `input_` and `output_tokens` of responses and messages."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Inner(msgspec.Struct):
    usage: _Usage | None = None


class _Answer(msgspec.Struct):
    usage: _Usage | None = None
    choices: list[_Choice] = []
    response: _Inner | None = None  # of `response.completed`
    message: _Inner | None = None  # of `message_start`


_decode = msgspec.json.Decoder(_Answer).decode
_Fields = dict[str, msgspec.Raw]
_decode_fields = msgspec.json.Decoder(_Fields).decode


def with_model(body: bytes, model: str) -> bytes:
    """`body` asking for `model`; all other fields as they came. Raises `BadRequest` where it is no JSON object."""
    try:
        fields = _decode_fields(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not a JSON object: {error}") from error
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    return msgspec.json.encode(fields)


class Passage:
    """One answer of an upstream that calls itself `theirs`, for clients who know it as `ours`."""

    __slots__ = ("_replace", "_rest", "finish_reason", "finished", "usage")

    def __init__(self, theirs: str, ours: str) -> None:
        self._replace = None if theirs == ours else b'"model":' + msgspec.json.encode(ours)
        self._rest = bytearray()
        self.usage = Usage()
        self.finish_reason = "stop"
        self.finished = False

    def feed(self, data: bytes) -> bytes:
        """The whole events that `data` completes; empty when there are none."""
        rest = self._rest
        # Only the new bytes, and one before them, can hold the end of an event.
        searched = max(0, len(rest) - 3)
        rest += data
        end = max(rest.rfind(b"\n\n", searched) + 2, rest.rfind(b"\r\n\r\n", searched) + 4)
        if end < 4:
            if len(rest) > _LARGEST_EVENT_BYTES:
                raise EngineFailed(f"an event of the upstream is larger than {_LARGEST_EVENT_BYTES} bytes")
            return b""
        events = bytes(rest[:end])
        del rest[:end]
        return self._events(events)

    def whole(self, body: bytes) -> bytes:
        """A body that is not a stream."""
        self._note(body)
        self.finished = True
        return self._renamed(body)

    def _events(self, events: bytes) -> bytes:
        renamed: list[bytes] = []
        for event in _split(events):
            self._look_at(event)
            renamed.append(self._renamed(event))
        return b"".join(renamed)

    def _look_at(self, event: bytes) -> None:
        data = event[event.find(b"data:") + 5 :].strip()
        if data == b"[DONE]" or (event.startswith(b"event:") and _LAST.match(event)):
            self.finished = True
        if b'"usage"' in data or (b'"finish_reason"' in data and b'"finish_reason":null' not in data):
            self._note(data)

    def _renamed(self, event: bytes) -> bytes:
        # In JSON text a quote inside a string is escaped, so this matches a key only.
        return event if self._replace is None else _MODEL.sub(lambda _: self._replace or b"", event, count=1)

    def _note(self, json: bytes) -> None:
        try:
            answer = _decode(json)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return  # of another API's shape: passed on all the same, only not counted
        for holder in (answer, answer.response, answer.message):
            if holder is not None and holder.usage is not None:
                self._count(holder.usage)
        for choice in answer.choices:
            self.finish_reason = choice.finish_reason or self.finish_reason

    def _count(self, usage: _Usage) -> None:
        """Keep the largest counts: the messages API tells those of the prompt first and those of the answer last."""
        cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0
        self.usage = Usage(
            max(self.usage.prompt_tokens, usage.prompt_tokens or usage.input_tokens or 0),
            max(self.usage.completion_tokens, usage.completion_tokens or usage.output_tokens or 0),
            max(self.usage.cached_tokens, cached or 0),
        )


def _split(events: bytes) -> list[bytes]:
    """Each event with the blank line that ends it."""
    separator = b"\r\n\r\n" if b"\r\n\r\n" in events else b"\n\n"
    *whole, rest = events.split(separator)
    return [event + separator for event in whole] + ([rest] if rest else [])
