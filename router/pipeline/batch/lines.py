"""The lines of a batch's input: found in the file piece by piece, and read as OpenAI's batch format has them.

A byte order mark, carriage returns and blank lines are passed over. Nothing is ever held but a piece and a line.
"""

import os
import re
from collections.abc import Generator, Iterator
from typing import NamedTuple

import msgspec

from router.dialects.parse import BOM
from router.pipeline.batch.objects import Fault

_PIECE_BYTES = 256 * 1024
_LONGEST_ID = 512
_BLANK = b" \t\r\n\v\f"
#: A line from its first byte that is not blank to its end.
_FILLED = re.compile(rb"[^ \t\r\n\v\f][^\n]*")


class Found(NamedTuple):
    """One line that is not blank."""

    number: int  #: counted from 1, blank lines too
    start: int  #: byte of the file
    end: int  #: of the file, behind it
    data: bytes | None  #: None: it is too long


class Asked(msgspec.Struct, frozen=True):
    """What a line asks for."""

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class LineFault(Exception):
    """A line that cannot be run. `custom_id`: as far as it can be read."""

    def __init__(self, code: str, message: str, param: str | None = None, custom_id: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.custom_id = custom_id

    def at(self, line: int) -> Fault:
        return Fault(code=self.code, message=self.message, line=line, param=self.param)


class _Named(msgspec.Struct):
    custom_id: str | None = None


_decode = msgspec.json.Decoder(Asked).decode
_decode_name = msgspec.json.Decoder(_Named).decode
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def find(descriptor: int, most_line_bytes: int) -> Iterator[Found]:
    """Lines that are blank are only counted, many of them at once. Raises `OSError`."""
    kept, kept_bytes, at, number = bytearray(), 0, 0, 0  # of the line that begins at `at`, behind the line `number`
    begun = 0
    while piece := os.pread(descriptor, _PIECE_BYTES, begun):
        whole, done = piece.rfind(b"\n") + 1, 0  # where its last line begins, and up to where its lines were found
        if kept_bytes and whole:
            done = piece.index(b"\n") + 1
            number, size = number + 1, kept_bytes + done
            data = bytes(kept) + piece[: done - 1] if size - 1 <= most_line_bytes else None
            yield from _found(number, at, at + size, data)
        number = yield from _within(piece, done, whole, begun, number, most_line_bytes)
        if whole:
            kept.clear()
            kept_bytes, at = 0, begun + whole
        kept_bytes += len(piece) - whole
        if kept_bytes <= most_line_bytes:
            kept += piece[whole:]
        else:
            kept.clear()
        begun += len(piece)
    if kept_bytes:
        yield from _found(number + 1, at, at + kept_bytes, bytes(kept) if kept_bytes <= most_line_bytes else None)


def _within(
    piece: bytes, done: int, whole: int, begun: int, number: int, most_line_bytes: int
) -> Generator[Found, None, int]:
    """The lines of `piece[done:whole]`, which begin at the byte `begun + done` behind the line `number`. The number of
    the last one."""
    for match in _FILLED.finditer(piece, done, whole):
        start, end = max(done, piece.rfind(b"\n", done, match.start()) + 1), match.end() + 1
        number += piece.count(b"\n", done, start) + 1
        data = match[0] if end - 1 - start <= most_line_bytes else None
        yield from _found(number, begun + start, begun + end, data)
        done = end
    return number + piece.count(b"\n", done, whole)


def _found(number: int, start: int, end: int, data: bytes | None) -> Iterator[Found]:
    if data is not None:
        data = (data.removeprefix(BOM) if not start else data).strip(_BLANK)
    if data is None or data:
        yield Found(number, start, end, data)


def read(line: Found, endpoint: str, most_line_bytes: int) -> Asked:
    """Raises `LineFault`."""
    data = line.data
    if data is None:
        raise LineFault("line_too_long", f"line {line.number} is over {most_line_bytes} bytes")
    asked = _asked(line.number, data)
    name = asked.custom_id

    def fault(code: str, why: str, param: str) -> LineFault:
        return LineFault(code, f"line {line.number}: `{param}`: {why}", param, name[:_LONGEST_ID])

    if not 0 < len(name) <= _LONGEST_ID:
        raise fault("invalid_custom_id", f"expected 1 to {_LONGEST_ID} characters, got {len(name)}", "custom_id")
    if asked.method.upper() != "POST":
        raise fault("invalid_method", f"expected `POST`, got {_short(asked.method)}", "method")
    if asked.url != endpoint:
        raise fault("mismatched_url", f"expected {endpoint}, the batch's endpoint, got {_short(asked.url)}", "url")
    if bytes(asked.body)[:1] != b"{":
        raise fault("invalid_body", "expected an object", "body")
    return asked


def _asked(number: int, data: bytes) -> Asked:
    try:
        data.decode()  # what msgspec skips it does not check
        return _decode(data)
    except msgspec.ValidationError as error:
        param = str(error).partition(" - at `$.")[2].rstrip("`") or None
        raise LineFault("invalid_line", f"line {number}: {error}", param, _name(data)) from None
    except UNREADABLE as error:
        why = str(error) if isinstance(error, msgspec.DecodeError) else "it is not UTF-8"
        if isinstance(error, RecursionError):
            why = "it is nested too deeply"
        raise LineFault("invalid_json_line", f"line {number} is not valid JSON: {why}") from None


def _name(data: bytes) -> str | None:
    try:
        name = _decode_name(data).custom_id
    except UNREADABLE:
        return None
    return None if name is None else name[:_LONGEST_ID]


def _short(text: str) -> str:
    return ascii(text[:80])
