"""Selects what is evaluated: the tested part of a corpus, and its pairs of models."""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from router.errors import ConfigError
from router.learn.data.corpus import Corpus
from router.learn.data.folds import waits
from router.learn.evaluate.evaluation import Pair, no_pair, pair, widest_pair
from router.learn.evaluate.nearest import hint

Rows = npt.NDArray[np.bool_]


class Duel(msgspec.Struct, frozen=True):
    """A pair and its table."""

    table: int
    at: Pair


def some(corpus: Corpus, prompts: int, seed: int) -> Rows:
    """At most so many prompts of each table, drawn by their questions' hashes."""
    order = np.lexsort((np.arange(len(corpus.prompts)), waits(corpus.prompts, seed)))
    kept = np.zeros(len(order), bool)
    for table in range(int(corpus.table.max()) + 1):
        kept[order[corpus.table[order] == table][:prompts]] = True
    return kept


def only(corpus: Corpus, rows: Rows) -> Corpus:
    """The corpus of some prompts."""
    prompts = tuple(prompt for prompt, kept in zip(corpus.prompts, rows, strict=True) if kept)
    return Corpus(prompts, corpus.columns, corpus.scores[rows], corpus.table[rows])


def measured(corpus: Corpus, rows: Rows, models: Sequence[str]) -> Corpus:
    """The same corpus with the labels that are measured alone: of some prompts and, where any are named, some models.
    Raises ConfigError for a model that no table has."""
    for name in models:
        if name not in corpus.models:
            known = corpus.models
            raise ConfigError(f"--models: expected some of {', '.join(known)}; got {name!r}{hint(name, known)}")
    columns = np.array([not models or column.model in models for column in corpus.columns])
    scores = np.where(rows[:, None] & columns, corpus.scores, np.nan).astype(np.float32)
    return Corpus(corpus.prompts, corpus.columns, scores, corpus.table)


def duels(seen: Corpus, names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> tuple[Duel, ...]:
    """The pairs asked for, in each table of `measured` labels that has both models; else each table's widest,
    where it has one. Raises ConfigError where a pair cannot be routed between."""
    tables = [int(table) for table in np.unique(seen.table[np.isfinite(seen.scores).any(1)])]
    if pairs:
        return tuple(duel for weak, strong in pairs for duel in _asked(seen, tables, weak, strong))
    found = [Duel(table, at) for table in tables if (at := widest_pair(seen, table)) is not None]
    return tuple(found)


def unpaired(seen: Corpus, names: Sequence[str], duels: Sequence[Duel]) -> tuple[str, ...]:
    """The tables with labels that none of the widest pairs is of, and why."""
    tables = np.unique(seen.table[np.isfinite(seen.scores).any(1)]).tolist()
    measured = {duel.table for duel in duels}
    return tuple(f"{names[table]}: {no_pair(seen, table)}" for table in tables if table not in measured)


def _asked(seen: Corpus, tables: Sequence[int], weak: str, strong: str) -> list[Duel]:
    for name in (weak, strong):
        if name not in seen.models:
            raise ConfigError(
                f"--pair: expected two of {', '.join(seen.models)}; got {name!r}{hint(name, seen.models)}"
            )
    models = {table: {c.model for c in seen.columns if c.table == table} for table in tables}
    both = [table for table in tables if {weak, strong} <= models[table]]
    if not both:
        raise ConfigError(f"--pair: no tested table has both {weak} and {strong}")
    return [Duel(table, pair(seen, weak, strong, table)) for table in both]
