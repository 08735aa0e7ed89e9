"""Which prompts are trained on and which are predicted, protocol by protocol. Knows no router and no label's value.

Whatever the protocol: no question that is predicted is trained on, in any table or wording.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import msgspec
import numpy as np
import numpy.typing as npt

from router.errors import ConfigError
from router.learn.data.corpus import Corpus
from router.learn.data.folds import by_group, by_task, training_rows, waits
from router.learn.evaluate.nearest import hint

Rows = npt.NDArray[np.bool_]


class Split(msgspec.Struct, frozen=True):
    """One fit: prompts by row of the corpus."""

    train: Rows
    test: Rows


class Protocol(msgspec.Struct, frozen=True):
    """`name` and `held_out` are for the reader. `folds`: of predicted prompts, -1 elsewhere; a threshold for one fold
    is set on the others."""

    name: str
    held_out: str
    splits: tuple[Split, ...]
    folds: npt.NDArray[np.int64]

    @property
    def tested(self) -> Rows:
        return self.folds >= 0


def grouped(corpus: Corpus, folds: int, seed: int) -> Protocol:
    """Every prompt is predicted once, by a fit that has not seen its question."""
    found = by_group(corpus.prompts, folds, seed)
    if len(np.unique(found)) < folds:
        questions = len({prompt.group for prompt in corpus.prompts})
        raise ConfigError(f"--folds: {folds} folds need more questions than {questions}")
    said = f"each prompt's question, in every table and wording: {folds} folds"
    return Protocol("grouped folds", said, _splits(corpus, found), found)


def tasks_out(corpus: Corpus, folds: int, seed: int) -> Protocol:
    """Every prompt is predicted by a fit that has seen neither its question nor any prompt of its task."""
    tasks = len(set(corpus.tasks.tolist()))
    if tasks < 2:
        raise ConfigError("--leave-tasks-out: expected prompts of at least two tasks (column `task`), got one")
    folds = min(folds, tasks)
    found = by_task(corpus.prompts, folds, seed)
    said = f"whole tasks, and their questions in every table: {tasks} tasks in {folds} folds"
    return Protocol("tasks left out", said, _splits(corpus, found), found)


def transfer(
    corpus: Corpus, names: Sequence[str], train_on: Sequence[str], test_on: Sequence[str], seed: int
) -> Protocol:
    """`TABLE` or `TABLE:TASK` each (`*` stands for anything); nothing to train on means all but what is tested."""
    test = np.logical_or.reduce([_named(corpus, names, spec, "--test-on") for spec in test_on])
    allowed = [_named(corpus, names, spec, "--train-on") for spec in train_on] or [np.ones(len(test), bool)]
    train = np.logical_or.reduce(allowed) & training_rows(corpus.prompts, test)
    if not train.any():
        raise ConfigError("--train-on: no prompt is left whose question is not tested")
    said = f"every question of {', '.join(test_on)}; trained on {', '.join(train_on) or 'all else'}"
    halves = np.where(test, by_group(corpus.prompts, 2, seed), -1)
    return Protocol("transfer", said, (Split(train, test),), halves)


def cut(corpus: Corpus, split: Split, labels: int, seed: int) -> Split:
    """The split with at most so many training prompts of each table, drawn by their questions' hashes: the first of a
    smaller cut are in every larger one."""
    order = np.lexsort((np.arange(len(corpus.prompts)), waits(corpus.prompts, seed)))
    kept = np.zeros(len(order), bool)
    for table in range(int(corpus.table.max()) + 1):
        kept[order[(split.train & (corpus.table == table))[order]][:labels]] = True
    return Split(kept, split.test)


def _splits(corpus: Corpus, folds: npt.NDArray[np.int64]) -> tuple[Split, ...]:
    each = [folds == fold for fold in range(int(folds.max()) + 1)]
    return tuple(Split(training_rows(corpus.prompts, test), test) for test in each if test.any())


def _named(corpus: Corpus, names: Sequence[str], spec: str, flag: str) -> Rows:
    """The prompts of `TABLE` or `TABLE:TASK`."""
    name, _, task = spec.partition(":")
    stems = [table.rpartition(".")[0] for table in names]
    found = [i for i, table in enumerate(names) if name in (table, stems[i])]
    if not found:
        raise ConfigError(f"{flag}: expected one of the tables {', '.join(stems)}; got {name!r}{hint(name, stems)}")
    rows = np.isin(corpus.table, found)
    if task:
        tasks = corpus.tasks
        rows &= np.array([fnmatchcase(one, task) for one in tasks.tolist()])
        if not rows.any():
            known = sorted(set(tasks[np.isin(corpus.table, found)].tolist()))
            raise ConfigError(f"{flag}: {name} has no prompt of task {task!r}{hint(task, known)}")
    return rows
