"""Training prompts and their scores, kept in the artefact in groups: one for each table of outcomes, whose models all
answered the same prompts. `knn` and `sw_ranking` read it. Knows neither the search nor the vote."""

from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import Artefact
from router.errors import ConfigError

UNKNOWN = -1.0  #: in place of a score

Floats = npt.NDArray[np.float32]


class Group(msgspec.Struct, frozen=True):
    """`scores` [prompts, models], 0 where not `known`; `models`: which of the artefact's they are."""

    prefix: str
    models: npt.NDArray[np.int32]
    scores: Floats
    known: npt.NDArray[np.bool_]


def groups(artefact: Artefact) -> Iterator[Group]:
    """Raises ConfigError where the arrays `0.models`, `0.scores`, `1.models`, ... do not fit."""
    prefixes = sorted(name.removesuffix("models") for name in artefact.arrays if name.endswith(".models"))
    if not prefixes:
        raise ConfigError(f"{artefact.path}: 0.models: expected this tensor, got {sorted(artefact.arrays)}")
    for prefix in prefixes:
        models = artefact.array(f"{prefix}models", np.int32, (None,))
        if models.min() < 0 or models.max() >= len(artefact.meta.models):
            raise ConfigError(f"{artefact.path}: {prefix}models: expected indices below {len(artefact.meta.models)}")
        stored = artefact.array(f"{prefix}scores", np.float16, (None, len(models)))
        known = stored >= 0
        yield Group(prefix, models, np.where(known, stored, 0).astype(np.float32), known)


def means(artefact: Artefact) -> Floats:
    """[models]: each one's mean score in training, 0..1."""
    found = artefact.array("means", np.float32, (len(artefact.meta.models),))
    if found.min() < 0 or found.max() > 1:
        raise ConfigError(f"{artefact.path}: means: expected numbers from 0 to 1")
    return found


def log_odds(share: npt.NDArray[np.floating]) -> Floats:
    """Of shares in (0, 1); kept within what single precision can tell from 0 and 1."""
    p = np.clip(np.asarray(share, np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(p / (1 - p)), np.float32)
