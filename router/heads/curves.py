"""Calibrates a model's log odds: one increasing piecewise-linear curve per reference model, kept in the artefact.

`calibration.x`, `calibration.y` [models, knots]: straight lines between knots, in logit space; the outermost lines are
extended. Applied before models are mixed, so that a member placed between references has calibrated ones.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import Artefact
from router.errors import ConfigError

X, Y = "calibration.x", "calibration.y"
STEEPEST = 1e6  #: of the lines that go on beyond the knots: an infinity would make other models' qualities NaN
ROWS = 4096  #: looked up at once: bounds the memory of a batch

Floats = npt.NDArray[np.float32]


class Curves:
    """Immutable. Increasing: no curve changes the order of a model's prompts."""

    def __init__(self, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> None:
        """`x`, `y` [models, knots], at least two, both rising along the knots."""
        self._x, self._y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        self._slope = np.diff(self._y) / np.diff(self._x)
        self._inner = self._x[:, 1:-1]
        self._models = np.arange(len(self._x))
        self._lists = [
            (inner.tolist(), x.tolist(), y.tolist(), slope.tolist())
            for inner, x, y, slope in zip(self._inner, self._x, self._y, self._slope, strict=True)
        ]

    def __call__(self, logits: npt.NDArray[np.floating]) -> Floats:
        """Calibrated log odds [queries, models]."""
        parts = [self._block(logits[first : first + ROWS]) for first in range(0, len(logits), ROWS)]
        return np.concatenate(parts) if parts else np.zeros(logits.shape, np.float32)

    def one(self, logits: Sequence[float]) -> list[float]:
        """The same of a single query [models]: without NumPy's calls, which would be most of a decision's time."""
        found = []
        for z, (inner, x, y, slope) in zip(logits, self._lists, strict=True):
            k = bisect_right(inner, z)
            found.append(y[k] + slope[k] * (z - x[k]))
        return found

    def of_models(self, chosen: npt.NDArray[Any]) -> "Curves":
        """Those of some models, in the order of `chosen`."""
        return Curves(self._x[chosen], self._y[chosen])

    def _block(self, logits: npt.NDArray[np.floating]) -> Floats:
        below = (logits[:, :, None] >= self._inner).sum(-1)
        at = self._models, below
        return np.asarray(self._y[at] + self._slope[at] * (logits - self._x[at]), np.float32)


def curves_of(artefact: Artefact) -> Curves | None:
    """The artefact's curves, if it has any. Raises ConfigError where they cannot be read or do not rise."""
    if X not in artefact.arrays and Y not in artefact.arrays:
        return None
    models = len(artefact.meta.models)
    x = artefact.array(X, np.float32, (models, None))
    y = artefact.array(Y, np.float32, x.shape)
    if x.shape[1] < 2:
        raise ConfigError(f"{artefact.path}: {X}: expected two knots or more, got {x.shape[1]}")
    for name, array in ((X, x), (Y, y)):
        if not (np.diff(array) > 0).all():
            raise ConfigError(f"{artefact.path}: {name}: expected knots that rise for every model")
    with np.errstate(over="ignore"):
        slope = np.diff(y) / np.diff(x)
    outer = max(float(slope[:, 0].max()), float(slope[:, -1].max()))
    if not outer <= STEEPEST:
        raise ConfigError(
            f"{artefact.path}: {Y}: expected outermost lines of a slope up to {STEEPEST:g}, got {outer:g}"
        )
    return Curves(x, y)


def uncurved(artefact: Artefact) -> Artefact:
    """The artefact without its curves: what a head sees that others calibrate."""
    arrays = {name: array for name, array in artefact.arrays.items() if name not in (X, Y)}
    return msgspec.structs.replace(artefact, arrays=arrays)
