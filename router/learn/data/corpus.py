"""Joins outcome tables: a row for each prompt, a column for each model of each table. Knows no features."""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from router.learn.data.battles import Battles
from router.learn.data.outcomes import Outcomes, Prompt

STRENGTH_TASK = "mmlu_pro/"  #: the benchmark whose accuracy is a model's strength
TASK_PRIOR = 10  #: prompts' worth of the overall mean in a task's mean

Floats = npt.NDArray[np.float32]


class Column(msgspec.Struct, frozen=True):
    """A model as one table scored it: two tables ask and judge differently, so a model in both has two columns."""

    table: int
    model: str


class Battled(msgspec.Struct, frozen=True):
    """Arrays [battles]: the row of the prompt, the two columns, and a's outcome: 1 won, 0 lost, 0.5 a tie."""

    prompt: npt.NDArray[np.int64]
    a: npt.NDArray[np.int64]
    b: npt.NDArray[np.int64]
    outcome: Floats


class Corpus(msgspec.Struct, frozen=True):
    """`scores[i, j]`: NaN where prompt i was not asked of column j. `table[i]`: the table that prompt i is from.
    `battles`: of the tables that hold preferences instead of scores."""

    prompts: tuple[Prompt, ...]
    columns: tuple[Column, ...]
    scores: Floats
    table: npt.NDArray[np.int64]
    battles: Battled | None = None

    @property
    def tasks(self) -> npt.NDArray[np.str_]:
        return np.array([prompt.task for prompt in self.prompts])

    def column(self, model: str, table: int | None = None) -> int:
        """The column that speaks for a model: that of the table where it has most labels, unless one is named."""
        found = [i for i, c in enumerate(self.columns) if c.model == model and table in (None, c.table)]
        if not found:
            raise KeyError(model)
        return max(found, key=lambda i: int(np.isfinite(self.scores[:, i]).sum()))

    @property
    def models(self) -> tuple[str, ...]:
        """Each model once."""
        return tuple(dict.fromkeys(column.model for column in self.columns))


def join(tables: Sequence[Outcomes], battles: Sequence[Battles] = ()) -> Corpus:
    """Tables of battles stand behind those of scores; their columns hold no score."""
    every: list[Outcomes | Battles] = [*tables, *battles]
    columns = tuple(Column(t, model) for t, table in enumerate(every) for model in table.models)
    prompts = tuple(prompt for table in every for prompt in table.prompts)
    scores = np.full((len(prompts), len(columns)), np.nan, np.float32)
    row = column = 0
    for table in tables:
        rows, models = table.scores.shape
        scores[row : row + rows, column : column + models] = table.scores
        row, column = row + rows, column + models
    numbers = np.repeat(np.arange(len(every)), [len(table.prompts) for table in every])
    return Corpus(prompts, columns, scores, numbers, _fought(battles, row, column))


def _fought(battles: Sequence[Battles], row: int, column: int) -> Battled | None:
    """All battles, by the corpus's rows and columns, which those of the first table start at."""
    parts = []
    for table in battles:
        parts.append((table.prompt + row, table.a + column, table.b + column, table.outcome))
        row, column = row + len(table.prompts), column + len(table.models)
    return Battled(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True))) if parts else None


def strengths(corpus: Corpus, rows: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Each column's MMLU-Pro accuracy over those of `rows` that it answered; NaN where it answered none."""
    scores = corpus.scores[rows & np.char.startswith(corpus.tasks, STRENGTH_TASK)]
    known = np.isfinite(scores)
    total = np.where(known, scores, 0).sum(0, dtype=np.float64)
    return np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)


def label_weights(scores: Floats, alike: float) -> Floats:
    """0 where unknown. Labels of one prompt correlate by `alike`: each of n weighs 1 / (1 + (n - 1) * alike)."""
    known = np.isfinite(scores)
    each = 1 / (1 + (np.maximum(known.sum(1), 1) - 1) * alike)
    return np.asarray(known * each[:, None], np.float32)


def family_weights(tasks: npt.NDArray[np.str_], balance: float) -> Floats:
    """[prompts], mean 1. A task's family is its name up to the first slash."""
    families = np.array([task.partition("/")[0] for task in tasks])
    _, index, count = np.unique(families, return_inverse=True, return_counts=True)
    weight = count[index] ** -balance
    return np.asarray(weight / weight.mean(), np.float32)


def task_means(tasks: npt.NDArray[np.str_], scores: Floats) -> Floats:
    """Each score replaced by its model's mean over the prompt's task. Unknown scores become 0."""
    known = np.isfinite(scores)
    names, index = np.unique(tasks, return_inverse=True)
    total, count = np.zeros((len(names), scores.shape[1])), np.zeros((len(names), scores.shape[1]))
    np.add.at(total, index, np.where(known, scores, 0))
    np.add.at(count, index, known)
    overall = total.sum(0) / np.maximum(count.sum(0), 1)
    means = (total + TASK_PRIOR * overall) / (count + TASK_PRIOR)
    return np.asarray(np.where(known, means[index], 0), np.float32)
