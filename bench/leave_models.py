"""Measures how well strength alone places a model without labels: leaves reference models out, interpolates, compares.

Works on fitted vectors; reads no checkpoint.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from router.heads.placement import interpolate
from router.learn.data.corpus import Corpus, strengths
from router.learn.data.folds import training_rows
from router.learn.evaluate.evaluation import Pair, apgr_of, pair
from router.learn.fit import mf
from router.learn.fit.logistic import sigmoid
from router.learn.fit.recipe import Recipe

Floats = npt.NDArray[np.float32]


class Placed(msgspec.Struct, frozen=True):
    """One pair whose two models no fit has seen."""

    weak: str
    strong: str
    apgr: float
    trained_apgr: float  #: the same pair with its labels in training, other prompts held out


def held_out_models(
    corpus: Corpus,
    made: mf.Features,
    folds: npt.NDArray[np.int64],
    recipe: Recipe,
    table: int,
    pairs: Sequence[tuple[str, str]],
    trained: Floats,
) -> list[Placed]:
    """Every pair's models are left out together with those of half of the other pairs, prompts by `folds` besides.
    `trained`: held-out logits [prompts, columns] of fits that had all models."""
    chosen = [pair(corpus, weak, strong, table) for weak, strong in pairs]
    out = np.full(corpus.scores.shape, np.nan, np.float32)
    for half in (chosen[::2], chosen[1::2]):
        gone = sorted({column for at in half for column in (at.weak, at.strong)})
        _place(corpus, made, folds, recipe, table, gone, out)
    return [
        Placed(*names, _apgr(corpus, at, out), _apgr(corpus, at, trained))
        for names, at in zip(pairs, chosen, strict=True)
    ]


def _place(
    corpus: Corpus,
    made: mf.Features,
    folds: npt.NDArray[np.int64],
    recipe: Recipe,
    table: int,
    gone: Sequence[int],
    out: Floats,
) -> None:
    """Fills the columns `gone` of `out`: logits of fits that saw neither them nor the prompts' questions."""
    kept = [i for i in range(len(corpus.columns)) if i not in gone]
    less = Corpus(corpus.prompts, tuple(corpus.columns[i] for i in kept), corpus.scores[:, kept], corpus.table)
    strength = strengths(corpus, np.ones(len(corpus.prompts), bool))
    for fold in range(folds.max() + 1):
        test = (folds == fold) & (corpus.table == table)
        parts = mf.train(less, made, training_rows(corpus.prompts, test), recipe, only=table)
        x = made.design.matrix(parts[0].rows).rows(test)
        rows = np.column_stack([parts[0].weights.ties, parts[0].weights.bias])
        known = [strength[kept[column]] for column in parts[0].columns]
        hidden = x.dot(parts[0].weights.hidden)
        for column in gone:
            vector = interpolate(rows, known, float(strength[column]))
            out[test, column] = hidden @ vector[:-1] + vector[-1]


def _apgr(corpus: Corpus, at: Pair, logits: Floats) -> float:
    gain = sigmoid(logits[at.rows, at.strong]) - sigmoid(logits[at.rows, at.weak])
    return apgr_of(corpus, at, gain)
