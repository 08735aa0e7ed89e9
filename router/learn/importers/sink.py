"""Writes rows to a table as they come: Parquet or JSONL, put in place only when all is well. Knows no format."""

import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import msgspec

from router.errors import ConfigError
from router.learn.importers.base import Battle, Outcome, Row

BATCH = 4096  #: rows in memory at once
SUFFIXES = (".parquet", ".jsonl")
_NUMBERS = ("score", "output_tokens", "output_chars", "cost_usd")


class Sink:
    """A table of one kind of row. Leaves nothing behind where the block fails."""

    def __init__(self, path: Path, kind: type[Row]) -> None:
        if path.suffix not in SUFFIXES:
            raise ConfigError(f"--out: expected a name in {' or '.join(SUFFIXES)}, got {path.name!r}")
        self._path, self._kind = path, kind
        self._rows: list[Row] = []
        self._writer: Any = None

    def __enter__(self) -> "Sink":
        try:
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        except OSError as error:
            raise ConfigError(f"--out: {self._path}: cannot be written: {error.strerror}") from error
        self._file: BinaryIO = os.fdopen(handle, "wb")
        self._temporary = Path(name)
        if self._path.suffix == ".parquet":
            self._writer = _parquet_writer(self._file, self._kind)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        try:
            if kind is None:
                self._flush()
                if self._writer is not None:
                    self._writer.close()
        finally:
            self._file.close()
            if kind is None:
                umask = os.umask(0)
                os.umask(umask)
                self._temporary.chmod(0o666 & ~umask)
                self._temporary.replace(self._path)
            else:
                self._temporary.unlink()

    def add(self, row: Row) -> None:
        """Raises ConfigError where outcomes and battles are mixed."""
        if type(row) is not self._kind:
            raise ConfigError(
                f"{self._path}: expected one kind of table, got outcomes and battles: import them apart, or --as-scores"
            )
        self._rows.append(row)
        if len(self._rows) == BATCH:
            self._flush()

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
