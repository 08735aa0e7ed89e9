"""Queries to unit vectors: the native encoder's bag of tokens times a folded table. For `knn`, `sw_ranking` and `mlp`.

Knows no models. The table is linear in the bag, as the native head's is, so the native scorer computes the product.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import Artefact
from router.errors import ConfigError
from router.heads.checkpoint import check_vocab
from router.native.scorer import Encoder, Scorer
from router.types import Segment

LEAST = np.float32(1e-6)  #: norms below are those of a text without a known word: it stays at zero
WIDEST = 256  #: columns that the native scorer takes

Floats = npt.NDArray[np.float32]


class Embedding:
    """`e(x) = W f(x) / |W f(x)|` of the conversation's weighted mean `f`. Immutable and safe from many threads."""

    def __init__(self, encoder: Encoder, table: npt.NDArray[np.float16]) -> None:
        """`table` [encoder.spec.rows, d], d a multiple of 16, at most 256."""
        self.dimensions = table.shape[1]
        nothing = np.zeros((1, self.dimensions), np.float32)
        self._scorer = Scorer(encoder, table, nothing, nothing[0, :1].copy())

    def __call__(self, queries: Sequence[Sequence[Segment]]) -> Floats:
        """[queries, d], of length 1, or 0 where nothing is known of a query's words."""
        out = np.empty((len(queries), self.dimensions), np.float32)
        for row, segments in zip(out, queries, strict=True):
            row[:] = self._scorer.hidden(segments)
        length = np.maximum(np.sqrt(np.einsum("ij,ij->i", out, out)), LEAST)
        return np.asarray(out / length[:, None], np.float32)

    def tokens(self, segments: Sequence[Segment]) -> int:
        """WordPieces of all texts."""
        return self._scorer.score(segments)[1]


def of(artefact: Artefact) -> Embedding:
    """The embedding that an artefact's `table` and `vocab` make. Raises ConfigError."""
    path, encoder = artefact.path, artefact.meta.encoder
    if encoder is None:
        raise ConfigError(f"{path}: encoder: expected the features' spec, got none")
    table = artefact.array("table", np.float16, (encoder.rows, None))
    if table.shape[1] % 16 or not 0 < table.shape[1] <= WIDEST:
        raise ConfigError(f"{path}: table: expected a multiple of 16 columns up to {WIDEST}, got {table.shape[1]}")
    vocab = artefact.array("vocab", np.uint64, (None,))
    check_vocab(path, encoder, vocab)
    return Embedding(Encoder(encoder, vocab), table)
