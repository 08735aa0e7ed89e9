"""Probabilities and their log odds."""

import math

CERTAIN = 1e-4  #: a probability is kept this far from 0 and 1


def logit(probability: float) -> float:
    """Log odds, kept away from infinity; NaN of NaN."""
    kept = min(max(probability, CERTAIN), 1 - CERTAIN)
    return math.log(kept / (1 - kept))


def probability(log_odds: float) -> float:
    return 0.5 * (1 + math.tanh(0.5 * log_odds))
