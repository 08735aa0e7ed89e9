"""Reads rows of JSONL, JSON, CSV and Parquet files, one at a time. A broken row is returned with its place and fault,
so that the caller refuses or counts it. Knows no column."""

import csv
import hashlib
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import msgspec

from router.errors import ConfigError
from router.learn.data import parquet

Kind = Literal["parquet", "csv", "jsonl", "json"]
MAX_LINE = 64 << 20  #: bytes; a longer line is refused before it is read whole
SHOWN = 120  #: characters of a value in an error
BATCH = 1024  #: rows of a Parquet file in memory at once
UNREADABLE = (ValueError, OverflowError, NotImplementedError)  #: of a cell: no UTF-8, a date that Python cannot hold
MAX_JSON = 256 << 20  #: bytes of a `.json`, which is read whole
BOM = b"\xef\xbb\xbf"
_SUFFIXES: dict[str, Kind] = {
    ".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
}  # fmt: skip
_LONE = re.compile(rb"(?<!\\)(?:\\\\)*\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class Record(msgspec.Struct, frozen=True):
    """One row. `where`: the file and the line or row. `broken`: why `values` are not to be trusted; empty: they are."""

    where: str
    values: dict[str, Any]
    broken: str = ""


def shown(value: object) -> str:
    """As Python writes it, cut short: a cell may have megabytes, and an error has one line."""
    if isinstance(value, (str, bytes)):
        return repr(value if len(value) <= SHOWN else value[:SHOWN]) + ("..." if len(value) > SHOWN else "")
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of more digits than Python writes
        return f"a {type(value).__name__} too long to show"
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def told(path: Path | str) -> str:
    """A path, or a part of one, as text that can be written down: its bytes need not be UTF-8."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def kind_of(path: Path) -> Kind:
    """By suffix and first bytes. Raises ConfigError for what is no table, and for every pickle."""
    check_file(path)
    start = _start(path)
    if path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".joblib") or _is_pickle(start):
        raise ConfigError(
            f"{path}: a pickle is never read, for it may run code. Where you trust it, export it with pandas: "
            "pandas.read_pickle(PATH).to_parquet(OUT), or .to_csv(OUT, index=False)"
        )
    if start[:2] == b"\x1f\x8b" or start[:4] in (b"PK\x03\x04", b"(\xb5/\xfd") or start[:3] == b"BZh":
        raise ConfigError(f"{path}: expected a table, got a compressed file: unpack it first")
    if start[:2] in _UTF16:
        raise ConfigError(f"{path}: expected UTF-8 text, got UTF-16")
    if not start.removeprefix(BOM).strip():
        raise ConfigError(f"{path}: expected at least one row, got an empty file")
    if path.suffix not in _SUFFIXES:
        raise ConfigError(f"{path}: expected one of {', '.join(_SUFFIXES)}; got {path.suffix or 'no suffix'!r}")
    kind = _SUFFIXES[path.suffix]
    if kind != "parquet" and b"\0" in start:
        raise ConfigError(f"{path}: expected UTF-8 text, got a NUL byte: is it UTF-16?")
    return "jsonl" if kind == "json" and _is_lines(path) else kind


def read(path: Path, kind: Kind | None = None) -> Iterator[Record]:
    """Raises ConfigError where nothing after the fault can be read either."""
    kind = kind or kind_of(path)
    assert kind in get_args(Kind)
    return {"parquet": _parquet, "csv": _csv, "jsonl": jsonl, "json": _json}[kind](path)


def check_file(path: Path) -> None:
    """Raises ConfigError for what is no plain file: a pipe may never end, and it is read more than once."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', error)}") from error
    if stat.S_ISDIR(mode):
        raise ConfigError(f"{path}: cannot be read: Is a directory")
    if not stat.S_ISREG(mode):
        raise ConfigError(f"{path}: expected a plain file, got a pipe or a device")


