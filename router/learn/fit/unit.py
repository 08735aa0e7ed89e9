"""Vectors of unit length: their products are cosines."""

from typing import Any

import numpy as np
import numpy.typing as npt

LEAST = 1e-9  #: a shorter vector has no direction, and stays as short


def unit(vectors: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """[n, d], each row divided by its length."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), LEAST), np.float32)
