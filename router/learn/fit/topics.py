"""Latent semantic analysis of prompts' texts, without labels (Deerwester et al., 1990).

Randomised subspace iteration (Halko et al., 2011). Works on matrices only.
"""

import numpy as np
import numpy.typing as npt
from scipy import sparse

Floats = npt.NDArray[np.float32]
POWERS = 3  #: iterations
SPARE = 16  #: directions that are kept beside those asked for


def lsa(matrix: sparse.csr_matrix, dimensions: int, *, level: bool = False) -> Floats:
    """[rows, dimensions]: the main directions of the bags, each row weighed by log(prompts / prompts that have it).

    A row that stands in one prompt alone says nothing of others, and stays zero. `level`: all prompts count alike for
    the directions, however rare their words."""
    met = np.bincount(matrix.indices, minlength=matrix.shape[1])
    shared = np.flatnonzero(met > 1)
    rarity = np.log((1 + matrix.shape[0]) / (1 + met[shared])).astype(np.float32)
    weighed = (matrix[:, shared] @ sparse.diags_array(rarity)).tocsr().astype(np.float32)
    if level:
        lengths = np.sqrt(np.asarray(weighed.multiply(weighed).sum(1)).ravel())
        weighed = (sparse.diags_array(1 / np.maximum(lengths, 1e-6)) @ weighed).tocsr().astype(np.float32)
    out = np.zeros((matrix.shape[1], dimensions), np.float32)
    if len(shared):
        axes = _main_axes(weighed, dimensions)
        out[shared, : axes.shape[1]] = rarity[:, None] * axes
    return out


def _main_axes(matrix: sparse.csr_matrix, dimensions: int) -> Floats:
    """Right singular vectors [columns, dimensions or the rank, if that is less], by randomised subspace iteration."""
    count = min(dimensions + SPARE, *matrix.shape)
    back = matrix.T.tocsr()
    span = np.random.default_rng(0).standard_normal((matrix.shape[0], count)).astype(np.float32)
    for _ in range(POWERS):
        span, _ = np.linalg.qr(matrix @ (back @ span))
    found = back @ span
    squares, turns = np.linalg.eigh((found.T @ found).astype(np.float64))
    kept = [i for i in range(count - 1, -1, -1) if squares[i] > 1e-8 * squares[-1]][:dimensions]
    axes = found @ (turns[:, kept] / np.sqrt(squares[kept])).astype(np.float32)
    return np.asarray(axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(len(kept))]), np.float32)
