"""The matrix-factorisation head on the native scorer: segments in, quality per member out, in one call."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from router.heads.base import PLAIN, Claim, Placement
from router.heads.checkpoint import Checkpoint
from router.heads.placed_lengths import placed_lengths
from router.heads.placement import place
from router.native.scorer import Encoder, Scorer
from router.native.spec import TurnWeights
from router.types import Scores, Segment


class MfHead:
    """`logit q_m = b_m + v_m . h` over the pool's members. Immutable and safe from many threads."""

    typical = PLAIN  #: its fit has no constant, so that an empty text tells nothing

    def __init__(self, checkpoint: Checkpoint, claims: Sequence[Claim], *, isa: str | None = None) -> None:
        vectors, bias, self._placements = place(checkpoint, claims)
        self._turns = checkpoint.meta.turns
        lengths = placed_lengths(checkpoint.lengths, checkpoint.meta.models, self._placements)
        encoder = Encoder(checkpoint.encoder, checkpoint.vocab)
        self._scorer = Scorer(encoder, checkpoint.table, vectors, bias, isa, lengths)

    @property
    def turns(self) -> TurnWeights:
        return self._turns

    @property
    def placements(self) -> tuple[Placement, ...]:
        return self._placements

    @property
    def scorer(self) -> Scorer:
        """All that `score` does, for callers that are native themselves."""
        return self._scorer

    def score(self, segments: Sequence[Segment]) -> Scores:
        return self._scorer.scores(segments)

    def score_many(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return self._scorer.score_batch(texts)
