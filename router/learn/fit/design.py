"""Texts to the design matrix of training, and fitted weights back to rows of the folded table.

A design has sparse columns, one for each table row in use, and dense ones that are linear in table rows: the static
embedding of the pieces, the topics of latent semantic analysis, and a slope over each shape family's buckets. So all
fitted weights fold into one table.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import sparse

from router.learn.fit.recipe import Recipe
from router.learn.fit.topics import lsa
from router.native.scorer import Encoder
from router.native.spec import EncoderSpec

Floats = npt.NDArray[np.float32]
BUCKETS = 16


class Matrix(msgspec.Struct, frozen=True):
    """[prompts, features], the sparse columns before the dense ones."""

    sparse: sparse.csr_matrix
    dense: Floats

    @property
    def shape(self) -> tuple[int, int]:
        return self.sparse.shape[0], self.sparse.shape[1] + self.dense.shape[1]

    def dot(self, weights: Floats) -> Floats:
        """[prompts, n] of weights [features, n]."""
        n = self.sparse.shape[1]
        return np.asarray(self.sparse @ weights[:n] + self.dense @ weights[n:], np.float32)

    def rows(self, chosen: npt.NDArray[np.bool_]) -> "Matrix":
        return Matrix(self.sparse[chosen], self.dense[chosen])


class Design(msgspec.Struct, frozen=True):
    """`bags` [prompts, table rows] are the pooled rows; `dense` [table rows, d] makes the dense columns of them, which
    are kept, for every fit reads them."""

    spec: EncoderSpec
    bags: sparse.csr_matrix
    scale: Floats  #: [table rows]: how freely a row may move
    dense: Floats
    columns: Floats  #: [prompts, d]: `bags @ dense`

    def rows_in_use(self, train: npt.NDArray[np.bool_], min_prompts: int) -> npt.NDArray[np.int64]:
        """Table rows that may move and that stand in enough training prompts."""
        seen = np.bincount(self.bags[train].indices, minlength=self.bags.shape[1])
        return np.flatnonzero((seen >= min_prompts) & (self.scale > 0))

    def matrix(self, rows: npt.NDArray[np.int64]) -> Matrix:
        """The training matrix [prompts, len(rows) + d]."""
        own = (self.bags[:, rows] @ sparse.diags_array(self.scale[rows])).tocsr().astype(np.float32)
        return Matrix(own, self.columns)

    def fold(self, rows: npt.NDArray[np.int64], weights: Floats) -> Floats:
        """Weights [len(rows) + d, n] of `matrix(rows)` to a table [table rows, n]."""
        table = self.dense @ weights[len(rows) :]
        table[rows] += self.scale[rows, None] * weights[: len(rows)]
        return np.asarray(table, np.float32)


def bags(encoder: Encoder, texts: Sequence[str]) -> sparse.csr_matrix:
    """The pooled rows of each text: [texts, table rows]."""
    indptr, rows, weights, _ = encoder.featurise(texts)
    matrix = sparse.csr_matrix((weights, rows, indptr), shape=(len(texts), encoder.spec.rows))
    matrix.sum_duplicates()
    return matrix


def design(encoder: Encoder, texts: Sequence[str], recipe: Recipe, static: Floats) -> Design:
    """`static` [pieces, d]: the static table, or d = 0."""
    spec = encoder.spec
    matrix = bags(encoder, texts)
    pieces, words, chars, shape = spec.bases
    scale = np.zeros(spec.rows, np.float32)
    scale[pieces:words] = recipe.piece_scale
    scale[words:chars] = recipe.word_scale
    scale[chars:shape] = recipe.char_scale
    scale[shape:] = recipe.shape_scale
    scale[:shape] *= _rarity(matrix)[:shape] ** recipe.rarity
    spread_out = [_spread(matrix, _over_pieces(spec, static), recipe.static_scale)]
    if recipe.topics:
        spread_out.append(_spread(matrix, lsa(_of_words(matrix, spec), recipe.topics, level=True), recipe.topics_scale))
    dense = np.concatenate([*spread_out, _slopes(spec, recipe)], axis=1)
    return Design(spec, matrix, scale, dense, np.asarray(matrix @ dense, np.float32))


def _rarity(matrix: sparse.csr_matrix) -> Floats:
    """Of each row: the logarithm of how many prompts there are to one that has it; mean 1 over rows met twice or more.
    What stands everywhere tells little of how hard a prompt is, and its weight is mostly noise elsewhere."""
    met = np.bincount(matrix.indices, minlength=matrix.shape[1])
    rarity = np.log((1 + matrix.shape[0]) / (1 + np.maximum(met, 1)))
    often = met > 1
    return np.asarray(rarity / rarity[often].mean() if rarity[often].any() else np.ones(len(met)), np.float32)


def _over_pieces(spec: EncoderSpec, static: Floats) -> Floats:
    out = np.zeros((spec.rows, static.shape[1]), np.float32)
    if out.shape[1]:
        out[: spec.pieces] = static
    return out


def _of_words(matrix: sparse.csr_matrix, spec: EncoderSpec) -> sparse.csr_matrix:
    """The bags' n-grams alone: what a prompt is about is in its words."""
    _, words, _, shape = spec.bases
    kept = np.zeros(spec.rows, np.float32)
    kept[words:shape] = 1
    return (matrix @ sparse.diags_array(kept)).tocsr()


def _spread(matrix: sparse.csr_matrix, table: Floats, scale: float) -> Floats:
    """The table such that the prompts' columns have `scale` as their root mean square length."""
    if not table.shape[1]:
        return table
    spread = np.sqrt(((matrix @ table) ** 2).sum(1).mean())
    return np.asarray(table * (scale / max(spread, 1e-6)), np.float32)


def _slopes(spec: EncoderSpec, recipe: Recipe) -> Floats:
    """A family's column rises by a quarter of the scale a doubling of its count."""
    families = spec.shape_rows // BUCKETS if recipe.slope_scale else 0
    out = np.zeros((spec.rows, families), np.float32)
    for family in range(families):
        first = spec.bases[3] + BUCKETS * family
        out[first : first + BUCKETS, family] = recipe.slope_scale * (np.arange(BUCKETS) - 4) / 4
    return out
