"""Platt's calibration (1999): a line through the logits makes probabilities mean what they say. Only numbers here."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
PRIOR = 10.0  #: labels' worth of belief in slope 1


def platt(logits: Floats, scores: Floats, steps: int = 20) -> tuple[float, float]:
    """`a, c` such that `sigmoid(a * logit + c)` fits the scores (0..1) best; Newton's method, held near slope 1."""
    z, y = np.asarray(logits, np.float64), np.asarray(scores, np.float64)
    at = np.array([1.0, 0.0])
    x = np.stack([z, np.ones_like(z)])
    prior = np.diag([PRIOR, 1e-3])
    for _ in range(steps):
        q = 0.5 * (1 + np.tanh(0.5 * (at @ x)))
        gradient = x @ (q - y) + prior @ (at - [1.0, 0.0])
        step = np.linalg.solve((x * (q * (1 - q))) @ x.T + prior, gradient)
        at = at - step
        if np.abs(step).max() < 1e-9:
            break
    return float(at[0]), float(at[1])


def lines(logits: Floats, scores: Floats) -> Floats:
    """`[models, 2]`: the line of each column of held-out logits; slope 1, offset 0 where nothing is known."""
    out = np.tile(np.array([1.0, 0.0], np.float32), (scores.shape[1], 1))
    for column in range(scores.shape[1]):
        known = np.isfinite(scores[:, column]) & np.isfinite(logits[:, column])
        if known.any():
            out[column] = platt(logits[known, column], scores[known, column])
    return out
