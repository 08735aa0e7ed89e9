"""Outcome tables: which model scored what on which prompt, from Parquet or JSONL. Refuses broken rows by file and row.

Columns: `prompt`, `model`, `score` (0..1); optional `prompt_id`, `group`, `task`, `split`, and of the answer
`output_tokens`, `output_chars`, `cost_usd`. Others are let through unread. Knows no features and no training.
"""

import hashlib
import math
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from router.errors import ConfigError
from router.learn.data import parquet, records

REQUIRED = ("prompt", "model", "score")
OPTIONAL = ("prompt_id", "group", "task", "split")
MEASURES = ("cost_usd", "output_tokens", "output_chars")
BATCH = 1 << 16  #: rows of a Parquet file in memory at once
MOST_MODELS = 4096
MOST_CELLS = 1 << 26  #: prompts times models: what a table takes in memory
LARGEST = 1e15  #: measure; no answer has more of anything
MOST_TOKENS = 1 << 30  #: of an answer
CHARS = 4.0  #: a token, where nothing tells
Values = dict[str, Any]
Doubles = npt.NDArray[np.float64]
_OPTIONS = re.compile(r"\n\s*\(?A[.):]\s")  #: where a question's options begin
_BETWEEN = re.compile(r"\W+")


class Prompt(msgspec.Struct, frozen=True):
    """One prompt. Prompts of one `group` are one question in other words: never on both sides of a fold."""

    id: str
    group: str
    task: str
    text: str


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """One table. `scores[i, j]` in [0, 1] is model j's on prompt i (the mean of several answers); NaN: unknown.

    Measures [prompts, models] are means too, NaN where unknown, and None where the table knows none.
    """

    name: str
    sha256: str
    rows: int
    prompts: tuple[Prompt, ...]
    models: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    answers: npt.NDArray[np.int64] | None = None  #: [prompts, models]: rows of each cell
    contradictions: int = 0  #: cells whose rows' scores differ
    splits: tuple[tuple[str, ...], ...] = ()  #: of each prompt, where the source has splits
    cost_usd: Doubles | None = None
    output_tokens: Doubles | None = None
    output_chars: Doubles | None = None


class _Row(msgspec.Struct, frozen=True):
    prompt: str
    model: str
    score: float
    prompt_id: str = ""
    group: str = ""
    task: str = ""
    split: str = ""
    cost_usd: float = math.nan
    output_tokens: float = math.nan
    output_chars: float = math.nan


def read(path: str | Path) -> Outcomes:
    """Reads `.parquet` or `.jsonl`. Raises ConfigError naming the file, the row, the key and what was expected."""
    path = Path(path)
    digest = records.digest(path)
    if path.suffix not in _READERS:
        raise ConfigError(f"{path}: expected a .parquet or .jsonl file, got {path.suffix or 'no suffix'!r}")
    table = _Table()
    for where, values in _READERS[path.suffix](path):
        table.add(where, _checked(where, values))
    return table.made(path, digest)


def model_name(name: str) -> str:
    """One spelling per model: lower case, no maker in front, `meta-llama-3_1-8b` -> `llama-3.1-8b`."""
    name = name.strip().lower().rpartition("/")[2]
    return name.removeprefix("meta-").replace("3_1", "3.1").replace("3_2", "3.2").replace("3_3", "3.3")


