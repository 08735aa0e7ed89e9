"""What a Parquet file's footer claims of its column chunks, read without pyarrow.

`RowGroupMetaData.column` of pyarrow (26.0.1 at least) does not catch C++ exceptions: one damaged byte of a footer ends
the process there. So it is never called. The numbers needed are read here, and every fault raises.

    "PAR1" | pages | FileMetaData in Thrift's compact protocol | its size, u32 | "PAR1"

The layout is that of parquet.thrift. Stricter than pyarrow: a known field of another type, or given twice, is refused.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

MOST_BYTES = 16 << 20  #: of a footer: some 100,000 column chunks, and seconds to read
_MOST_ITEMS = 1_000_000  #: of a list; pyarrow's bound
_DEPTH = 32  #: structs and lists within each other; Parquet has 8
_MAGIC = b"PAR1"
_DELTA = frozenset({5, 6, 7})  #: DELTA_BINARY_PACKED, DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT, _UUID = range(1, 14)
_BYTES_OF = {_BYTE: 1, _DOUBLE: 8, _UUID: 16}

_Fields = Mapping[int, tuple[int, Callable[["_Compact"], Any]]]  #: those wanted: type, and what reads the value


class Chunk(msgspec.Struct, frozen=True):
    """A column's part of a row group."""

    values: int
    unpacked_bytes: int
    encodings: tuple[int, ...]

    @property
    def is_delta(self) -> bool:
        """Whether a value may be written as its difference to the one before."""
        return not _DELTA.isdisjoint(self.encodings)


class FooterError(ValueError):
    """The bytes are no footer of a Parquet file."""


def read(path: Path) -> list[list[Chunk]]:
    """The chunks of each row group, in the order of the columns. Raises FooterError, and OSError."""
    return parse(_bytes(path))


def parse(data: bytes) -> list[list[Chunk]]:
    """The same of a footer's bytes. Raises FooterError."""
    groups: list[list[Chunk]] = _Compact(data).struct({4: (_LIST, _groups)}).get(4, [])
    return groups


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - 8))
        tail = file.read(8)
        if end < 12 or tail[4:] != _MAGIC:
            raise FooterError(f"expected {_MAGIC.decode()} at the end: cut off, encrypted, or another format?")
        size = int.from_bytes(tail[:4], "little")
        if size > min(MOST_BYTES, end - 12):
            raise FooterError(f"expected a footer of at most {min(MOST_BYTES, end - 12)} bytes, got {size}")
        file.seek(end - 8 - size)
        return file.read(size)


def _groups(source: "_Compact") -> list[list[Chunk]]:
    return source.list_of(_STRUCT, lambda one: one.struct({1: (_LIST, _chunks)}).get(1, []))


def _chunks(source: "_Compact") -> list[Chunk]:
    return source.list_of(_STRUCT, _chunk)


def _chunk(source: "_Compact") -> Chunk:
    told = source.struct({3: (_STRUCT, lambda one: one.struct(_COLUMN))}).get(3, {})
    if missing := _COLUMN.keys() - told.keys():
        raise FooterError(f"a column chunk lacks field {min(missing)} of its metadata: is it encrypted?")
    return Chunk(told[5], told[6], tuple(told[2]))


class _Compact:
    """A reader of Thrift's compact protocol: within the bytes given, `_DEPTH` and `_MOST_ITEMS`, or FooterError."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at, self._depth = data, 0, 0

    def struct(self, wanted: _Fields) -> dict[int, Any]:
        """The wanted fields that are there; the others are skipped."""
        found: dict[int, Any] = {}
        field = 0
        self._deeper()
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self.number()
            kind = head & 15
            if field not in wanted:
                self._skip(kind)
                continue
            expected, read = wanted[field]
            if kind != expected or field in found:
                raise FooterError(f"field {field}: expected type {expected} once, got {kind} before byte {self._at}")
            found[field] = read(self)
        self._depth -= 1
        return found

    def list_of(self, expected: int, read: Callable[["_Compact"], Any]) -> list[Any]:
        kind, count = self._list_head()
        if count and kind != expected:
            raise FooterError(f"expected a list of type {expected}, got {kind} before byte {self._at}")
        return [read(self) for _ in range(count)]

    def number(self) -> int:
        """A whole number of any width, signed."""
        number = self._varint()
        return (number >> 1) ^ -(number & 1)

    def _varint(self) -> int:
        number = shift = 0
        while (byte := self._byte()) & 128:
            number |= (byte & 127) << shift
            shift += 7
        number |= byte << shift
        if number >> 64:
            raise FooterError(f"expected a number of at most 64 bits before byte {self._at}")
        return number

    def _byte(self) -> int:
        self._pass(1)
        return self._data[self._at - 1]

    def _pass(self, count: int) -> None:
        self._at += count
        if self._at > len(self._data):
            raise FooterError(f"expected {self._at} bytes or more in the footer, got {len(self._data)}")

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > _DEPTH:
            raise FooterError(f"expected at most {_DEPTH} levels in the footer")

    def _list_head(self) -> tuple[int, int]:
        """Type and number of the elements."""
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        self._check_count(count)
        return head & 15, count

    def _check_count(self, count: int) -> None:
        """Each element takes a byte at least."""
        if count > min(_MOST_ITEMS, len(self._data) - self._at):
            raise FooterError(f"expected fewer elements than {count} before byte {self._at}")

    def _skip(self, kind: int) -> None:
        """A field's value; that of a truth value is its type."""
        if kind not in (_TRUE, _FALSE):
            self._skip_element(kind)

    def _skip_element(self, kind: int) -> None:
        """A value in a list or a map."""
        if kind in (_I16, _I32, _I64):
            self._varint()
        elif kind == _BINARY:
            self._pass(self._varint())
        elif kind == _STRUCT:
            self.struct({})
        elif kind in (_LIST, _SET):
            element, count = self._list_head()
            self._skip_elements(count, element)
        elif kind == _MAP:
            count = self._varint()
            self._check_count(count)
            kinds = self._byte() if count else 0
            self._skip_elements(count, kinds >> 4, kinds & 15)
        elif kind in (_TRUE, _FALSE):
            self._pass(1)
        elif kind in _BYTES_OF:
            self._pass(_BYTES_OF[kind])
        else:
            raise FooterError(f"got the unknown type {kind} before byte {self._at}")

    def _skip_elements(self, count: int, *kinds: int) -> None:
        self._deeper()
        for _ in range(count):
            for kind in kinds:
                self._skip_element(kind)
        self._depth -= 1


def _encodings(source: _Compact) -> list[int]:
    return source.list_of(_I32, _Compact.number)


#: Of ColumnMetaData: encodings, num_values, total_uncompressed_size.
_COLUMN: _Fields = {2: (_LIST, _encodings), 5: (_I64, _Compact.number), 6: (_I64, _Compact.number)}
