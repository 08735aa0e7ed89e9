"""Writes rows to a Parquet or JSONL table as they come; the file appears at its path only when it is complete."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from router.errors import ConfigError
from router.learn.data.importers.base import Battle, Outcome, Row
from router.learn.output import replaced

BATCH = 4096  #: rows in memory at once
SUFFIXES = (".parquet", ".jsonl")
_NUMBERS = ("score", "output_tokens", "output_chars", "cost_usd")


def check_name(path: Path) -> None:
    """Raises ConfigError for a table of another kind."""
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"--out: expected a name in {' or '.join(SUFFIXES)}, got {path.name!r}")


@contextmanager
def opened(path: Path, kind: type[Row]) -> Iterator["Sink"]:
    """A table that is put in place where the block ends well, and leaves nothing behind where it fails."""
    check_name(path)
    with replaced("--out", path) as file:
        sink = Sink(path, file, kind)
        try:
            yield sink
            sink.close()
        finally:
            sink.abandon()


class Sink:
    """A table of one kind of row."""

    def __init__(self, path: Path, file: BinaryIO, kind: type[Row]) -> None:
        self._path, self._file, self._kind = path, file, kind
        self._rows: list[Row] = []
        self._writer: Any = _parquet_writer(file, kind) if path.suffix == ".parquet" else None

    def add(self, row: Row) -> None:
        """Raises ConfigError where outcomes and battles are mixed."""
        if type(row) is not self._kind:
            raise ConfigError(
                f"{self._path}: expected one kind of table, got outcomes and battles: import them apart, or --as-scores"
            )
        self._rows.append(row)
        if len(self._rows) == BATCH:
            self._flush()

    def close(self) -> None:
        """Writes what is left."""
        self._flush()
        if self._writer is not None:
            self._writer.close()

    def abandon(self) -> None:
        """Ends the writer while its file is still there, whatever has happened; nothing to do after `close`."""
        if self._writer is not None:
            with suppress(Exception):
                self._writer.close()

    def _flush(self) -> None:
        if self._writer is None:
            encoder = msgspec.json.Encoder()
            self._file.write(encoder.encode_lines(self._rows))
        elif self._rows:
            self._writer.write_batch(_batch(self._rows, self._writer.schema))
        self._rows = []


def _parquet_writer(file: BinaryIO, kind: type[Row]) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [(name, pa.float64() if name in _NUMBERS else pa.string()) for name in kind.__struct_fields__]
    return pq.ParquetWriter(file, pa.schema(fields), compression="zstd")


def _batch(rows: list[Row], schema: Any) -> Any:
    import pyarrow as pa

    columns = [pa.array([getattr(row, name) for row in rows], schema.field(name).type) for name in schema.names]
    return pa.record_batch(columns, schema=schema)


def kind_of(row: Row) -> type[Row]:
    return Battle if isinstance(row, Battle) else Outcome