def prompt_id(text: str) -> str:
    """The first 16 hex digits of the prompt's SHA-1."""
    return hashlib.sha1(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()[:16]


def question_group(text: str) -> str:
    """The group of a benchmark's question: equal for all texts that differ only in their options, in what follows
    these, in punctuation and in case."""
    bare = _BETWEEN.sub(" ", _OPTIONS.split(text, maxsplit=1)[0].lower()).strip()
    return prompt_id(bare or text)


def _parquet(path: Path) -> Iterator[tuple[str, Values]]:
    columns = parquet.names(path)
    missing = [key for key in REQUIRED if key not in columns]
    if missing:
        raise ConfigError(f"{path}: expected columns {', '.join(REQUIRED)}; {missing[0]!r} is missing")
    keys = [key for key in (*REQUIRED, *OPTIONAL, *MEASURES) if key in columns]
    for first, batch in parquet.batches(path, BATCH, keys):
        try:
            told = [_values(batch.column(key)) for key in keys]
        except records.UNREADABLE:
            yield from _one_by_one(path, first, batch)
            continue
        for i, values in enumerate(zip(*told, strict=True), first):
            yield f"{path}: row {i}", {k: v for k, v in zip(keys, values, strict=True) if v is not None}


def _one_by_one(path: Path, first: int, batch: Any) -> Iterator[tuple[str, Values]]:
    """The same of a batch in which some cell cannot be read: refuses the row."""
    for record in records.of_batch(path, first, batch):
        if record.broken:
            raise ConfigError(f"{record.where}: {record.broken}")
        yield record.where, {k: v for k, v in record.values.items() if v is not None}


def _values(column: Any) -> list[Any]:
    """A column as Python objects; equal texts are one object."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        return list(column.to_pylist())
    words = column.dictionary.to_pylist()
    return [None if i is None else words[i] for i in column.indices.to_pylist()]


def _jsonl(path: Path) -> Iterator[tuple[str, Values]]:
    for record in records.jsonl(path):
        if record.broken:
            raise ConfigError(f"{record.where}: {record.broken}")
        yield record.where, {k: v for k, v in record.values.items() if v is not None}


_READERS = {".parquet": _parquet, ".jsonl": _jsonl, ".ndjson": _jsonl}


def _checked(where: str, values: Values) -> _Row:
    for key in REQUIRED:
        if key not in values:
            raise ConfigError(f"{where}: {key}: expected a value, got none")
    for key, value in values.items():
        if key == "score":
            _check_score(where, value)
        elif key in MEASURES:
            _check_measure(where, key, value)
        elif key in _Row.__struct_fields__ and not isinstance(value, str):
            raise ConfigError(f"{where}: {key}: expected text, got {records.shown(value)}")
    if not values["model"].strip():
        raise ConfigError(f"{where}: model: expected a name, got an empty one")
    return _Row(**{key: values[key] for key in _Row.__struct_fields__ if key in values})


def _check_score(where: str, value: object) -> None:
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ConfigError(f"{where}: score: expected a number from 0 to 1, got {records.shown(value)}")


def _check_measure(where: str, key: str, value: object) -> None:
    """NaN is how some writers spell `unknown`."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not (value != value or 0 <= value <= LARGEST):  # type: ignore[operator]
        raise ConfigError(f"{where}: {key}: expected a number of 0 or more, got {records.shown(value)}")
    if key == "output_tokens" and value > MOST_TOKENS:  # type: ignore[operator]
        raise ConfigError(f"{where}: {key}: expected at most {MOST_TOKENS} tokens, got {records.shown(value)}")


class _Table:
    """A table while it is read. Prompts and models in the order of their first row."""

    def __init__(self) -> None:
        self._prompts: dict[str, Prompt] = {}
        self._index: dict[str, int] = {}
        self._models: dict[str, int] = {}
        self._columns: dict[str, int] = {}  # by the source's spelling
        self._splits: dict[int, list[str]] = {}
        self._at = array("q")  # prompt and column, of each row
        self._numbers = array("d")  # score and measures, of each row

    def add(self, where: str, row: _Row) -> None:
        id_ = row.prompt_id or prompt_id(row.prompt)
        known = self._prompts.get(id_)
        if known is None:
            known = self._prompts[id_] = Prompt(id_, row.group or prompt_id(row.prompt), row.task, row.prompt)
            self._index[id_] = len(self._index)
        if known.text != row.prompt:
            raise ConfigError(f"{where}: prompt_id: {id_!r} stands for another prompt above; expected one prompt an id")
        index = self._index[id_]
        if row.split and row.split not in self._splits.setdefault(index, []):
            self._splits[index].append(row.split)
        self._at.extend((index, self._column(where, row.model)))
        self._numbers.extend((row.score, row.cost_usd, row.output_tokens, row.output_chars))

    def _column(self, where: str, model: str) -> int:
        if model not in self._columns:
            if len(self._columns) == MOST_MODELS:
                raise ConfigError(f"{where}: model: expected at most {MOST_MODELS} names, got one more")
            self._columns[model] = self._models.setdefault(model_name(model), len(self._models))
        return self._columns[model]

    def made(self, path: Path, digest: str) -> Outcomes:
        if not self._at:
            raise ConfigError(f"{path}: expected at least one outcome, got none")
        at = np.frombuffer(self._at, np.int64).reshape(-1, 2).T
        numbers = np.frombuffer(self._numbers, np.float64).reshape(-1, 4)
        shape = len(self._prompts), len(self._models)
        if shape[0] * shape[1] > MOST_CELLS:
            raise ConfigError(
                f"{path}: expected at most {MOST_CELLS} cells, got {shape[0]} prompts of {shape[1]} models each"
            )
        cells = np.ravel_multi_index((at[0], at[1]), shape)
        scores, answers = _means(shape, cells, numbers[:, 0])
        told = {
            key: _means(shape, cells, numbers[:, i])[0] if np.isfinite(numbers[:, i]).any() else None
            for i, key in enumerate(MEASURES, 1)
        }
        return Outcomes(
            name=records.told(path.name), sha256=digest, rows=len(cells), prompts=tuple(self._prompts.values()),
            models=tuple(self._models), scores=scores.astype(np.float32), answers=answers,
            contradictions=_contradictions(cells, numbers[:, 0]),
            splits=tuple(tuple(self._splits.get(i, ())) for i in range(shape[0])) if self._splits else (), **told,
        )  # fmt: skip


def _means(shape: tuple[int, int], cells: npt.NDArray[np.int64], values: Doubles) -> tuple[Doubles, Any]:
    """Mean of the known values of each cell, and their number; both of `shape`."""
    known = np.isfinite(values)
    total = np.bincount(cells[known], values[known], minlength=shape[0] * shape[1]).reshape(shape)
    count = np.bincount(cells[known], minlength=shape[0] * shape[1]).reshape(shape)
    with np.errstate(invalid="ignore"):
        return total / count, count


def _contradictions(cells: npt.NDArray[np.int64], scores: Doubles) -> int:
    order = np.lexsort((scores, cells))
    cells, scores = cells[order], scores[order]
    differ = (cells[1:] == cells[:-1]) & (scores[1:] != scores[:-1])
    return len(np.unique(cells[1:][differ]))
