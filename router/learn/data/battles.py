"""Tables of battles: which of two models' answers to a prompt was preferred. From Parquet or JSONL. Knows no training.

Columns: `prompt`, `model_a`, `model_b`, `winner` (a, b or tie); optional `prompt_id`, `group`, `task`.
"""

from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from router.errors import ConfigError
from router.learn.data import records
from router.learn.data.outcomes import MOST_MODELS, Prompt, model_name, prompt_id

REQUIRED = ("prompt", "model_a", "model_b", "winner")
TEXTS = (*REQUIRED, "prompt_id", "group", "task")
OUTCOME: Final = {"a": 1.0, "b": 0.0, "tie": 0.5}


class Battles(msgspec.Struct, frozen=True, kw_only=True):
    """One table. Battle k is of models `a[k]` and `b[k]` on prompt `prompt[k]`; `outcome[k]` is a's: 1 won, 0 lost,
    0.5 a tie. The arrays are [battles]."""

    name: str
    sha256: str
    prompts: tuple[Prompt, ...]
    models: tuple[str, ...]  #: in one spelling, as `outcomes.model_name` has it
    prompt: npt.NDArray[np.int64]
    a: npt.NDArray[np.int64]
    b: npt.NDArray[np.int64]
    outcome: npt.NDArray[np.float32]

    @property
    def rows(self) -> int:
        return len(self.outcome)


def is_battles(path: Path) -> bool:
    """Whether the first row names two models. False for what cannot be read: who reads it then says why."""
    if path.suffix not in (".parquet", ".jsonl") or not path.is_file():
        return False
    try:
        first = next(iter(records.read(path, "parquet" if path.suffix == ".parquet" else "jsonl")), None)
    except ConfigError:
        return False
    return first is not None and "model_a" in first.values


def read(path: str | Path) -> Battles:
    """Raises ConfigError naming the file, the row, the key and what was expected."""
    path = Path(path)
    kind = records.kind_of(path)
    if kind not in ("parquet", "jsonl"):
        raise ConfigError(f"{path}: expected battles as .parquet or .jsonl; `headgate data import` makes such a table")
    prompts: dict[str, Prompt] = {}
    index: dict[str, int] = {}
    models: dict[str, int] = {}
    rows: list[tuple[int, int, int, float]] = []
    for record in records.read(path, kind):
        values = _checked(record)
        a, b = (models.setdefault(model_name(values[key]), len(models)) for key in ("model_a", "model_b"))
        if len(models) > MOST_MODELS:
            raise ConfigError(f"{record.where}: expected at most {MOST_MODELS} models, got one more")
        if a == b:
            raise ConfigError(
                f"{record.where}: model_b: expected another model than model_a, got {records.shown(values['model_b'])}"
            )
        prompt = _prompt(record.where, values, prompts)
        rows.append((index.setdefault(prompt.id, len(index)), a, b, OUTCOME[values["winner"]]))
    if not rows:
        raise ConfigError(f"{path}: expected at least one battle, got none")
    at = np.array([row[:3] for row in rows], np.int64).T
    return Battles(
        name=records.told(path.name), sha256=records.digest(path), prompts=tuple(prompts.values()),
        models=tuple(models), prompt=at[0], a=at[1], b=at[2],
        outcome=np.array([row[3] for row in rows], np.float32),
    )  # fmt: skip


def _checked(record: records.Record) -> dict[str, Any]:
    if record.broken:
        raise ConfigError(f"{record.where}: {record.broken}")
    values = {key: record.values[key] for key in TEXTS if record.values.get(key) is not None}
    for key in REQUIRED:
        if key not in values:
            raise ConfigError(f"{record.where}: {key}: expected a value, got none")
    for key, value in values.items():
        if not isinstance(value, str):
            raise ConfigError(f"{record.where}: {key}: expected text, got {records.shown(value)}")
    for key in ("model_a", "model_b"):
        if not values[key].strip():
            raise ConfigError(f"{record.where}: {key}: expected a name, got an empty one")
    if values["winner"] not in OUTCOME:
        raise ConfigError(f"{record.where}: winner: expected one of a, b, tie; got {records.shown(values['winner'])}")
    return values


def _prompt(where: str, values: dict[str, Any], known: dict[str, Prompt]) -> Prompt:
    text = values["prompt"]
    id_ = values.get("prompt_id") or prompt_id(text)
    new = Prompt(id_, values.get("group") or prompt_id(text), values.get("task", ""), text)
    found = known.setdefault(id_, new)
    if found.text != text:
        raise ConfigError(f"{where}: prompt_id: {id_!r} stands for another prompt above; expected one prompt an id")
    return found
