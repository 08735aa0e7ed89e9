"""RouteLLM's benchmark CSVs (lm-sys/RouteLLM, `routellm/evals`): `prompt`, a True/False column a model, and for GSM8K a
column `<model>_response` a model. The task is the file's name.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from router.errors import ConfigError
from router.learn.data import records
from router.learn.data.importers import cells
from router.learn.data.importers.base import Importer, Options, Outcome, Source, outcome
from router.learn.data.records import Record

ABOUT = "RouteLLM's CSVs: prompt, and a True/False column a model"
RESPONSE = "_response"
FEW = 20  #: one cell in so many
_WORDS = ("true", "false")
_NUMBERS = ("0", "1", "0.0", "1.0")
#: Row numbers and what is told of a prompt: no model, whatever they hold.
_NO_MODELS = re.compile(
    r"(?:prompt|unnamed: ?\d+(?:[._]\d+)*|level_\d+"
    r"|(?:(?:question|prompt|sample|row|example|problem)[ _]?)?(?:id|idx|index|no|number)"
    r"|row|question|subject|category|difficulty|level|task|split|source|dataset|eval_name|answer|label|target|)"
)


class _Column(msgspec.Struct):
    """What a column's cells are: words (true, false), numbers (0, 1), nothing, or something else."""

    words: int = 0
    numbers: int = 0
    others: int = 0


def takes(source: Source) -> bool:
    if source.kind != "csv" or "prompt" not in source.values:
        return False
    models = _asked_of(source.values)
    return bool(models) and all(str(source.values[model]).strip().lower() in _WORDS for model in models)


def importer(source: Source, options: Options) -> Importer:
    """Reads the file once to see which columns are models: their cells are True or False, or, where no column's are,
    0 or 1. Raises ConfigError where none is."""
    columns: dict[str, _Column] = {}
    for record in records.read(source.path, source.kind):
        if not record.broken:
            _look(record, columns)
    # Beside columns of words, one of 0 and 1 is a short table's row numbers, a seed, a label.
    models = [name for name, column in columns.items() if column.words]
    models = models or [name for name, column in columns.items() if _is_of_numbers(column)]
    if not models:
        raise ConfigError(
            f"{source.path}: expected a column of True and False for each model, got "
            f"{', '.join(records.shown(name) for name in list(columns)[:12]) or 'none'}"
        )
    others = [name for name in columns if name not in models]
    return _RouteLlm(options.task or task_of(source.path), models, others)


def task_of(path: Path) -> str:
    """`mmlu_anatomy.csv` -> `mmlu/anatomy`, `gsm8k_responses.csv` -> `gsm8k`."""
    name = records.told(path.stem).removesuffix("_responses")
    return name.replace("mmlu_", "mmlu/", 1) if name.startswith("mmlu_") else name


def _asked_of(values: Mapping[str, object]) -> list[str]:
    """The columns that may be models, by their names alone."""
    return [key for key in values if not key.endswith(RESPONSE) and not _NO_MODELS.fullmatch(key.strip().lower())]


def _look(record: Record, columns: dict[str, _Column]) -> None:
    for name in _asked_of(record.values):
        column = columns.setdefault(name, _Column())
        value = record.values[name]
        told = "" if value is None else str(value).strip().lower()
        if told in _WORDS:
            column.words += 1
        elif told in _NUMBERS:
            column.numbers += 1
        elif told:
            column.others += 1


def _is_of_numbers(column: _Column) -> bool:
    """A few cells of another kind are broken cells of a model, refused by their rows; more of them beside 0 and 1 are
    the numbers of something else."""
    return column.numbers > 0 and column.others * FEW <= column.numbers


class _RouteLlm:
    def __init__(self, task: str, models: list[str], others: list[str]) -> None:
        self._task, self._models, self._others = task, models, others

    def rows(self, record: Record) -> Iterable[Outcome]:
        prompt = cells.text(record.values, "prompt")
        for model in self._models:
            response = cells.optional_text(record.values, model + RESPONSE)
            yield outcome(
                prompt, model, cells.truth(record.values, model), task=self._task, response=response,
                output_chars=None if response is None else len(response),
            )  # fmt: skip

    def left_out(self) -> Mapping[str, int]:
        return {f"column {records.shown(name)} holds no True and False, so it is no model": 1 for name in self._others}
