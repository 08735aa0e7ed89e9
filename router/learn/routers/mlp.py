"""Trains `mlp`: one hidden layer over the embedding, by Adam (Kingma and Ba, 2015), in NumPy."""

from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import FORMAT, Metadata
from router.errors import ConfigError
from router.heads import Artefact
from router.heads.methods.labelled import log_odds
from router.learn.data.corpus import Corpus, label_weights
from router.learn.fit.embedding import embedded
from router.learn.fit.export import records
from router.learn.fit.logistic import sigmoid
from router.learn.fit.recipe import Recipe
from router.learn.routers.base import NONE, Columns, OnStep, Options, Rows
from router.learn.routers.labelled import means
from router.learn.routers.options import options_of

BATCH = 256
ALIKE = 0.3  #: correlation of labels of one prompt; see `label_weights`
MOMENTS = (0.9, 0.999)

Floats = npt.NDArray[np.float32]
Weights = dict[str, Floats]


class MlpOptions(msgspec.Struct, frozen=True, kw_only=True):
    dimensions: int = 128  #: of the embedding; a multiple of 16, at most 256
    width: int = 128  #: of the hidden layer
    epochs: int = 25
    rate: float = 0.003  #: of learning; falls to 0 along a line
    decay: float = 0.02  #: of weights, decoupled (Loshchilov and Hutter, 2019)
    dropout: float = 0.4  #: share of hidden units left out at each step

    def check(self) -> None:
        if self.width < 1 or self.epochs < 1 or not self.rate > 0 or self.decay < 0 or not 0 <= self.dropout < 1:
            raise ConfigError(
                "--router mlp: expected width and epochs from 1, rate above 0, decay from 0, dropout from 0 to 1"
            )


class MlpTrainer:
    """See `Trainer`. The embedding is made once: no label is in it."""

    def __init__(self, corpus: Corpus, recipe: Recipe, options: Options = NONE) -> None:
        self._options = options_of(MlpOptions, "mlp", options)
        self._options.check()
        self._corpus, self._seed = corpus, recipe.seed
        self._made = embedded(corpus, recipe, self._options.dimensions)

    def steps(self) -> int:
        return self._options.epochs

    def fit(self, rows: Rows, columns: Columns, on_step: OnStep = lambda: None) -> Artefact:
        scores = self._corpus.scores[rows][:, columns]
        known = np.isfinite(scores).any(1)
        start = log_odds(means(self._corpus, rows, columns))
        found = train(self._made.points[rows][known], scores[known], start, self._options, self._seed, on_step)
        meta = Metadata(
            format=FORMAT, encoder=self._made.spec, models=records(self._corpus, columns), router="mlp",
        )  # fmt: skip
        return Artefact(meta=meta, arrays={"table": self._made.table, "vocab": self._made.vocab, **found})


def train(points: Floats, scores: Floats, start: Floats, options: MlpOptions, seed: int, on_step: OnStep) -> Weights:
    """Minimises the log loss of scores [prompts, models], NaN where unknown. `start`: the outputs' first biases."""
    draw = np.random.default_rng(seed)
    at = _first(points.shape[1], options.width, start, draw)
    first = {name: np.zeros_like(array) for name, array in at.items()}
    second = {name: np.zeros_like(array) for name, array in at.items()}
    weights, targets = label_weights(scores, ALIKE), np.nan_to_num(scores)
    steps = options.epochs * -(-len(points) // BATCH)
    step = 0
    for _ in range(options.epochs):
        for batch in _batches(len(points), draw):
            kept = (draw.random((len(batch), options.width)) >= options.dropout) / np.float32(1 - options.dropout)
            slopes = _slopes(at, points[batch], targets[batch], weights[batch], kept.astype(np.float32))
            step += 1
            rate = options.rate * (1 - (step - 1) / steps)
            for name, slope in slopes.items():
                first[name] += (1 - MOMENTS[0]) * (slope - first[name])
                second[name] += (1 - MOMENTS[1]) * (slope**2 - second[name])
                move = first[name] / (1 - MOMENTS[0] ** step)
                move /= np.sqrt(second[name] / (1 - MOMENTS[1] ** step)) + 1e-8
                decay = 0.0 if name.endswith("bias") else options.decay
                at[name] -= np.float32(rate) * (move + np.float32(decay) * at[name])
        on_step()
    return at


def _first(dimensions: int, width: int, start: Floats, draw: np.random.Generator) -> Weights:
    """He's initialisation (2015) inside; the outputs begin at the models' means."""
    inner = draw.standard_normal((dimensions, width)) * (2 / dimensions) ** 0.5
    return {
        "inner": inner.astype(np.float32),
        "inner.bias": np.zeros(width, np.float32),
        "outer": np.zeros((width, len(start)), np.float32),
        "outer.bias": start.copy(),
    }


def _batches(prompts: int, draw: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    order = draw.permutation(prompts)
    for first in range(0, prompts, BATCH):
        yield order[first : first + BATCH]


def _slopes(at: Weights, points: Floats, targets: Floats, weights: Floats, kept: Floats) -> Weights:
    """The gradient of the mean loss of a batch."""
    hidden = np.maximum(points @ at["inner"] + at["inner.bias"], 0) * kept
    error = weights * (sigmoid(hidden @ at["outer"] + at["outer.bias"]) - targets) / np.float32(len(points))
    back = (error @ at["outer"].T) * kept * (hidden > 0)
    return {
        "inner": points.T @ back,
        "inner.bias": back.sum(0),
        "outer": hidden.T @ error,
        "outer.bias": error.sum(0),
    }
