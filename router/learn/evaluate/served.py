"""Predictions by the same head that would be served; all held-out figures are made of them. Knows no method."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from router import heads
from router.errors import ConfigError
from router.heads import Artefact, Claim
from router.learn.data.corpus import Corpus
from router.learn.data.folds import training_rows
from router.learn.routers.base import Columns, Rows, Trainer

SURE = 1e-7  #: qualities are kept this far from 0 and 1, so that their log odds are finite
Floats = npt.NDArray[np.float32]
OnStep = Callable[[], None]


def head_of(artefact: Artefact) -> heads.Head:
    """The head of a pool that has each of the artefact's models once."""
    return heads.make(artefact, [Claim(name=model.name, like=model.name) for model in artefact.meta.models])


def predict(artefact: Artefact, texts: Sequence[str]) -> Floats:
    """Log odds [texts, models]."""
    quality = np.clip(np.asarray(head_of(artefact).score_many(texts), np.float64), SURE, 1 - SURE)
    return np.asarray(np.log(quality / (1 - quality)), np.float32)


def fitted(trainer: Trainer, rows: Rows, columns: Columns, on_step: OnStep = lambda: None) -> Artefact:
    """What the trainer makes of them. Raises ConfigError where that speaks of other models than it was asked for."""
    made = trainer.fit(rows, columns, on_step)
    if not isinstance(made, Artefact):
        raise ConfigError(f"{type(trainer).__name__}.fit: expected an Artefact, got {type(made).__name__}")
    if len(made.meta.models) != len(columns):
        raise ConfigError(f"{made.meta.router}: expected {len(columns)} models, got {len(made.meta.models)}")
    return made


def held_out(trainer: Trainer, corpus: Corpus, folds: npt.NDArray[np.int64], on_step: OnStep = lambda: None) -> Floats:
    """Log odds [prompts, columns], uncalibrated, of fits that have not seen the question. Fold -1 is never held out.
    NaN there, and in columns that a fold's training prompts hold no label of."""
    out: Floats = np.full(corpus.scores.shape, np.nan, np.float32)
    for fold in range(folds.max() + 1):
        test = np.flatnonzero(folds == fold)
        rows = training_rows(corpus.prompts, folds == fold)
        columns = np.flatnonzero(np.isfinite(corpus.scores[rows]).any(axis=0))
        artefact = fitted(trainer, rows, columns, on_step)
        out[np.ix_(test, columns)] = predict(artefact, [corpus.prompts[i].text for i in test])
    return out
