"""A small network over the embedding: a hidden layer, an output per model. NumPy serves it; training is elsewhere."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import Artefact
from router.heads.methods import embedding
from router.types import Segment

Floats = npt.NDArray[np.float32]


class MlpPredictor:
    """`logits = relu(e W1 + b1) W2 + b2`. Immutable and safe from many threads."""

    def __init__(self, artefact: Artefact) -> None:
        """Raises ConfigError where the file does not fit."""
        self._embedding = embedding.of(artefact)
        self._inner = artefact.array("inner", np.float32, (self._embedding.dimensions, None))
        width = self._inner.shape[1]
        self._inner_bias = artefact.array("inner.bias", np.float32, (width,))
        self._outer = artefact.array("outer", np.float32, (width, len(artefact.meta.models)))
        self._outer_bias = artefact.array("outer.bias", np.float32, (len(artefact.meta.models),))

    def logits(self, queries: Sequence[Sequence[Segment]]) -> Floats:
        hidden = np.maximum(self._embedding(queries) @ self._inner + self._inner_bias, 0)
        return np.asarray(hidden @ self._outer + self._outer_bias, np.float32)

    def tokens(self, segments: Sequence[Segment]) -> int:
        return self._embedding.tokens(segments)
