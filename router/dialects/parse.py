"""Bytes of a body -> a struct of its fields, or a `BadRequest` that says what was expected, what came, and where."""

import re
from typing import Generic, TypeAlias, TypeVar, get_type_hints

import msgspec

from router.dialects.bodies import Prompt
from router.dialects.lax import Reading, flag, half_pair, integer, raw_fields, respelled, token_ids
from router.errors import BadRequest
from router.native import large_body

_AT = re.compile(r" - at `\$\.?([^`]*)`$")
_ONE_CHARACTER = 8  #: bytes that tell why a character is malformed

_BYTE = re.compile(r" \(byte (\d+)\)$")
_MISSING = re.compile(r"^Object missing required field `([^`]+)`")

#: What PowerShell, editors and some .NET clients put before UTF-8 text; RFC 8259 lets a reader pass over it.
BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")

T = TypeVar("T")
#: What was left out of a body before it is decoded: the last first.
Cuts: TypeAlias = tuple[large_body.Shortened, ...]
#: Above, turns, texts and ids are read natively: a decoder makes an object of each, and no stream moves meanwhile.
MANY_OBJECTS_BYTES = 128 * 1024


class Reader(Generic[T]):
    """Bytes to one kind of body."""

    def __init__(self, body: type[T]) -> None:
        self.decode = msgspec.json.Decoder(body, strict=False).decode
        hints = get_type_hints(body)
        self.readings = {name: _READINGS[hint] for name, hint in hints.items() if hint in _READINGS}
        self.raw = raw_fields(hints)


#: How values are read again, by their field's type, where the strict reading fails.
_READINGS: dict[object, Reading] = {
    bool | None: flag, int | None: integer, Prompt: token_ids, list[int]: token_ids
}  # fmt: skip


def parse_ids(reader: Reader[T], body: bytes, key: bytes, cuts: Cuts) -> tuple[T, int]:
    """With the length of the longest list of ids under `key` that was left out, 0 for none."""
    if len(body) <= MANY_OBJECTS_BYTES or (short := large_body.shorten_ids(body, key)) is None:
        return parse(reader, body, cuts), 0
    return parse(reader, short.json, (short, *cuts)), short.most_ids


def parse(reader: Reader[T], body: bytes, cuts: Cuts) -> T:
    try:
        if not body.isascii():  # what msgspec skips it does not check, and the engine is sent all of it
            good = large_body.utf8_bytes(body)
            body[good : good + _ONE_CHARACTER].decode()
        try:
            return reader.decode(body)
        except msgspec.ValidationError:
            ids_bytes = max([cut.value_bytes for cut in cuts if isinstance(cut, large_body.TakenTexts)], default=0)
            return reader.decode(respelled(body, reader.raw, reader.readings, ids_bytes))
    except msgspec.ValidationError as error:
        raise explain(str(error)) from None
    except msgspec.DecodeError as error:
        raise malformed(str(error), body, cuts) from None
    except UnicodeDecodeError as error:
        why = "UTF-16" if body.startswith(_UTF16) else error.reason
        raise BadRequest(f"the body is not valid UTF-8: {why}", code="invalid_json") from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply", code="invalid_json") from None


def malformed(error: str, body: bytes, cuts: Cuts) -> BadRequest:
    if b"\0" in body[:4]:
        return BadRequest("the body is not valid UTF-8: UTF-16 or UTF-32", code="invalid_json")
    why = error.removeprefix("JSON is malformed: ") if body else "the body is empty"
    byte = _BYTE.search(why)
    at = int(byte[1]) if byte else len(body)
    half = half_pair(body, at)
    if half is not None:
        what = body[half : half + 6].decode("ascii")
        why, at = f"half of a surrogate pair, {what}, stands alone", half
    elif byte:
        why = why[: byte.start()]
    for cut in cuts:
        at = cut.place_before(at)
    return BadRequest(f"the body is not valid JSON: {why} (byte {at})", code="invalid_json")


def explain(message: str) -> BadRequest:
    """msgspec's complaint as ours: the path becomes `param` and stands first."""
    at = _AT.search(message)
    path = at.group(1) if at else ""
    what = message[: at.start()] if at else message
    if missing := _MISSING.match(what):
        path = f"{path}.{missing.group(1)}" if path else missing.group(1)
        return BadRequest(f"`{path}` is missing", param=path)
    what = what[0].lower() + what[1:]
    return BadRequest(f"`{path}`: {what}" if path else f"the body: {what}", param=path or None)
