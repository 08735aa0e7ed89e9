"""Scores a few plain questions with a new head and refuses it unless every quality is from 0 to 1: finite weights can
still give NaN."""

import numpy as np

from router.errors import ConfigError
from router.heads.base import PLAIN, Head

SLOW = 1  #: questions to a head that takes milliseconds each


def checked(head: Head, path: str) -> Head:
    """The head. Raises ConfigError where a quality that it tells is no number from 0 to 1."""
    if not head.placements:
        return head
    texts = PLAIN[:SLOW] if getattr(head, "slow", False) else ("", *PLAIN)
    with np.errstate(all="ignore"):
        quality = head.score_many(texts)
    wrong = np.argwhere(~((quality >= 0) & (quality <= 1)))
    if len(wrong):
        row, member = wrong[0]
        raise ConfigError(
            f"{path}: expected weights that make a quality from 0 to 1, got {quality[row, member]:g} for "
            f"{head.placements[member].name!r} on {texts[row]!r}"
        )
    return head
