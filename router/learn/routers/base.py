"""The protocol of a routing method in training and evaluation. Knows no method."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from router.heads import Artefact
from router.learn.data.corpus import Corpus
from router.learn.fit.recipe import Recipe

if TYPE_CHECKING:
    from router.learn.fit.lengths import HeldLength

#: A method's own settings, by name: plain JSON. `router.learn.routers.options` makes a Struct of them.
Options = Mapping[str, Any]
NONE: Options = MappingProxyType({})

OnStep = Callable[[], None]
Rows = npt.NDArray[np.bool_]
Columns = npt.NDArray[np.int64]


class Trainer(Protocol):
    """One method on one corpus. Made once, when it may compute what needs no label; then fitted on many folds."""

    def steps(self) -> int:
        """How often `fit` calls `on_step`."""
        ...

    def fit(self, rows: Rows, columns: Columns, on_step: OnStep = lambda: None) -> Artefact:
        """Trains on the chosen prompts' labels. The artefact's i-th model is the corpus's column `columns[i]`."""
        ...


@runtime_checkable
class SelfHeldOut(Protocol):
    """A trainer that says held-out log odds faster than its head would, and the same but for rounding."""

    def held_out(self, folds: npt.NDArray[np.int64], on_step: OnStep = lambda: None) -> npt.NDArray[np.float32]:
        """[prompts, columns]; see `router.learn.evaluate.served.held_out`."""
        ...


@runtime_checkable
class TellsLengths(Protocol):
    """A trainer whose artefact can tell how long answers will be."""

    def with_lengths(
        self, made: Artefact, logs: npt.NDArray[np.float32], folds: npt.NDArray[np.int64], on_step: OnStep
    ) -> "tuple[Artefact, tuple[HeldLength, ...]]":
        """See `router.learn.fit.lengths.with_lengths`."""
        ...


#: What makes a trainer of a corpus: a method's class, or a plug-in's function.
Maker = Callable[[Corpus, Recipe, Options], Trainer]
