"""A placed head whose predictor needs a language model's verdict on the query. Knows no method and sends no request."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from router.heads.base import JudgedPredictor, Placement
from router.heads.placed import PlacedHead
from router.native.spec import TurnWeights
from router.types import Scores, Segment


class JudgedPlacedHead:
    """See `JudgedHead`. `score` alone goes by what the predictor knows without a verdict."""

    slow = True

    def __init__(self, placed: PlacedHead, predictor: JudgedPredictor) -> None:
        """`placed`: of that predictor."""
        self._placed, self._predictor = placed, predictor
        self.typical = placed.typical

    @property
    def turns(self) -> TurnWeights:
        return self._placed.turns

    @property
    def placements(self) -> tuple[Placement, ...]:
        return self._placed.placements

    @property
    def judge(self) -> str:
        return self._predictor.judge

    def score(self, segments: Sequence[Segment]) -> Scores:
        return self._placed.score(segments)

    def score_many(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return self._placed.score_many(texts)

    def question(self, segments: Sequence[Segment]) -> bytes | None:
        return self._predictor.question(segments)

    def score_by(self, segments: Sequence[Segment], answer: bytes) -> Scores:
        quality = self._placed.quality(self._predictor.logits_by(segments, answer))[0]
        return Scores(tuple(quality.tolist()), self._predictor.tokens(segments))
