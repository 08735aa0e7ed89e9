"""The matrix-factorisation head in Python and NumPy: the native one is tested and timed against it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from router.heads.base import PLAIN, Claim, Placement
from router.heads.checkpoint import Checkpoint
from router.heads.placed_lengths import placed_lengths
from router.heads.placement import place
from router.native import twin
from router.native.spec import TurnWeights
from router.types import Scores, Segment


class NumpyMfHead:
    """See MfHead."""

    typical = PLAIN  #: its fit has no constant, so that an empty text tells nothing

    def __init__(self, checkpoint: Checkpoint, claims: Sequence[Claim]) -> None:
        self._checkpoint = checkpoint
        self._vectors, self._bias, self._placements = place(checkpoint, claims)
        self._lengths = placed_lengths(checkpoint.lengths, checkpoint.meta.models, self._placements)

    @property
    def turns(self) -> TurnWeights:
        return self._checkpoint.meta.turns

    @property
    def placements(self) -> tuple[Placement, ...]:
        return self._placements

    def score(self, segments: Sequence[Segment]) -> Scores:
        at = self._checkpoint
        hidden, pieces = twin.hidden(segments, at.vocab, at.encoder, at.table)
        quality = tuple(twin.qualities(hidden, self._vectors, self._bias).tolist())
        if self._lengths is None:
            return Scores(quality, pieces)
        tokens = twin.lengths(hidden, self._lengths)
        return Scores(quality, pieces, tuple(tokens.tolist()), tuple(self._lengths.log_sd.tolist()))

    def score_many(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.array([self.score(((text, 1.0),)).quality for text in texts], np.float32)
