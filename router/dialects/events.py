"""An upstream's answer on its way through: whole events only, the member's name as `model`, usage noted in passing.

Bytes in, bytes out. Nothing leaves before an event that belongs to an answer: until then another member may be tried.
Knows no connection.

    nothing --an event of an answer--> begun --[DONE], message_stop, response.completed--> finished
       |                                 |                                  ^
       |                                 +-- body ends, all choices ended --+
       +------- no answer, an error -----+---> failed
"""

import re

import msgspec

from router.dialects import answers
from router.dialects.answers import NULL, UNREADABLE, Said
from router.errors import BadRequest
from router.types import Kind, Usage

#: The blank line that ends an event. A CR that came last may be half of a line's end.
_BLANK = re.compile(rb"(?:\r\n|\n|\r(?!\n|\Z)){2}")
_MODEL = re.compile(rb'"model"\s*:\s*("(?:[^"\\]|\\.)*")')
#: An event that no upstream ends is not kept for ever.
_LARGEST_EVENT_BYTES = 16 * 1024 * 1024
_MOST_CHOICES = 1024
_EMPTY = msgspec.Raw(b'""')
_TRUE, _FALSE = msgspec.Raw(b"true"), msgspec.Raw(b"false")
_PLAIN_FLAGS = frozenset({b"true", b"false", b"null"})

_LAST = frozenset({"message_stop", "response.completed", "response.incomplete", "response.failed"})
#: How a stream ends that its upstream did not end: only where all that went before says that it is whole.
_END = {
    "chat": b"data: [DONE]\n\n",
    "completions": b"data: [DONE]\n\n",
    "messages": b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
}

_Fields = dict[str, msgspec.Raw]
_decode_fields = msgspec.json.Decoder(_Fields).decode


def as_asked(body: bytes, model: str, stream: bool) -> bytes:
    """`body` asking for `model`; all other fields as they came. Raises `BadRequest` where it is no JSON object.

    A `stream` that was read leniently (`"no"`, 0) is spelled out: to another reader it may mean the opposite.
    """
    try:
        fields = _decode_fields(body)
    except UNREADABLE as error:
        raise BadRequest(f"the body is not a JSON object: {error}") from error
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    if "stream" in fields and bytes(fields["stream"]) not in _PLAIN_FLAGS:
        fields["stream"] = _TRUE if stream else _FALSE
    return msgspec.json.encode(fields)


