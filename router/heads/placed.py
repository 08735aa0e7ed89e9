"""Any predictor as a head of one pool: its logits for the reference models, mixed into logits of the members.

Knows no method. `mf` does the same by mixing vectors once, when it is loaded.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import Metadata
from router.heads.base import Claim, Placement, Predictor, Selective
from router.heads.curves import Curves
from router.heads.placement import mix
from router.native.spec import TurnWeights
from router.types import Scores, Segment

Floats = npt.NDArray[np.float32]


class PlacedHead:
    """Raises ConfigError where a member's claim is refused."""

    def __init__(
        self,
        meta: Metadata,
        predictor: Predictor,
        claims: Sequence[Claim],
        curves: Curves | None = None,
    ) -> None:
        """`curves`: what `curves_of` found in the artefact; the reference models' logits go through them."""
        self._curves = curves
        self._turns = meta.turns
        self._mixed, self._placements = mix(meta.models, claims)
        if isinstance(predictor, Selective):
            predictor = predictor.only(np.flatnonzero(self._mixed.any(axis=0)))
        self._predictor = predictor
        self.slow = bool(getattr(predictor, "slow", False))
        self.typical: tuple[str, ...] = getattr(predictor, "typical", ("",))

    @property
    def turns(self) -> TurnWeights:
        return self._turns

    @property
    def placements(self) -> tuple[Placement, ...]:
        return self._placements

    def score(self, segments: Sequence[Segment]) -> Scores:
        quality = self.quality(self._predictor.logits([segments]))[0]
        return Scores(tuple(quality.tolist()), self._predictor.tokens(segments))

    def score_many(self, texts: Sequence[str]) -> Floats:
        return self.quality(self._predictor.logits([((text, 1.0),) for text in texts]))

    def quality(self, logits: Floats) -> Floats:
        """[queries, members], of the reference models' log odds [queries, models]."""
        calibrated = logits if self._curves is None else self._curves(logits)
        return np.asarray(0.5 * (1 + np.tanh(0.5 * (calibrated @ self._mixed.T))), np.float32)
