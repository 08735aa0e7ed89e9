"""Applies the models' calibration curves to a head that mixes reference models into members itself, before it mixes.

Asks the wrapped head for the reference models that members are placed by, so it depends on neither method nor scorer.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import Metadata
from router.heads.base import Claim, Head, Placement
from router.heads.curves import Curves
from router.heads.placement import mix, shares
from router.native.spec import TurnWeights
from router.types import Scores, Segment

SURE = 1e-7  #: a head says 0 and 1 in single precision; finite log odds cannot
Floats = npt.NDArray[np.float32]


class CurvedHead:
    """`logit q_m = sum_r mixed[m, r] * curve_r(logit q_r)`. Safe from many threads, as the wrapped head is."""

    def __init__(
        self,
        meta: Metadata,
        curves: Curves,
        claims: Sequence[Claim],
        make: Callable[[Sequence[Claim]], Head],
        known: Sequence[bool] = (),
    ) -> None:
        """`make`: the uncalibrated head of some claims. `known`: of which reference models it tells the output tokens.
        Raises ConfigError where a member's claim is refused."""
        mixed, self._placements = mix(meta.models, claims)
        used = np.flatnonzero(mixed.any(axis=0))
        self._mixed, self._curves = mixed[:, used], curves.of_models(used)
        self._shares = [[(k, float(w)) for k, w in enumerate(row) if w] for row in self._mixed]
        spoken = shares(meta.models, self._placements, known)[:, used] if any(known) else None
        self._spoken = None if spoken is None else [[(k, float(w)) for k, w in enumerate(row) if w] for row in spoken]
        self._references = make([Claim(name=meta.models[i].name, like=meta.models[i].name) for i in used])

    @property
    def slow(self) -> bool:
        return bool(getattr(self._references, "slow", False))

    @property
    def typical(self) -> tuple[str, ...]:
        return getattr(self._references, "typical", ("",))

    @property
    def turns(self) -> TurnWeights:
        return self._references.turns

    @property
    def placements(self) -> tuple[Placement, ...]:
        return self._placements

    def score(self, segments: Sequence[Segment]) -> Scores:
        raw = self._references.score(segments)
        logits = self._curves.one([_log_odds(quality) for quality in raw.quality])
        mixed = [sum([w * logits[k] for k, w in row]) for row in self._shares]
        quality = tuple([0.5 + 0.5 * math.tanh(0.5 * z) for z in mixed])
        if self._spoken is None:
            return Scores(quality, raw.prompt_tokens)
        tokens, deviations = self._lengths(self._spoken, raw)
        return Scores(quality, raw.prompt_tokens, output_tokens=tokens, output_log_sd=deviations)

    @staticmethod
    def _lengths(
        spoken: Sequence[Sequence[tuple[int, float]]], raw: Scores
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Output tokens and their deviation, in logarithms as a member's vectors are mixed."""
        tokens = [math.exp(sum(w * math.log(raw.output_tokens[k]) for k, w in row)) if row else 0.0 for row in spoken]
        return tuple(tokens), tuple([max(0.0, sum(w * raw.output_log_sd[k] for k, w in row)) for row in spoken])

    def score_many(self, texts: Sequence[str]) -> Floats:
        return self._calibrated(self._references.score_many(texts))

    def _calibrated(self, quality: npt.NDArray[np.floating]) -> Floats:
        sure = np.clip(np.asarray(quality, np.float64), SURE, 1 - SURE)
        logits = self._curves(np.log(sure / (1 - sure))) @ self._mixed.T
        return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), np.float32)


def _log_odds(quality: float) -> float:
    sure = min(max(quality, SURE), 1 - SURE)
    return math.log(sure / (1 - sure))