def digest(path: Path) -> str:
    """SHA-256 of the bytes. Raises ConfigError where they cannot be read."""
    check_file(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines, without their ends and a BOM. Raises ConfigError for one longer than `MAX_LINE`."""
    try:
        with path.open("rb") as file:
            yield from enumerate(_lines(path, file), 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def jsonl(path: Path) -> Iterator[Record]:
    """Objects; blank lines are passed over."""
    for number, line in lines(path):
        if line.strip():
            yield _object(f"{path}:{number}", line)


def _object(where: str, line: bytes) -> Record:
    try:
        value = msgspec.json.decode(line)
    except UnicodeDecodeError as error:
        return Record(where, {}, f"expected UTF-8 text: byte {error.object[error.start]:#04x} at {error.start}")
    except RecursionError:
        return Record(where, {}, "expected a JSON object, got one nested too deeply")
    except msgspec.DecodeError as error:
        if _LONE.search(line):
            return Record(where, {}, "expected text, got half of a surrogate pair")
        return Record(where, {}, f"expected a JSON object, got broken JSON: {error}")
    if not isinstance(value, dict):
        return Record(where, {}, f"expected a JSON object, got {type(value).__name__}")
    return Record(where, value)


def _json(path: Path) -> Iterator[Record]:
    """A list of objects, or one object with a list under `records`, whose other keys each record gets as `/key`."""
    try:
        size = path.stat().st_size
        if size > MAX_JSON:
            raise ConfigError(
                f"{path}: expected a JSON file of at most {MAX_JSON} bytes, got {size}: write it as JSONL, an object a "
                "line"
            )
        value = msgspec.json.decode(path.read_bytes().removeprefix(BOM))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: expected JSON, got broken JSON: {error}") from error
    above: dict[str, Any] = {}
    key = ""
    if isinstance(value, dict) and isinstance(value.get("records"), list):
        above = {f"/{name}": one for name, one in value.items() if name != "records"}
        key, value = ".records", value["records"]
    if not isinstance(value, list):
        raise ConfigError(
            f"{path}: expected a list of objects, or an object with `records`; got {type(value).__name__}"
        )
    for i, one in enumerate(value):
        where = f"{path}: ${key}[{i}]"
        if isinstance(one, dict):
            yield Record(where, {**above, **one})
        else:
            yield Record(where, {}, f"expected a JSON object, got {type(one).__name__}")


def _csv(path: Path) -> Iterator[Record]:
    """Rows under one header. A row's line is the one that it begins on."""
    csv.field_size_limit(MAX_LINE)
    text = _Decoded(path)
    reader = csv.reader(text, strict=True)
    header: list[str] = []
    begins = 1
    try:
        for cells in reader:
            where, begins = f"{path}:{begins}", reader.line_num + 1
            text.taken = 0
            if not cells:
                continue
            if header:
                yield _row(where, header, cells)
            else:
                header = _header(path, cells)
    except csv.Error as error:
        raise ConfigError(f"{path}:{begins}: expected CSV: {error}") from error


def _row(where: str, header: list[str], cells: list[str]) -> Record:
    if len(cells) != len(header):
        return Record(where, {}, f"expected {len(header)} cells, got {len(cells)}")
    if any(not cell.isascii() and not _is_text(cell) for cell in cells):
        return Record(where, {}, "expected UTF-8 text")
    if any("\0" in cell for cell in cells):
        return Record(where, {}, "expected text, got a NUL byte")
    return Record(where, dict(zip(header, cells, strict=True)))


def _header(path: Path, cells: list[str]) -> list[str]:
    if len(cells) > parquet.MOST_COLUMNS:
        raise ConfigError(f"{path}:1: expected at most {parquet.MOST_COLUMNS} columns, got {len(cells)}")
    if len(cells) == 1 and (other := next((mark for mark in ";\t|" if mark in cells[0]), "")):
        raise ConfigError(
            f"{path}:1: expected columns separated by commas, got {other!r} in the one column {shown(cells[0])}"
        )
    double = parquet.twice(cells)
    if double is not None:
        raise ConfigError(f"{path}:1: expected every column once, got {shown(double)} twice")
    if not all(map(_is_text, cells)):
        raise ConfigError(f"{path}:1: expected UTF-8 text")
    return cells


def _parquet(path: Path) -> Iterator[Record]:
    for first, batch in parquet.batches(path, BATCH):
        yield from of_batch(path, first, batch)


def of_batch(path: Path, first: int, batch: Any) -> Iterator[Record]:
    """A batch's rows; one by one where a cell in it cannot be read."""
    try:
        rows: Iterable[Any] = batch.to_pylist()
    except UNREADABLE:
        rows = (batch.slice(i, 1) for i in range(batch.num_rows))
    for i, one in enumerate(rows, first):
        where = f"{path}: row {i}"
        if isinstance(one, dict):
            yield Record(where, one)
            continue
        try:
            yield Record(where, one.to_pylist()[0])
        except UnicodeDecodeError:
            yield Record(where, {}, "expected UTF-8 text")
        except UNREADABLE as error:
            yield Record(where, {}, f"a cell cannot be read: {error}")


def _lines(path: Path, file: BinaryIO) -> Iterator[bytes]:
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise ConfigError(f"{path}:{number}: expected a line of at most {MAX_LINE} bytes, got a longer one")
        yield line.removeprefix(BOM) if number == 1 else line


class _Decoded:
    """The lines of a file as text. Bytes that are not UTF-8 become lone surrogates, which `_row` sees. `taken`: bytes
    since it was set to 0. Raises ConfigError for a row of many lines that is too long."""

    def __init__(self, path: Path) -> None:
        self._path, self._lines = path, lines(path)
        self.taken = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        number, line = next(self._lines)
        self.taken += len(line)
        if self.taken > MAX_LINE:
            raise ConfigError(f"{self._path}:{number}: expected a row of at most {MAX_LINE} bytes, got a longer one")
        return line.decode("utf-8", "surrogateescape")


def _is_text(cell: str) -> bool:
    try:
        cell.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_pickle(start: bytes) -> bool:
    """Protocols 2 to 5 begin so; NumPy's own format may hold one too."""
    return (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05") or start[:6] == b"\x93NUMPY"


def _is_lines(path: Path) -> bool:
    """JSONL under another name: its first line is an object by itself, and more follow."""
    first = [line for _, line in zip(range(2), (line for _, line in lines(path) if line.strip()), strict=False)]
    if len(first) < 2 or not first[0].lstrip().startswith(b"{"):
        return False
    return not _object("", first[0]).broken


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4096)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
