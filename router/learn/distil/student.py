"""A vector a WordPiece, so that the weighted mean of a text's vectors is near the encoder's vector of the text.

Starts as Model2Vec does (Tulkens and van Dongen, 2024): each piece through the encoder, weighed by a / (a + frequency)
(SIF: Arora et al., 2017). Then fitted: of all vectors that give the taught texts their places, those nearest to the
start (ridge regression in its dual form). Last: the main directions, and bytes.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from router.errors import ConfigError
from router.learn.distil.prompts import HELD_OUT
from router.learn.fit.static_table import UNKNOWN
from router.native import twin
from router.native.scorer import Encoder
from router.native.spec import EncoderSpec
from router.native.vocab import build_vocab

Floats = npt.NDArray[np.float32]
RARE = 1e-3  #: a of the weights
HEADER_BYTES = 4096  #: of a file, at most: what describes it
SCALE_BYTES = 4
RIDGES = (0.1, 0.3, 1.0, 3.0)  #: tried on a tenth of the taught texts


class Pieces(msgspec.Struct, frozen=True):
    """The WordPieces that a text can have. `ids` [pieces] are theirs in the encoder's vocabulary."""

    spec: EncoderSpec
    vocab: npt.NDArray[np.uint64]
    ids: npt.NDArray[np.int64]
    unknown: int

    @property
    def encoder(self) -> Encoder:
        return Encoder(self.spec, self.vocab)


def reachable(tokens: list[str]) -> Pieces:
    """Without entries that no text is ever split into: `[unused7]`, `##` before a sign that is a word by itself."""
    return _pieces(tokens, np.array([i for i, token in enumerate(tokens) if token == UNKNOWN or _met(token)]))


def most_used(
    tokens: list[str], pieces: Pieces, counts: npt.NDArray[np.float64], columns: int, most_bytes: int
) -> tuple[Pieces, npt.NDArray[np.int64]]:
    """Of `pieces`, of `tokens`, those that a file of `most_bytes` has room for, and their rows in what was fitted to
    `pieces`. `counts` [pieces]: how often each stands in texts; the least used go, of equal ones the last of the
    encoder's vocabulary. `[UNK]` and the single signs stay, so a word of a piece that went is split into shorter ones.
    Raises `ConfigError` where these alone are too many."""
    room = (most_bytes - HEADER_BYTES - pieces.vocab.nbytes) // (columns + SCALE_BYTES)
    if room >= len(pieces.ids):
        return pieces, np.arange(len(pieces.ids))
    stays = np.array([tokens[i] == UNKNOWN or len(tokens[i].removeprefix("##")) == 1 for i in pieces.ids])
    if room < stays.sum():
        least = int(stays.sum()) * (columns + SCALE_BYTES) + HEADER_BYTES + pieces.vocab.nbytes
        raise ConfigError(f"--bytes: expected at least {least:,}, for the single signs, got {most_bytes:,}")
    order = np.lexsort((pieces.ids, -counts, ~stays))
    rows = np.sort(order[:room])
    return _pieces(tokens, pieces.ids[rows]), rows


def _pieces(tokens: list[str], ids: npt.NDArray[np.int64]) -> Pieces:
    kept = [tokens[i] for i in ids]
    vocab, longest = build_vocab(kept)
    unknown = kept.index(UNKNOWN)
    spec = EncoderSpec(pieces=len(kept), unk=unknown, max_piece=longest, word_rows=0, shape_rows=0)
    return Pieces(spec, vocab, ids, unknown)


def _met(token: str) -> bool:
    if token.startswith("##") and len(token) > 2:
        return twin.words("a" + token[2:]) == ["a" + token[2:]]
    return twin.words(token) == [token]


class Fitted(msgspec.Struct, frozen=True):
    """`vectors` [pieces, columns], weights multiplied in; `cosine`: to the encoder, on texts not fitted to, at the
    start and after."""

    vectors: Floats
    ridge: float
    start: float
    cosine: float


def pooled(pieces: Pieces, texts: Sequence[str]) -> sparse.csr_matrix:
    """[texts, pieces]: how many distinct words of the text have the piece; none has the unknown one."""
    indptr, rows, _, _ = pieces.encoder.featurise(texts)
    known = (rows != pieces.unknown).astype(np.float32)
    matrix = sparse.csr_matrix((known, rows, indptr), shape=(len(texts), pieces.spec.pieces))
    matrix.sum_duplicates()
    return matrix


def start(embedded: Floats, counts: npt.NDArray[np.float64], unknown: int) -> Floats:
    """[pieces, 384] from the encoder's vector of each piece, and how often each stands in texts."""
    share = (counts + 0.5) / counts.sum()
    weighed = (embedded - embedded.mean(0)) * (RARE / (RARE + share))[:, None]
    weighed[unknown] = 0
    return np.asarray(weighed, np.float32)


def fit(bag: sparse.csr_matrix, taught: Floats, begun: Floats) -> Fitted:
    """`bag` [texts, pieces] of the texts whose places `taught` [texts, 384] are known. The ridge is chosen on the last
    tenth, then all are fitted to."""
    last = len(taught) * (256 - HELD_OUT) // 256
    tried = {ridge: _fitted(bag[:last], taught[:last], begun, ridge) for ridge in RIDGES}
    scores = {ridge: _cosine(bag[last:] @ vectors, taught[last:]) for ridge, vectors in tried.items()}
    best = max(scores, key=scores.__getitem__)
    return Fitted(
        vectors=_fitted(bag, taught, begun, best),
        ridge=best,
        start=_cosine(bag[last:] @ begun, taught[last:]),
        cosine=scores[best],
    )


def _fitted(bag: sparse.csr_matrix, taught: Floats, begun: Floats, ridge: float) -> Floats:
    """begun + A' (A A' + ridge)^-1 (taught - A begun), where A is the bag, scaled so that A begun has lengths of 1."""
    lengths = np.linalg.norm(bag @ begun, axis=1)
    scaled = (sparse.diags_array(1 / np.maximum(lengths, 1e-6)) @ bag).tocsr().astype(np.float32)
    scale = float(1 / np.abs(scaled).power(2).sum(1).mean())
    gram = (scaled @ scaled.T).toarray().astype(np.float64) * scale
    gram[np.diag_indices_from(gram)] += ridge
    missing = taught - scaled @ begun
    return np.asarray(begun + scale * (scaled.T @ linalg.solve(gram, missing, assume_a="pos")), np.float32)


def _cosine(found: Floats, taught: Floats) -> float:
    lengths = np.maximum(np.linalg.norm(found, axis=1), 1e-9)
    return float(((found * taught).sum(1) / lengths).mean())


def reduced(vectors: Floats, bag: sparse.csr_matrix, columns: int) -> Floats:
    """[pieces, columns]: the main directions of the texts' unit vectors, not centred, so that cosines are kept."""
    found = bag @ vectors
    found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)
    _, axes = np.linalg.eigh((found.T @ found).astype(np.float64))
    axes = axes[:, ::-1][:, :columns]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    return np.asarray(vectors @ axes.astype(np.float32), np.float32)


def as_bytes(vectors: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """`rows` int8 and `scales` float32, rows * scales nearest to `vectors`; a row of zeros has scale 0."""
    scales = np.abs(vectors).max(1) / 127
    rows = np.rint(vectors / np.where(scales > 0, scales, 1)[:, None]).astype(np.int8)
    return rows, scales.astype(np.float32)
