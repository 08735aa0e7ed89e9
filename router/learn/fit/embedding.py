"""Learns the projection of `knn`, `sw_ranking` and `mlp` from the texts of prompts, without labels.

Latent semantic analysis (Deerwester et al., 1990) of WordPieces and word n-grams with inverse document frequencies,
beside a static table distilled from a sentence encoder. Both are linear in the native encoder's bag: one table.
"""

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import sparse

from router.errors import ConfigError
from router.heads.methods.embedding import WIDEST, Embedding
from router.learn.data.corpus import Corpus
from router.learn.fit.design import bags
from router.learn.fit.recipe import Recipe
from router.learn.fit.static_table import UNKNOWN, static_table, vocabulary
from router.learn.fit.topics import lsa
from router.native.scorer import Encoder
from router.native.spec import EncoderSpec
from router.native.vocab import build_vocab

Floats = npt.NDArray[np.float32]
SHARE = 0.5  #: of the columns that are the static table's, where the recipe has one
MOST_WORD_ROWS = 32768  #: of hashed n-grams: a row costs 2 bytes a column in the file
POOLING_CAP = 1e9  #: pieces are pooled as n-grams are: sum / sqrt(n)


class Embedded(msgspec.Struct, frozen=True):
    """`table` [spec.rows, d] and `vocab` go into the artefact; `points` [prompts, d], of length 1, are the corpus's."""

    spec: EncoderSpec
    vocab: npt.NDArray[np.uint64]
    table: npt.NDArray[np.float16]
    points: Floats


def embedded(corpus: Corpus, recipe: Recipe, dimensions: int) -> Embedded:
    """Of all prompts' texts, without labels. Raises ConfigError unless `dimensions` is a multiple of 16 up to 256."""
    if dimensions % 16 or not 0 < dimensions <= WIDEST:
        raise ConfigError(f"dimensions: expected a multiple of 16 up to {WIDEST}, got {dimensions}")
    tokens = vocabulary()
    vocab, longest = build_vocab(tokens)
    spec = EncoderSpec(
        pieces=len(tokens),
        unk=tokens.index(UNKNOWN),
        max_piece=longest,
        word_rows=min(recipe.word_rows, MOST_WORD_ROWS),
        word_orders=recipe.word_orders,
        shape_rows=0,
        piece_cap=POOLING_CAP,
        seed=recipe.seed,
    )
    encoder = Encoder(spec, vocab)
    texts = [prompt.text for prompt in corpus.prompts]
    table = projection(bags(encoder, texts), spec, dimensions, static=bool(recipe.static))
    points = Embedding(encoder, table)([((text, 1.0),) for text in texts])
    return Embedded(spec, vocab, table, points)


def projection(
    matrix: sparse.csr_matrix, spec: EncoderSpec, dimensions: int, *, static: bool
) -> npt.NDArray[np.float16]:
    """A table [rows, dimensions] for bags [prompts, rows]; each of its parts makes prompts of mean square length 1."""
    fixed = int(dimensions * SHARE) if static else 0
    found = lsa(matrix, dimensions - fixed)
    parts = [_scaled(matrix, found)]
    if fixed:
        pieces = np.zeros((spec.rows, fixed), np.float32)
        pieces[: spec.pieces] = static_table(fixed)
        parts.append(_scaled(matrix, pieces))
    return np.concatenate(parts, axis=1).astype(np.float16)


def _scaled(matrix: sparse.csr_matrix, table: Floats) -> Floats:
    spread = float(np.sqrt(((matrix @ table) ** 2).sum(1).mean()))
    return np.asarray(table / max(spread, 1e-6), np.float32)
