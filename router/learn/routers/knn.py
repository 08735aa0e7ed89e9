"""Trains `knn`: an index of the training prompts. See `router.heads.methods.knn` for the formula."""

from typing import Any

import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import FORMAT, Metadata
from router.heads import Artefact
from router.heads.methods.knn import KnnSettings, usearch
from router.learn.data.corpus import Corpus
from router.learn.fit.embedding import embedded
from router.learn.fit.export import records
from router.learn.fit.recipe import Recipe
from router.learn.routers.base import NONE, Columns, OnStep, Options, Rows
from router.learn.routers.labelled import groups, means
from router.learn.routers.options import options_of

CONNECTIVITY = 16  #: edges a prompt has in the graph
EXPANSION = 64  #: candidates that are looked at to find them

Floats = npt.NDArray[np.float32]


class KnnOptions(KnnSettings, frozen=True, kw_only=True):
    dimensions: int = 128  #: of the embedding; a multiple of 16, at most 256


class KnnTrainer:
    """See `Trainer`. The embedding is made once: no label is in it."""

    def __init__(self, corpus: Corpus, recipe: Recipe, options: Options = NONE) -> None:
        self._options = options_of(KnnOptions, "knn", options)
        self._options.check("--router knn: options")
        usearch()
        self._corpus = corpus
        self._made = embedded(corpus, recipe, self._options.dimensions)

    def steps(self) -> int:
        return 1

    def fit(self, rows: Rows, columns: Columns, on_step: OnStep = lambda: None) -> Artefact:
        arrays: dict[str, npt.NDArray[Any]] = {"table": self._made.table, "vocab": self._made.vocab}
        arrays["means"] = means(self._corpus, rows, columns)
        for number, labels in enumerate(groups(self._corpus, rows, columns)):
            arrays |= labels.arrays(f"{number}.")
            arrays[f"{number}.index"] = _index(self._made.points[labels.prompts])
        on_step()
        options = {name: getattr(self._options, name) for name in KnnSettings.__struct_fields__}
        meta = Metadata(
            format=FORMAT,
            encoder=self._made.spec,
            models=records(self._corpus, columns),
            router="knn",
            options=options,
        )
        return Artefact(meta=meta, arrays=arrays)


def _index(points: Floats) -> npt.NDArray[np.uint8]:
    """One thread, so that equal input gives an equal graph. Cosine is the inner product: points are of length 1."""
    index: Any = usearch().Index(
        ndim=points.shape[1], metric="ip", dtype="f16", connectivity=CONNECTIVITY, expansion_add=EXPANSION
    )
    index.add(np.arange(len(points)), points, threads=1)
    return np.frombuffer(bytes(index.save()), np.uint8)
