"""Gives a pool member its answers' lengths: those of its model in the checkpoint, or of those that speak for it."""

from collections.abc import Sequence

import numpy as np

from router.artefacts.artefact import ModelRecord
from router.heads.base import Placement
from router.heads.lengths import Floats, Lengths
from router.heads.placement import shares


def placed_lengths(
    told: Lengths | None, models: Sequence[ModelRecord], placements: Sequence[Placement]
) -> Lengths | None:
    """Of members, by the models that speak for them and whose lengths are known. None where no member has any."""
    if told is None or not (told.log_sd > 0).any():
        return None
    known = told.log_sd > 0
    rows = shares(models, placements, known.tolist())
    speaks = rows != 0
    if not speaks.any():
        return None
    some = speaks.any(axis=1)
    log_sd = np.where(some, np.clip(rows @ told.log_sd, told.log_sd[known].min(), told.log_sd[known].max()), 0.0)
    mean = log_sd**2 / 2  # of a lognormal, above its median

    def end(ends: Floats, of: np.ufunc, none: float) -> Floats:
        found = of.reduce(np.where(speaks, ends, np.float32(none)), axis=1)
        return np.where(some, found + mean, -np.inf).astype(np.float32)

    return Lengths(
        vectors=np.ascontiguousarray(rows @ told.vectors),
        bias=(rows @ told.bias + mean).astype(np.float32),
        least=end(told.least, np.minimum, np.inf),
        most=end(told.most, np.maximum, -np.inf),
        log_sd=log_sd,
    )
