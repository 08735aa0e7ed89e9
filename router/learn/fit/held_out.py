"""Held-out predictions by fits that have not seen the question, through the same head that would be exported."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from router.learn.data.corpus import Corpus
from router.learn.data.folds import training_rows
from router.learn.fit import mf
from router.learn.fit.export import head
from router.learn.fit.recipe import Recipe

Floats = npt.NDArray[np.float32]


def held_out(
    corpus: Corpus,
    made: mf.Features,
    folds: npt.NDArray[np.int64],
    recipe: Recipe,
    on_step: Callable[[], None] = lambda: None,
    only: int | None = None,
) -> Floats:
    """Logits [prompts, columns], uncalibrated, cut to the recipe's K columns as a checkpoint is. Fold -1 is never held
    out. NaN there, and in the columns of other tables than `only`."""
    out: Floats = np.full(corpus.scores.shape, np.nan, np.float32)
    for fold in range(folds.max() + 1):
        test = np.flatnonzero(folds == fold)
        parts = mf.train(corpus, made, training_rows(corpus.prompts, folds == fold), recipe, on_step, only)
        columns = np.concatenate([part.columns for part in parts])
        cut = head(made, parts, columns, recipe.columns)
        out[np.ix_(test, columns)] = made.design.bags[test] @ cut.table @ cut.vectors.T + cut.bias
    return out
