"""Trains `ensemble`: its parts, each by its own method, and the parts' weights.

Weights that are not given are fitted on held-out predictions of inner folds (stacking; Wolpert, 1992), with a bound of
at least zero (Breiman, 1996), so that a part that only memorises its labels gets no weight.
"""

from collections.abc import Callable
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import FORMAT, Metadata
from router.errors import ConfigError
from router.heads import Artefact
from router.heads.methods.ensemble import packed
from router.learn.data.corpus import Corpus
from router.learn.data.folds import by_group
from router.learn.evaluate.served import fitted, predict
from router.learn.fit.export import records
from router.learn.fit.recipe import Recipe
from router.learn.routers.base import NONE, Columns, OnStep, Options, Rows, Trainer
from router.learn.routers.options import options_of, plain

STEPS = 200  #: of the weights' fit
NEVER = ("ensemble", "oracle")

Floats = npt.NDArray[np.float32]
MakePart = Callable[[str, Corpus, Recipe, Options], Trainer]


class EnsembleOptions(msgspec.Struct, frozen=True, kw_only=True):
    parts: tuple[str, ...] = ("mf", "knn", "mlp")
    weights: tuple[float, ...] | Literal["equal", "fit"] = "equal"  #: a number per part, or how to find them
    folds: int = 3  #: inner ones, for `fit`
    options: dict[str, dict[str, Any]] = {}  #: of a part, by its name


class EnsembleTrainer:
    """See `Trainer`. `make` makes a part's trainer by its method's name."""

    def __init__(self, corpus: Corpus, recipe: Recipe, options: Options, make: MakePart) -> None:
        self._options = options_of(EnsembleOptions, "ensemble", options)
        _check(self._options)
        self._corpus, self._seed = corpus, recipe.seed
        of = self._options.options
        self._parts: list[Trainer] = [make(name, corpus, recipe, of.get(name, NONE)) for name in self._options.parts]

    def steps(self) -> int:
        fits = 1 + (self._options.folds if self._options.weights == "fit" else 0)
        return fits * sum(part.steps() for part in self._parts)

    def fit(self, rows: Rows, columns: Columns, on_step: OnStep = lambda: None) -> Artefact:
        weights = self._weights(rows, columns, on_step)
        parts = [fitted(part, rows, columns, on_step) for part in self._parts]
        meta = Metadata(
            format=FORMAT,
            models=records(self._corpus, columns),
            router="ensemble",
            options={
                "parts": [plain(part.meta) for part in parts],
                "weights": [round(weight, 6) for weight in weights],
            },
        )
        return Artefact(meta=meta, arrays=packed(parts))

    def _weights(self, rows: Rows, columns: Columns, on_step: OnStep) -> tuple[float, ...]:
        given, count = self._options.weights, len(self._parts)
        if given == "equal":
            return (1 / count,) * count
        if given != "fit":
            return given
        inner = by_group(self._corpus.prompts, self._options.folds, self._seed + 1)
        logits: list[Floats] = []
        scores: list[Floats] = []
        for fold in range(self._options.folds):
            test = np.flatnonzero(rows & (inner == fold))
            trained = [fitted(part, rows & (inner != fold), columns, on_step) for part in self._parts]
            texts = [self._corpus.prompts[i].text for i in test]
            logits.append(np.stack([predict(part, texts) for part in trained]))
            scores.append(self._corpus.scores[test][:, columns])
        return stacked(np.concatenate(logits, axis=1), np.concatenate(scores))


def stacked(logits: Floats, scores: Floats) -> tuple[float, ...]:
    """Weights of at least 0 of the parts' logits [parts, prompts, models] that predict scores best (log loss), by
    projected Newton steps on each weight in turn."""
    known = np.isfinite(scores)
    z, y = np.asarray(logits[:, known], np.float64), np.asarray(scores[known], np.float64)
    at = np.full(len(z), 1 / len(z))
    for _ in range(STEPS):
        before = at.copy()
        for part in range(len(z)):
            quality = 0.5 * (1 + np.tanh(0.5 * (at @ z)))
            slope = float(z[part] @ (quality - y))
            curved = float((z[part] ** 2) @ (quality * (1 - quality))) + 1e-9
            at[part] = max(0.0, at[part] - slope / curved)
        if np.abs(at - before).max() < 1e-5:
            break
    return tuple(at.tolist()) if at.sum() > 0 else (1 / len(z),) * len(z)


def _check(options: EnsembleOptions) -> None:
    where = "--router ensemble: option"
    if not options.parts or any(name in NEVER for name in options.parts):
        raise ConfigError(f"{where} parts: expected methods, neither {' nor '.join(NEVER)}; got {options.parts}")
    if len(set(options.parts)) < len(options.parts):
        raise ConfigError(f"{where} parts: expected each method once, got {', '.join(options.parts)}")
    unknown = sorted(options.options.keys() - set(options.parts))
    if unknown:
        raise ConfigError(f"{where} options: expected a part of {', '.join(options.parts)}; got {unknown[0]!r}")
    if options.folds < 2:
        raise ConfigError(f"{where} folds: expected at least 2, got {options.folds}")
    if isinstance(options.weights, tuple) and (
        len(options.weights) != len(options.parts) or min(options.weights) < 0 or not sum(options.weights)
    ):
        raise ConfigError(f"{where} weights: expected {len(options.parts)} of at least 0, some above 0")
