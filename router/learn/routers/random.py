"""Makes `random`, which keeps only the models' mean scores: the lower baseline."""

import msgspec

from router.artefacts.artefact import FORMAT, Metadata
from router.heads import Artefact
from router.heads.methods.labelled import log_odds
from router.learn.data.corpus import Corpus
from router.learn.fit.export import records
from router.learn.fit.recipe import Recipe
from router.learn.routers.base import NONE, Columns, OnStep, Options, Rows
from router.learn.routers.labelled import means
from router.learn.routers.options import options_of


class RandomOptions(msgspec.Struct, frozen=True, kw_only=True):
    seed: int = 0


class RandomTrainer:
    """See `Trainer`."""

    def __init__(self, corpus: Corpus, recipe: Recipe, options: Options = NONE) -> None:
        self._options = options_of(RandomOptions, "random", options)
        self._corpus = corpus

    def steps(self) -> int:
        return 1

    def fit(self, rows: Rows, columns: Columns, on_step: OnStep = lambda: None) -> Artefact:
        on_step()
        meta = Metadata(
            format=FORMAT,
            models=records(self._corpus, columns),
            router="random",
            options={"seed": self._options.seed},
        )
        return Artefact(meta=meta, arrays={"bias": log_odds(means(self._corpus, rows, columns))})
