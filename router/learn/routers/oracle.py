"""Makes `oracle` from every label of the corpus, held-out ones included: the upper bound of routing."""

from typing import Any

import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import FORMAT, Metadata
from router.heads import Artefact
from router.heads.methods.labelled import UNKNOWN
from router.heads.methods.oracle import key_of
from router.learn.data.corpus import Corpus
from router.learn.fit.export import records
from router.learn.fit.recipe import Recipe
from router.learn.routers.base import NONE, Columns, OnStep, Options, Rows
from router.learn.routers.labelled import means
from router.learn.routers.options import NoOptions, options_of


class OracleTrainer:
    """See `Trainer`."""

    def __init__(self, corpus: Corpus, recipe: Recipe, options: Options = NONE) -> None:
        options_of(NoOptions, "oracle", options)
        self._corpus = corpus

    def steps(self) -> int:
        return 1

    def fit(self, rows: Rows, columns: Columns, on_step: OnStep = lambda: None) -> Artefact:
        keys = np.array([key_of(prompt.text) for prompt in self._corpus.prompts], np.uint64)
        unique, index = np.unique(keys, return_inverse=True)
        scores = np.full((len(unique), len(columns)), UNKNOWN, np.float32)
        np.maximum.at(scores, index, np.nan_to_num(self._corpus.scores[:, columns], nan=UNKNOWN))
        on_step()
        meta = Metadata(format=FORMAT, models=records(self._corpus, columns), router="oracle")
        arrays: dict[str, npt.NDArray[Any]] = {
            "keys": unique,
            "scores": scores,
            "means": means(self._corpus, rows, columns),
        }
        return Artefact(meta=meta, arrays=arrays)
