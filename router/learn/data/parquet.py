"""Reads a Parquet file in batches, within bounds: checks the sizes that it declares, then counts what it expands to.

A few kilobytes may expand to a terabyte: a text stored once may be the cell of a million rows, and a million equal
numbers take a few bytes. So texts are read with their dictionaries, and a batch is counted before it is expanded.
What the footer claims of the columns comes from `footer`: pyarrow's own call for it may end the process.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from router.errors import ConfigError
from router.learn.data import footer

MOST_COLUMNS = 4096
MOST_ROWS = 1 << 26
ROOM = 256 << 20  #: bytes that any file may unfold to
RATIO = 1000  #: bytes that each byte of a file may unfold to, where that is more
PART = 64 << 20  #: bytes unfolded at once; a row that has more is refused
_NUMBER = 8  #: bytes that a cell counts at least

_Groups = list[list[footer.Chunk]]  #: the chunks of each row group


def batches(path: Path, rows: int, columns: Sequence[str] | None = None) -> Iterator[tuple[int, Any]]:
    """The first row's number and a record batch of at most `rows` rows and `PART` bytes, texts with dictionaries; of
    some `columns` alone. Raises ConfigError where the file is none, or claims or unfolds to more than its size allows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 0
    try:
        groups = footer.read(path)
        with pq.ParquetFile(path) as told:
            room = max(ROOM, RATIO * path.stat().st_size)
            _check(path, told, groups, room)
            for batch in _batches(path, told, groups, rows, columns):
                for part in _parts(path, row, batch):
                    room -= unfolded(part)
                    if room < 0:
                        raise _too_large(f"{path}: row {row}", "all rows up to here unfold to more")
                    yield row, part
                    row += part.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: a name that is no UTF-8
        at = f" (after row {row - 1})" if row else ""
        raise ConfigError(f"{path}: expected a whole Parquet file{at}: {error}") from error


def names(path: Path) -> list[str]:
    """The columns. Raises ConfigError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: a name that is no UTF-8
        raise ConfigError(f"{path}: expected a whole Parquet file: {error}") from error


def unfolded(array: Any) -> int:
    """Bytes of an array, or of a batch, once every cell is an object by itself; counted without unfolding it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(array, pa.RecordBatch):
        return sum(unfolded(column) for column in array.columns)
    if isinstance(array, pa.ExtensionArray):
        return unfolded(array.storage)
    kind, cells = array.type, _NUMBER * len(array)
    if pa.types.is_dictionary(kind):
        if not _is_text(kind.value_type):
            return cells
        lengths = pc.binary_length(array.dictionary).take(array.indices)
        return cells + int(pc.sum(lengths.cast(pa.int64())).as_py() or 0)
    if _is_text(kind):
        return cells + int(pc.sum(pc.binary_length(array).cast(pa.int64())).as_py() or 0)
    if pa.types.is_map(kind):
        first, last = array.offsets[0].as_py(), array.offsets[-1].as_py()
        return cells + sum(unfolded(part.slice(first, last - first)) for part in (array.keys, array.items))
    if any(of(kind) for of in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)):
        return cells + unfolded(array.flatten())
    if pa.types.is_struct(kind):
        return cells + sum(unfolded(field) for field in array.flatten())
    return max(cells, int(array.nbytes))


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(is_one(kind) for is_one in texts)


def _batches(path: Path, told: Any, groups: _Groups, rows: int, columns: Sequence[str] | None) -> Iterator[Any]:
    """Record batches as pyarrow makes them, texts with their dictionaries."""
    import pyarrow.parquet as pq

    texts = _texts(told)
    # Those of differences cannot be read with a dictionary, and some say what a text shares with the one before.
    deltas = {j: [group[j] for group in groups if group[j].is_delta] for j in texts}
    dictionaries = [path for j, path in texts.items() if not deltas[j]]
    largest = max((chunk.unpacked_bytes for chunks in deltas.values() for chunk in chunks), default=0)
    if largest:
        rows = max(1, min(rows, 32 * PART // largest))
    with pq.ParquetFile(path, metadata=told.metadata, read_dictionary=dictionaries) as file:
        yield from file.iter_batches(rows, columns=columns)


def _texts(told: Any) -> dict[int, str]:
    """Number and path of the columns that hold texts or bytes."""
    columns = {j: told.schema.column(j) for j in range(told.metadata.num_columns)}
    return {j: column.path for j, column in columns.items() if column.physical_type == "BYTE_ARRAY"}


def _check(path: Path, told: Any, groups: _Groups, room: int) -> None:
    meta, columns = told.metadata, told.schema_arrow.names
    double = twice(columns)
    if double is not None:
        raise ConfigError(f"{path}: expected every column once, got {double[:120]!r} twice")
    if meta.num_columns > MOST_COLUMNS:
        raise ConfigError(f"{path}: expected at most {MOST_COLUMNS} columns, got {meta.num_columns}")
    if not 0 <= meta.num_rows <= MOST_ROWS:
        raise ConfigError(f"{path}: expected at most {MOST_ROWS} rows, got {meta.num_rows}")
    if len(groups) != meta.num_row_groups or any(len(group) != meta.num_columns for group in groups):
        raise footer.FooterError(f"expected {meta.num_columns} columns in each of {meta.num_row_groups} row groups")
    for group in groups:
        for j, chunk in enumerate(group):
            room -= max(chunk.unpacked_bytes, _NUMBER * chunk.values)
            if min(chunk.unpacked_bytes, chunk.values) < 0 or room < 0:
                raise _too_large(f"{path}: {told.schema.column(j).path}", "it claims to hold more")


def _parts(path: Path, first: int, batch: Any) -> Iterator[Any]:
    """The batch in parts of at most `PART` bytes."""
    if (size := unfolded(batch)) <= PART:
        yield batch
    elif batch.num_rows == 1:
        raise ConfigError(f"{path}: row {first}: expected a row of at most {PART} bytes, got {size}")
    else:
        half = batch.num_rows // 2
        yield from _parts(path, first, batch.slice(0, half))
        yield from _parts(path, first + half, batch.slice(half))


def twice(columns: Sequence[str]) -> str | None:
    """The first column whose name stands above it already."""
    met: set[str] = set()
    for name in columns:
        if name in met:
            return name
        met.add(name)
    return None


def _too_large(where: str, what: str) -> ConfigError:
    return ConfigError(
        f"{where}: expected a file that unfolds to at most {RATIO} times its size or {ROOM >> 20} MiB; {what}"
    )
