"""A run's folder: `run.json` says what is measured, `requests.jsonl` has a row a request, `cells.jsonl` a row a cell.

A cell is one policy's turn at one level of load in one round. A run that was stopped goes on where it was: cells that
have ended stay, and the rows of one that was cut are written anew.
"""

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from router import files
from router.errors import ConfigError, HeadgateError

VERSION = 1
_RUN, _REQUESTS, _CELLS, _LABELS = "run.json", "requests.jsonl", "cells.jsonl", "labels.jsonl"


class CellKey(msgspec.Struct, frozen=True, order=True):
    round: int
    level: int
    policy: str


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request. Microseconds, from its planned send time where nothing else is said."""

    round: int
    level: int
    policy: str
    number: int  #: in the plan of its cell
    item: int  #: of the workload
    at_s: float  #: planned, from the cell's start
    warm: bool = False  #: warm-up: in no figure
    asked: str = ""  #: the `model` that was asked for
    model: str = ""  #: that answered
    status: int = 0
    fault: str = ""  #: `told.Fault`; empty: answered
    why: str = ""
    late_us: int = 0  #: sent so long after its planned time
    ttft_us: int | None = None
    e2e_us: int = 0
    gaps_us: list[int] = []  #: between tokens' arrivals
    input_tokens: int = 0
    output_tokens: int = 0
    counted: bool = False  #: the target sent no usage: `output_tokens` are events
    finish: str = ""
    retry_after_s: float | None = None  #: as a 429 said
    tries: int = 1
    text: str = ""
    score: float | None = None
    ungraded: str = ""  #: why it has no grade, though it should


class Cell(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a whole cell. Seconds."""

    round: int
    level: int
    policy: str
    wall_s: float  #: from its first request to its last answer
    from_s: float  #: figures are of requests planned from here ...
    to_s: float  #: ... to here
    own_cpu_s: float = 0.0  #: of the load generator
    events: int = 0  #: tokens' events that it read
    engine_s: dict[str, float] = {}  #: CPU seconds of local engines, by member; empty: not known
    cut: bool = False  #: it was interrupted

    @property
    def key(self) -> CellKey:
        return CellKey(self.round, self.level, self.policy)


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """One question asked of the weakest and the strongest member, for the static threshold."""

    item: int
    win_rate: float  #: predicted, of the strongest over the weakest
    weak: float
    strong: float


_T = TypeVar("_T")


class Folder:
    """Raises HeadgateError where the disk refuses: what was written before stays."""

    def __init__(self, path: Path, run: bytes, *, anew: bool = False) -> None:
        """`run`: what is measured, as JSON. Raises ConfigError where the folder holds another run."""
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._begin(run, anew)
            self.cells = {cell.key: cell for cell in self._read(_CELLS, Cell) if not cell.cut}
            self.labels = self._read(_LABELS, Label)
            self._keep_whole_cells()
            self._requests, self._cells = (self._appended(name) for name in (_REQUESTS, _CELLS))
            self._labels = self._appended(_LABELS)
        except OSError as error:
            raise ConfigError(f"--out: {path}: cannot be written: {error.strerror or error}") from error

    def add_label(self, label: Label) -> None:
        self._write(self._labels, label)
        self.labels.append(label)

    def end_cell(self, rows: Sequence[Row], cell: Cell) -> None:
        """Its rows and, once they are on the disk, the cell itself."""
        for row in rows:
            self._write(self._requests, row)
        self.flush()
        self._write(self._cells, cell)
        self.flush()
        self.cells[cell.key] = cell

    def flush(self) -> None:
        try:
            for file in (self._requests, self._cells, self._labels):
                file.flush()
        except OSError as error:
            raise self._full(error) from error

    def rows(self) -> list[Row]:
        return [row for row in self._read(_REQUESTS, Row) if CellKey(row.round, row.level, row.policy) in self.cells]

    def close(self) -> None:
        for file in (self._requests, self._cells, self._labels):
            with contextlib.suppress(OSError):  # `flush` has told what the disk refuses
                file.close()

    def _begin(self, run: bytes, anew: bool) -> None:
        """A folder of the same run goes on; another one's is refused."""
        told = self.path / _RUN
        if anew:
            for name in (_RUN, _REQUESTS, _CELLS, _LABELS):
                (self.path / name).unlink(missing_ok=True)
        if told.exists():
            differing = _difference(told.read_bytes(), run)
            if differing:
                raise ConfigError(
                    f"--out: {self.path} holds a run of other settings ({differing}); choose another folder, or --anew"
                )
        elif (self.path / _REQUESTS).exists():
            raise ConfigError(f"--out: {self.path} holds {_REQUESTS} but no {_RUN}; choose another folder, or --anew")
        else:
            with files.replaced(told) as file:
                file.write(msgspec.json.format(run) + b"\n")

    def _read(self, name: str, kind: type[_T]) -> list[_T]:
        """All rows but a last one that was cut in the writing."""
        path = self.path / name
        if not path.exists():
            return []
        decode = msgspec.json.Decoder(kind).decode
        *lines, _ = path.read_bytes().split(b"\n")
        try:
            return [decode(line) for line in lines]
        except msgspec.MsgspecError as error:
            raise ConfigError(f"{path}: expected rows of a bench: {error}; choose another folder, or --anew") from error

    def _keep_whole_cells(self) -> None:
        rows = self._read(_REQUESTS, Row)
        kept = [row for row in rows if CellKey(row.round, row.level, row.policy) in self.cells]
        self._rewrite(_REQUESTS, kept)
        self._rewrite(_CELLS, self.cells.values())
        self._rewrite(_LABELS, self.labels)

    def _rewrite(self, name: str, rows: Iterable[msgspec.Struct]) -> None:
        path = self.path / name
        text = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
        if path.exists() and path.read_bytes() != text:
            with files.replaced(path) as file:
                file.write(text)

    def _appended(self, name: str) -> BinaryIO:
        return (self.path / name).open("ab")

    def _write(self, file: BinaryIO, row: msgspec.Struct) -> None:
        try:
            file.write(msgspec.json.encode(row) + b"\n")
        except OSError as error:
            raise self._full(error) from error

    def _full(self, error: OSError) -> HeadgateError:
        why = error.strerror or str(error)
        return HeadgateError(f"--out: {self.path}: {why}; what was written before stays, and the run can go on from it")


def _difference(one: bytes, other: bytes) -> str:
    """The first key in which two runs differ; empty: they are the same."""
    try:
        a, b = (msgspec.json.decode(text, type=dict[str, object]) for text in (one, other))
    except msgspec.MsgspecError:
        return f"{_RUN} cannot be read"
    for key in dict.fromkeys((*b, *a)):
        if a.get(key) != b.get(key):
            return f"{key}: {_short(a.get(key))} there, {_short(b.get(key))} here"
    return ""


def _short(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:60] + "..."
