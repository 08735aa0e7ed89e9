"""Bodies that engines read though they are not spelled as the API says, spelled as it says.

Runs only where the strict reading failed or saw a bare text. Follows pydantic's lax mode, by which vLLM reads.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import msgspec

from router.errors import BadRequest
from router.native import large_body

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
#: A value as a field's type has it, or None where it is none of that type to pydantic either.
Reading: TypeAlias = Callable[[Json], Json]

_TRUE = frozenset(("1", "on", "t", "true", "y", "yes"))
_FALSE = frozenset(("0", "off", "f", "false", "n", "no"))
_INTEGER = re.compile(r"[+-]?(?:0[0_]*)?[0-9]+(?:_[0-9]+)*(?:\.0*)?")
_LONGEST = 64  #: bytes of a flag or a number that are looked at
_LONGEST_IDS = 512 * 1024  #: and of token ids, which are read one by one
_MOST_PARTS = 100_000  #: of a message that has bare texts among its parts
_MOST = 2**63
#: Each escape of a JSON text as one match, so that a backslash that is itself escaped begins none. The groups: a high
#: half of a surrogate pair with its low one, or a half alone.
_ESCAPE = re.compile(
    rb"\\(?:(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)

_PAIR_BYTES = 12  #: of a surrogate pair, escaped

_encode = msgspec.json.encode


def flag(value: Json) -> Json:
    if isinstance(value, str):
        lowered = value.lower()
        return True if lowered in _TRUE else False if lowered in _FALSE else None
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else None


def integer(value: Json) -> Json:
    number: int | None = None
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        number = int(value)
    elif isinstance(value, str) and _INTEGER.fullmatch(text := value.strip()):
        number = int(text.partition(".")[0].replace("_", ""))
    return number if number is not None and -_MOST <= number < _MOST else None


def token_ids(value: Json) -> Json:
    """Texts stay as they are, for a prompt may be a list of texts; so does what is no id, to be refused by its type."""
    return [_token_id(item) for item in value] if isinstance(value, list) else None


def _token_id(item: Json) -> Json:
    if isinstance(item, str):
        return item
    read = token_ids(item) if isinstance(item, list) else integer(item)
    return item if read is None else read


def raw_fields(names: Iterable[str]) -> "msgspec.json.Decoder[msgspec.Struct]":
    """Of a JSON object these fields only, undecoded: a body may have as many others as it likes."""
    fields = [(name, msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for name in names]
    return msgspec.json.Decoder(msgspec.defstruct("Fields", fields))


def respelled(
    body: bytes, fields: "msgspec.json.Decoder[msgspec.Struct]", readings: Mapping[str, Reading], ids_bytes: int = 0
) -> bytes:
    """These fields of `body`, a JSON object, with the values of some as their types have them.

    `ids_bytes`: of the token ids, where they were longer before `body` was shortened."""
    found = fields.decode(body)
    for name, read in readings.items():
        raw = getattr(found, name)
        if raw is msgspec.UNSET:
            continue
        size, most = len(memoryview(raw)), _LONGEST
        if read is token_ids:
            size, most = max(size, ids_bytes), _LONGEST_IDS
        if size <= most:
            value = read(msgspec.json.decode(raw))
            if value is not None:
                setattr(found, name, msgspec.Raw(_encode(value)))
    return _encode(found)


def with_whole_parts(body: bytes) -> bytes:
    """`body` with `{"type": "text", "text": T}` for each bare text T that stands among a message's parts."""
    whole = large_body.with_whole_parts(body, _MOST_PARTS)
    if isinstance(whole, str):
        what = f"more than {_MOST_PARTS} parts, and bare texts among them"
        raise BadRequest(f'`{whole}`: {what}; send `{{"type": "text"}}` parts', param=whole)
    return whole


def half_pair(body: bytes, at: int) -> int | None:
    """Where the half of a surrogate pair stands alone, which JSON can spell and UTF-8 cannot, that ended the reading at
    byte `at`; None where it ended for another reason. Looks at what is before `at` only, however long the body is."""
    begin = max(0, at - 5 * _PAIR_BYTES)
    before = body[:begin]
    begin += (len(before) - len(before.rstrip(b"\\"))) % 2  # not amid an escape
    found = (match.start() for match in _ESCAPE.finditer(body, begin, at + _PAIR_BYTES) if match[2])
    return next((start for start in found if at - _PAIR_BYTES <= start <= at), None)
