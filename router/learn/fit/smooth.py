"""Kernel features of prompts' meanings: a linear fit of these columns is a kernel machine. Works on matrices only.

Nystroem's method (Williams and Seeger, 2001) for `k(x, y) = exp(x . y - 1)` of unit vectors. The fit varies smoothly
with meaning, so it also predicts prompts none of whose words were labelled.
"""

import numpy as np
import numpy.typing as npt

from router.learn.fit.unit import unit

Floats = npt.NDArray[np.float32]
SCALE = 1.5  #: of the columns: how freely the fit may bend
LEAST = 1e-6  #: directions of less, against the greatest, are rounding


def smooth_columns(vectors: Floats, landmarks: int, seed: int) -> Floats:
    """[prompts, at most `landmarks`] of the prompts' vectors [prompts, d]; mean 0."""
    if not landmarks or not vectors.shape[1]:
        return np.zeros((len(vectors), 0), np.float32)
    points = unit(vectors - vectors.mean(0))
    chosen = np.random.default_rng(seed).choice(len(points), min(landmarks, len(points)), replace=False)
    marks = points[np.sort(chosen)]
    sizes, axes = np.linalg.eigh(_kernel(marks, marks).astype(np.float64))
    kept = sizes > LEAST * sizes[-1]
    columns = _kernel(points, marks) @ (axes[:, kept] / np.sqrt(sizes[kept])).astype(np.float32)
    return np.asarray(SCALE * (columns - columns.mean(0)), np.float32)


def _kernel(one: Floats, other: Floats) -> Floats:
    return np.asarray(np.exp(one @ other.T - 1), np.float32)