class UpstreamEvents:
    """One answer of an upstream, for clients who know it as `name`."""

    __slots__ = (
        "_begun",
        "_carriage_returns",
        "_choices",
        "_ended",
        "_held",
        "_held_bytes",
        "_kind",
        "_name",
        "_rest",
        "_theirs",
        "broken",
        "error",
        "faulted",
        "finish_reason",
        "finished",
        "over",
        "usage",
    )

    def __init__(self, kind: Kind, name: str) -> None:
        self._kind = kind
        self._name = msgspec.json.encode(name)
        self._theirs = b""  # how the upstream writes its model, key and value, where it is not our name
        self._rest = bytearray()
        self._held: list[bytes] = []  # events before the first that belongs to an answer
        self._held_bytes = 0
        self._begun = False
        self._carriage_returns = False
        self._choices: set[int] = set()
        self._ended: set[int] = set()  # those of them with a finish reason
        self.usage = Usage()
        self.finish_reason = "stop"
        self.over = False  #: nothing more leaves: one of the three below says why
        self.finished = False
        self.error = b""  #: the upstream's own, as JSON
        self.faulted = False  #: the upstream says in its own shape that it failed
        self.broken = ""  #: why this is no answer, or not all of one

    def feed(self, data: bytes) -> bytes:
        """The whole events that `data` completes; empty when there are none."""
        rest = self._rest
        # Only the new bytes, and three before them, can hold the end of an event.
        searched = max(0, len(rest) - 3)
        rest += data
        if self._carriage_returns or b"\r" in data:
            self._carriage_returns = True
            end = max((match.end() for match in _BLANK.finditer(rest, searched)), default=0)
        else:
            end = rest.rfind(b"\n\n", searched) + 2
        if end < 2:
            if len(rest) > _LARGEST_EVENT_BYTES:
                self._break(f"an event is larger than {_LARGEST_EVENT_BYTES} bytes")
            return b""
        events = bytes(rest[:end])
        del rest[:end]
        return self._events(events)

    def end(self) -> bytes:
        """The body has ended: the last event, which may lack its blank line, and the end mark that may be missing."""
        rest, self._rest = bytes(self._rest), bytearray()
        events = self._events(rest.rstrip(b"\r\n") + b"\n\n") if rest.strip() else b""
        if self.over:
            return events
        end = _END.get(self._kind)
        if end is None or not self._begun or not self._ended or self._choices != self._ended:
            self._break("its stream ended before [DONE]" if self._begun else "its stream holds no answer")
            return events
        self.over = self.finished = True
        return events + end

    def whole(self, body: bytes) -> bytes:
        """A body that is not a stream; empty where it is no answer."""
        try:
            said, is_answer = answers.read(body), answers.is_answer(self._kind, body)
            _check_text(body)
        except UNREADABLE:
            self._break("its answer is no JSON of this API")
            return b""
        if answers.is_error(said):
            self._fail(body)
        elif not is_answer or (said.choices is not None and not said.choices):
            self._break("its answer is a JSON object without an answer")
        else:
            self.over = self.finished = True
            self._note(said, "")
            return self._renamed(body, said)
        return b""

    def _events(self, events: bytes) -> bytes:
        out: list[bytes] = []
        try:
            _check_text(events)
            for event in self._split(events):
                if self.over:
                    break
                out.append(self._taken(event))
        except UNREADABLE:
            self._break("an event of its stream is no JSON of this API")
        return b"".join(out)

    def _split(self, events: bytes) -> list[bytes]:
        """Each event with the blank line that ends it."""
        if not self._carriage_returns:
            return [event + b"\n\n" for event in events[:-2].split(b"\n\n")]
        edges = [0, *(match.end() for match in _BLANK.finditer(events + b"x"))]
        return [events[a:b] for a, b in zip(edges, [*edges[1:], len(events)], strict=True) if a < b]

    def _taken(self, event: bytes) -> bytes:
        """What goes out of `event`. Raises one of `UNREADABLE`."""
        data, name = _parts(event)
        if not data:
            if name != "error":  # a comment; before the answer it would begin it
                return event if self._begun else b""
            data = b"{}"
        if data == b"[DONE]":
            return self._finish(event)
        said = answers.read(data)
        kind = name or (answers.text(said.type) if said.type != NULL else "")
        if answers.is_error(said) or kind == "error":
            self._fail(data)
            return b""
        self._note(said, kind)
        event = self._renamed(event, said)
        if not self._begun:
            event = self._begin(event, said, kind)
        return self._finish(event) if kind in _LAST else event

    def _begin(self, event: bytes, said: Said, kind: str) -> bytes:
        """All events so far where this one belongs to an answer; before that, none."""
        self._held.append(event)
        self._held_bytes += len(event)
        if self._held_bytes > _LARGEST_EVENT_BYTES:
            self._break("its stream holds no answer")
        if self._kind == "messages":
            self._begun = kind == "message_start"
        elif self._kind == "responses":
            self._begun = kind.startswith("response.")
        else:
            self._begun = said.choices is not None
        if not self._begun:
            return b""
        held, self._held = self._held, []
        return b"".join(held)

    def _finish(self, event: bytes) -> bytes:
        if not self._begun:
            self._break("its stream holds no answer")
            return b""
        self.over = self.finished = True
        return event

    def _fail(self, error: bytes) -> None:
        self.over = True
        self.error = error

    def _break(self, why: str) -> None:
        self.over = True
        self.broken = why

    def _renamed(self, event: bytes, said: Said) -> bytes:
        theirs = self._theirs
        if theirs and theirs in event:
            return event.replace(theirs, b'"model":' + self._name, 1)
        model = said.model
        if model == NULL:
            holder = said.message if said.message != NULL else said.response
            if holder == NULL:
                return event
            model = answers.inner(holder).model
        value = bytes(model)
        if value == self._name:
            return event
        # In JSON text a quote inside a string is escaped, so this matches keys only; of several, the one that was read.
        for match in _MODEL.finditer(event):
            if match[1] == value:
                self._theirs = match[0]
                return event[: match.start()] + b'"model":' + self._name + event[match.end() :]
        return event

    def _note(self, said: Said, kind: str) -> None:
        for choice in said.choices or ():
            if not 0 <= choice.index < _MOST_CHOICES:
                continue
            self._choices.add(choice.index)
            if choice.finish_reason != NULL and choice.finish_reason != _EMPTY:
                self._ended.add(choice.index)
                self.finish_reason = answers.text(choice.finish_reason) or self.finish_reason
        if said.usage != NULL:
            self.usage = answers.counted(self.usage, said.usage)
        holder = said.response if said.response != NULL else said.message
        if holder != NULL:
            self.usage = answers.counted(self.usage, answers.inner(holder).usage)
        if kind == "message_delta":
            self._stopped(answers.inner(said.delta))
        elif kind == "response.failed":
            self.faulted = b'"server_error"' in bytes(answers.inner(holder).error)
        elif said.stop_reason != NULL:
            self._stopped(said)

    def _stopped(self, said: Said) -> None:
        """Of the messages API, which has one choice and tells its end apart from the answer's."""
        if said.stop_reason != NULL:
            self._choices.add(0)
            self._ended.add(0)
            self.finish_reason = answers.text(said.stop_reason) or self.finish_reason


def _parts(event: bytes) -> tuple[bytes, str]:
    """The data of an event, its lines joined, and its name; both empty for a comment."""
    if event.startswith(b"data:") and event.find(b"\n") == len(event) - 2:
        return event[5:].strip(), ""
    data: list[bytes] = []
    name = b""
    for line in event.splitlines():
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.strip()
    return b"\n".join(data).strip(), "" if name == b"message" else name.decode()


def _check_text(data: bytes) -> None:
    """Raises `UnicodeDecodeError` where it is not UTF-8, which JSON and event streams are."""
    if not data.isascii():
        data.decode()
