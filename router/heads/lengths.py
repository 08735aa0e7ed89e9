"""What a checkpoint tells of answers' lengths: the logarithm of a model's output tokens is normal about a line in the
features, `length_bias + lengths . h`, with the deviation `length_sd`. Checks the tensors.
"""

import msgspec
import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import Artefact
from router.errors import ConfigError

VECTORS, BIAS, SD, RANGE = TENSORS = ("lengths", "length_bias", "length_sd", "length_range")
#: Of the logarithm of a number of tokens, and of a deviation: what the policy takes (csrc/lengths.hpp).
LARGEST_LOG, LARGEST_SD = 20.0, 4.0

Floats = npt.NDArray[np.float32]


class Lengths(msgspec.Struct, frozen=True, kw_only=True):
    """Of a checkpoint's models, or of a pool's members; `native.scorer.Lengths`. For members the logarithms are of
    means, for models of medians. Nothing is known where `log_sd` is 0."""

    vectors: Floats  #: [models, K]
    bias: Floats  #: [models]
    least: Floats  #: [models]: nothing below is told: the shortest answer that was learnt from
    most: Floats  #: [models]: and the longest
    log_sd: npt.NDArray[np.float64]  #: [models]


def lengths_of(artefact: Artefact, columns: int) -> Lengths | None:
    """The artefact's, for a table of so many columns, if it has any. Raises ConfigError naming the file, the tensor and
    what was expected."""
    if not any(name in artefact.arrays for name in TENSORS):
        return None
    models = len(artefact.meta.models)
    vectors = artefact.array(VECTORS, np.float32, (models, columns))
    bias, sd = (artefact.array(name, np.float32, (models,)) for name in (BIAS, SD))
    ends = artefact.array(RANGE, np.float32, (models, 2))
    _check(artefact, BIAS, bias, -LARGEST_LOG, LARGEST_LOG)
    _check(artefact, SD, sd, 0.0, LARGEST_SD)
    _check(artefact, RANGE, ends, -LARGEST_LOG, LARGEST_LOG)
    if (ends[:, 0] > ends[:, 1]).any():
        raise ConfigError(f"{artefact.path}: {RANGE}: expected the least before the most, got {ends.tolist()}")
    return Lengths(vectors=vectors, bias=bias, least=ends[:, 0], most=ends[:, 1], log_sd=sd.astype(np.float64))


def known_lengths(artefact: Artefact) -> tuple[bool, ...]:
    """Of which models an artefact of `mf` tells lengths; empty where of none."""
    return tuple((artefact.arrays[SD] > 0).tolist()) if SD in artefact.arrays else ()


def _check(artefact: Artefact, name: str, array: Floats, least: float, most: float) -> None:
    outside = array[~((array >= least) & (array <= most))]
    if len(outside):
        raise ConfigError(f"{artefact.path}: {name}: expected numbers from {least:g} to {most:g}, got {outside[0]:g}")
