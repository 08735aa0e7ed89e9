"""The matrix-factorisation head as one of the methods; its fit is in `router.learn.fit.mf`."""

import numpy as np
import numpy.typing as npt

from router.heads import Artefact
from router.learn.data.corpus import Corpus
from router.learn.fit import mf
from router.learn.fit.export import artefact, head
from router.learn.fit.held_out import held_out
from router.learn.fit.lengths import HeldLength, with_lengths
from router.learn.fit.logistic import NEWTONS
from router.learn.fit.recipe import Recipe
from router.learn.routers.base import NONE, Columns, OnStep, Options, Rows
from router.learn.routers.options import NoOptions, options_of


class MfTrainer:
    """See `Trainer`. All its settings are in the recipe."""

    def __init__(self, corpus: Corpus, recipe: Recipe, options: Options = NONE) -> None:
        options_of(NoOptions, "mf", options)
        self._corpus, self._recipe = corpus, recipe
        self._made = mf.features(corpus, recipe)

    @property
    def features(self) -> mf.Features:
        """What it computed without labels."""
        return self._made

    def steps(self) -> int:
        tables = range(int(self._corpus.table.max()) + 1)
        taught = sum(mf.is_taught(self._corpus, table, self._recipe) for table in tables)
        fits = len(tables) * (NEWTONS + bool(self._recipe.task_ridge)) + taught * (NEWTONS + 1)
        return self._recipe.steps * fits

    def fit(self, rows: Rows, columns: Columns, on_step: OnStep = lambda: None) -> Artefact:
        parts = mf.train(self._corpus, self._made, rows, self._recipe, on_step)
        trained = head(self._made, parts, columns, self._recipe.columns)
        return artefact(self._corpus, columns, self._made, trained)

    def held_out(self, folds: npt.NDArray[np.int64], on_step: OnStep = lambda: None) -> npt.NDArray[np.float32]:
        return held_out(self._corpus, self._made, folds, self._recipe, on_step)

    def with_lengths(
        self, made: Artefact, logs: npt.NDArray[np.float32], folds: npt.NDArray[np.int64], on_step: OnStep
    ) -> tuple[Artefact, tuple[HeldLength, ...]]:
        return with_lengths(made, self._corpus, logs, self._made, folds, self._recipe, on_step)
