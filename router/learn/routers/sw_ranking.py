"""Trains `sw_ranking`: keeps the training prompts and their scores. See `router.heads.methods.sw_ranking` for the
formula."""

from typing import Any

import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import FORMAT, Metadata
from router.heads import Artefact
from router.heads.methods.sw_ranking import SwRankingSettings
from router.learn.data.corpus import Corpus
from router.learn.fit.embedding import embedded
from router.learn.fit.export import records
from router.learn.fit.recipe import Recipe
from router.learn.routers.base import NONE, Columns, OnStep, Options, Rows
from router.learn.routers.labelled import groups, means
from router.learn.routers.options import options_of


class SwRankingOptions(SwRankingSettings, frozen=True, kw_only=True):
    dimensions: int = 128  #: of the embedding; a multiple of 16, at most 256


class SwRankingTrainer:
    """See `Trainer`. The embedding is made once: no label is in it."""

    def __init__(self, corpus: Corpus, recipe: Recipe, options: Options = NONE) -> None:
        self._options = options_of(SwRankingOptions, "sw_ranking", options)
        self._options.check("--router sw_ranking: options")
        self._corpus = corpus
        self._made = embedded(corpus, recipe, self._options.dimensions)

    def steps(self) -> int:
        return 1

    def fit(self, rows: Rows, columns: Columns, on_step: OnStep = lambda: None) -> Artefact:
        arrays: dict[str, npt.NDArray[Any]] = {"table": self._made.table, "vocab": self._made.vocab}
        arrays["means"] = means(self._corpus, rows, columns)
        for number, labels in enumerate(groups(self._corpus, rows, columns)):
            arrays |= labels.arrays(f"{number}.")
            arrays[f"{number}.points"] = self._made.points[labels.prompts].astype(np.float16)
        on_step()
        meta = Metadata(
            format=FORMAT,
            encoder=self._made.spec,
            models=records(self._corpus, columns),
            router="sw_ranking",
            options={"base": self._options.base},
        )
        return Artefact(meta=meta, arrays=arrays)
