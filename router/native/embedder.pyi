"""Text in, static embedding out: one native call that releases the GIL (docs/features.md, A static embedding)."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from router.native.scorer import Encoder

class Embedder:
    """An encoder and a row of bytes for each of its WordPieces. Borrows its arrays and never writes to them: one
    embedder serves any number of threads. Scratch is per thread and bounded by `most_bytes`.

    A text is a `str`, lone surrogates and all, or `bytes` that should be UTF-8. Any text of any length is taken.
    """

    encoder: Encoder
    columns: int
    isa: str
    def __init__(
        self,
        encoder: Encoder,
        rows: npt.NDArray[np.int8],
        scales: npt.NDArray[np.float32],
        *,
        most_mass: float,
        most_bytes: int,
        isa: str | None = None,
    ) -> None:
        """`rows` [encoder.spec.pieces, columns], `scales` [encoder.spec.pieces]; columns a multiple of 64 up to 256.
        The mass of a piece is the length of its row times its scale. A text's first `most_bytes` bytes are read, and
        its pieces are added until their masses reach `most_mass`. `isa` forces one of `router.native.scorer.isas()`.
        Raises ValueError naming the array and what was expected."""

    def embed(self, text: str | bytes) -> npt.NDArray[np.float32]:
        """[columns], of length 1; all 0 where the text has no piece with a mass. Raises TypeError for no text."""

    def embed_batch(self, texts: Iterable[str | bytes]) -> npt.NDArray[np.float32]:
        """[texts, columns], each as `embed` makes it."""
