"""The part of a corpus that neighbour methods keep: prompts and scores, a group per table
(`router.heads.methods.labelled`)."""

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from router.heads.methods.labelled import UNKNOWN
from router.learn.data.corpus import Corpus
from router.learn.routers.base import Columns, Rows

Floats = npt.NDArray[np.float32]
PRIOR = 2.0  #: labels' worth of one half in a model's mean


class Labels(msgspec.Struct, frozen=True):
    """One table's: `prompts` of the corpus that have a label, `models` of the asked for, `scores` [prompts, models]."""

    prompts: npt.NDArray[np.int64]
    models: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float16]

    def arrays(self, prefix: str) -> dict[str, npt.NDArray[Any]]:
        return {f"{prefix}models": self.models, f"{prefix}scores": self.scores}


def groups(corpus: Corpus, rows: Rows, columns: Columns) -> Iterator[Labels]:
    tables = np.array([corpus.columns[column].table for column in columns])
    for table in np.unique(tables):
        models = np.flatnonzero(tables == table)
        scores = corpus.scores[:, columns[models]]
        prompts = np.flatnonzero(rows & np.isfinite(scores).any(1))
        if len(prompts):
            stored = np.nan_to_num(scores[prompts], nan=UNKNOWN).astype(np.float16)
            yield Labels(prompts, models.astype(np.int32), stored)


def means(corpus: Corpus, rows: Rows, columns: Columns) -> Floats:
    """Each column's mean score over the rows that it answered; one half without any."""
    scores = corpus.scores[rows][:, columns]
    known = np.isfinite(scores)
    total = np.where(known, scores, 0).sum(0, dtype=np.float64) + PRIOR / 2
    return np.asarray(total / (known.sum(0) + PRIOR), np.float32)
