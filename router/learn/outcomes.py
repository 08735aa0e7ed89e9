"""Outcome tables: which model scored what on which prompt, from Parquet or JSONL. Refuses broken rows by file and row.

Columns: `prompt`, `model`, `score` (0..1); optional `prompt_id`, `group`, `task`. Others are let through unread.
Knows no features and no training.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from router.errors import ConfigError

REQUIRED = ("prompt", "model", "score")
OPTIONAL = ("prompt_id", "group", "task")
Values = dict[str, Any]


class Prompt(msgspec.Struct, frozen=True):
    """One prompt. Prompts of one `group` are one question in other words: never on both sides of a fold."""

    id: str
    group: str
    task: str
    text: str


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """One table. `scores[i, j]` in [0, 1] is model j's on prompt i (the mean of several answers); NaN: unknown."""

    name: str
    sha256: str
    rows: int
    prompts: tuple[Prompt, ...]
    models: tuple[str, ...]
    scores: npt.NDArray[np.float32]


class _Row(msgspec.Struct, frozen=True):
    prompt: str
    model: str
    score: float
    prompt_id: str = ""
    group: str = ""
    task: str = ""


def read(path: str | Path) -> Outcomes:
    """Reads `.parquet` or `.jsonl`. Raises ConfigError naming the file, the row, the key and what was expected."""
    path = Path(path)
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if path.suffix not in _READERS:
        raise ConfigError(f"{path}: expected a .parquet or .jsonl file, got {path.suffix or 'no suffix'!r}")
    return _table(path, digest, _READERS[path.suffix](path))


def model_name(name: str) -> str:
    """One spelling per model: lower case, no maker in front, `meta-llama-3_1-8b` -> `llama-3.1-8b`."""
    name = name.strip().lower().rpartition("/")[2]
    return name.removeprefix("meta-").replace("3_1", "3.1").replace("3_2", "3.2").replace("3_3", "3.3")


def prompt_id(text: str) -> str:
    """The first 16 hex digits of the prompt's SHA-1."""
    return hashlib.sha1(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()[:16]


def _parquet(path: Path) -> Iterator[tuple[str, Values]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path}: expected a Parquet file: {error}") from error
    missing = [key for key in REQUIRED if key not in table.column_names]
    if missing:
        raise ConfigError(f"{path}: expected columns {', '.join(REQUIRED)}; {missing[0]!r} is missing")
    keys = [key for key in (*REQUIRED, *OPTIONAL) if key in table.column_names]
    for i, values in enumerate(zip(*(_values(table.column(key)) for key in keys), strict=True)):
        yield f"{path}: row {i}", {k: v for k, v in zip(keys, values, strict=True) if v is not None}


def _values(column: Any) -> list[Any]:
    """A column as Python objects; equal texts are one object."""
    import pyarrow as pa

    if not pa.types.is_string(column.type) and not pa.types.is_dictionary(column.type):
        return list(column.to_pylist())
    chunk = column.combine_chunks()
    chunk = chunk if pa.types.is_dictionary(column.type) else chunk.dictionary_encode()
    if isinstance(chunk, pa.ChunkedArray):
        chunk = chunk.chunk(0)
    words = chunk.dictionary.to_pylist()
    return [None if i is None else words[i] for i in chunk.indices.to_pylist()]


def _jsonl(path: Path) -> Iterator[tuple[str, Values]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                value = msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ConfigError(f"{where}: expected a JSON object, got broken JSON: {error}") from error
            if not isinstance(value, dict):
                raise ConfigError(f"{where}: expected a JSON object, got {type(value).__name__}")
            yield where, {k: v for k, v in value.items() if v is not None}


_READERS = {".parquet": _parquet, ".jsonl": _jsonl, ".ndjson": _jsonl}


def _checked(where: str, values: Values) -> _Row:
    for key in REQUIRED:
        if key not in values:
            raise ConfigError(f"{where}: {key}: expected a value, got none")
    for key, value in values.items():
        if key == "score":
            _check_score(where, value)
        elif key in _Row.__struct_fields__ and not isinstance(value, str):
            raise ConfigError(f"{where}: {key}: expected text, got {value!r}")
    if not values["model"].strip():
        raise ConfigError(f"{where}: model: expected a name, got an empty one")
    return _Row(**{key: values[key] for key in _Row.__struct_fields__ if key in values})


def _check_score(where: str, value: object) -> None:
    number = isinstance(value, (int, float)) and math.isfinite(value)
    if not number or not 0 <= float(value) <= 1:  # type: ignore[arg-type]
        raise ConfigError(f"{where}: score: expected a number from 0 to 1, got {value!r}")


def _table(path: Path, digest: str, rows: Iterable[tuple[str, Values]]) -> Outcomes:
    prompts: dict[str, Prompt] = {}
    models: dict[str, int] = {}
    cells: list[tuple[str, int, float]] = []
    names: dict[str, str] = {}
    for where, values in rows:
        row = _checked(where, values)
        name = names.get(row.model) or names.setdefault(row.model, model_name(row.model))
        id_ = row.prompt_id or prompt_id(row.prompt)
        known = prompts.get(id_)
        if known is None:
            known = prompts[id_] = Prompt(id_, row.group or prompt_id(row.prompt), row.task, row.prompt)
        if known.text != row.prompt:
            raise ConfigError(f"{where}: prompt_id: {id_!r} stands for another prompt above; expected one prompt an id")
        cells.append((id_, models.setdefault(name, len(models)), row.score))
    if not cells:
        raise ConfigError(f"{path}: expected at least one outcome, got none")
    return Outcomes(
        name=path.name, sha256=digest, rows=len(cells), prompts=tuple(prompts.values()), models=tuple(models),
        scores=_matrix(list(prompts), len(models), cells),
    )  # fmt: skip


def _matrix(ids: Sequence[str], models: int, cells: Sequence[tuple[str, int, float]]) -> npt.NDArray[np.float32]:
    index = {id_: i for i, id_ in enumerate(ids)}
    total = np.zeros((len(ids), models))
    count = np.zeros((len(ids), models))
    at = np.array([index[id_] for id_, _, _ in cells]), np.array([model for _, model, _ in cells])
    np.add.at(total, at, [score for _, _, score in cells])
    np.add.at(count, at, 1)
    with np.errstate(invalid="ignore"):
        return (total / count).astype(np.float32)
