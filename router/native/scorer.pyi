"""Text in, quality per model out: one native call that releases the GIL (docs/features.md)."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from router.native.large_body import TextTurns
from router.native.spec import EncoderSpec, TurnWeights
from router.types import Scores

UNICODE_VERSION: str
"""Of the tables that classify code points."""

def isas() -> tuple[str, ...]:
    """The instruction sets that this machine can run, best first: of `avx512`, `avx2`, `portable`."""

class Encoder:
    """A spec and a vocabulary table, never changed after: safe from many threads.

    A text is a `str`, lone surrogates and all, or `bytes` that should be UTF-8. Any text of any length is taken.
    """

    spec: EncoderSpec
    def __init__(self, spec: EncoderSpec, vocab: npt.NDArray[np.uint64]) -> None:
        """`vocab` is a table of `build_vocab`. Raises ConfigError or ValueError where they do not fit."""

    def pieces(self, text: str | bytes) -> list[int]:
        """WordPiece ids, without special tokens."""

    def featurise(
        self, texts: Iterable[str | bytes]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """A CSR matrix [texts, spec.rows] as `indptr`, `rows` (columns) and `weights` (the group's scale), and each
        text's number of WordPieces. A row may stand twice in one line: the sum counts."""

class Lengths(Protocol):
    """What tells expected output tokens: `exp(clip(bias + vectors @ hidden, least, most))`. -infinity for both bounds
    where nothing is known of a model."""

    @property
    def vectors(self) -> npt.NDArray[np.float32]: ...  #: [models, K]
    @property
    def bias(self) -> npt.NDArray[np.float32]: ...  #: [models], as all that follows
    @property
    def least(self) -> npt.NDArray[np.float32]: ...
    @property
    def most(self) -> npt.NDArray[np.float32]: ...
    @property
    def log_sd(self) -> npt.NDArray[np.float64]: ...  #: 0 where nothing is known

class Scorer:
    """An encoder, a folded table and the models' vectors. Borrows its arrays and never writes to them: one scorer
    serves any number of threads. Scratch is per thread, grows with the text, and is cut back after a large one."""

    encoder: Encoder
    isa: str
    def __init__(
        self,
        encoder: Encoder,
        table: npt.NDArray[np.float16],
        vectors: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        isa: str | None = None,
        lengths: Lengths | None = None,
    ) -> None:
        """`table` [spec.rows, K], `vectors` [models, K], `bias` [models]; K a multiple of 16. `isa` forces one of
        `isas()`. Raises ValueError naming the array and what was expected, as for `lengths` of other sizes."""

    def score(self, segments: Iterable[tuple[str | bytes, float]]) -> tuple[tuple[float, ...], int]:
        """Quality in [0, 1] of each model for a conversation of (text, weight), and the WordPieces of all its texts.
        The hidden vector is the texts' weighted mean; without any weight it is zero and the biases speak alone."""

    def scores(self, segments: Iterable[tuple[str | bytes, float]]) -> Scores:
        """The same, with the models' expected output tokens where there are `lengths`."""

    def scores_turns(self, turns: TextTurns, weights: TurnWeights) -> Scores:
        """As `scores` of these turns' segments (`router.features.conversation`), without an object for each."""

    def hidden(self, segments: Iterable[tuple[str | bytes, float]]) -> npt.NDArray[np.float32]:
        """The hidden vector [K] that `score` takes to the models."""

    def score_batch(self, texts: Iterable[str | bytes]) -> npt.NDArray[np.float32]:
        """Quality [texts, models], each text a conversation of its own."""
