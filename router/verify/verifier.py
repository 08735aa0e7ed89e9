"""Judges an answer: evidence in, P(correct) out, by a line of weights over `evidence.measure`'s numbers.

Knows no training.

    logit P = bias + sum over numbers of  weight * (value - centre) / scale   where the number is known
                                          unknown                             where it is not

Two such lines: one for an answer alone, one for an answer beside a second, cheap model's. Logistic regression with
missing-data indicators (Jones, 1996); docs/verifier.md.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from router.artefacts import artefact as artefacts
from router.artefacts.artefact import Artefact, Metadata
from router.errors import ConfigError
from router.verify.evidence import Evidence, measure

ROUTER = "verifier"
NAMES = tuple(measure(Evidence()))
LIMIT = 4.0  #: standard deviations that a number may speak with

Floats = npt.NDArray[np.float64]


class Verifier(Protocol):
    """Safe from many threads."""

    def judge(self, evidence: Evidence) -> float:
        """P(correct), 0..1."""
        ...

    def judge_many(self, evidence: Sequence[Evidence]) -> npt.NDArray[np.float32]:
        """[answers]. Each is what `judge` says of it."""
        ...


class LinearVerifier:
    """See `Verifier`. Raises ConfigError where the artefact is no verifier's, or one of a later version."""

    def __init__(self, artefact: Artefact) -> None:
        path, meta = artefact.path, artefact.meta
        if meta.router != ROUTER:
            raise ConfigError(f"{path}: router: expected {ROUTER!r}, got {meta.router!r}")
        names = _names(path, meta)
        self.meta = meta
        self._columns = np.array([NAMES.index(name) for name in names])
        read: dict[str, Any] = {
            name: artefact.array(name, np.float32, shape).astype(np.float64)
            for name, shape in (
                *((name, (2, len(names))) for name in ("weights", "unknown")),
                *((name, (len(names),)) for name in ("centre", "scale")),
                ("bias", (2,)),
            )
        }
        if not (read["scale"] > 0).all():
            raise ConfigError(f"{path}: scale: expected numbers above 0, got {read['scale'].min()}")
        self._weights, self._unknown, self._bias = read["weights"], read["unknown"], read["bias"]
        self._centre, self._scale = read["centre"], read["scale"]

    def judge(self, evidence: Evidence) -> float:
        return float(self.judge_many([evidence])[0])

    def judge_many(self, evidence: Sequence[Evidence]) -> npt.NDArray[np.float32]:
        line = np.array([one.agreement is not None for one in evidence], np.intp)
        values = matrix(evidence)[:, self._columns]
        terms = np.where(
            np.isfinite(values), standard(values, self._centre, self._scale) * self._weights[line], self._unknown[line]
        )
        logits = self._bias[line] + terms.sum(1)
        return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), np.float32)


def load(path: str | Path) -> LinearVerifier:
    """Raises ConfigError naming the file, the key and what was expected."""
    return LinearVerifier(artefacts.read(path))


def matrix(evidence: Sequence[Evidence]) -> Floats:
    """[answers, NAMES]; NaN: unknown."""
    return np.array([list(measure(one).values()) for one in evidence], np.float64).reshape(-1, len(NAMES))


def standard(values: Floats, centre: Floats, scale: Floats) -> Floats:
    """In standard deviations, held within the limit; 0 where unknown."""
    return np.nan_to_num(np.clip((values - centre) / scale, -LIMIT, LIMIT))


def _names(path: str, meta: Metadata) -> list[str]:
    names = meta.options.get("names")
    if not isinstance(names, list) or not names:
        raise ConfigError(f"{path}: options.names: expected the numbers that are weighed, got {names!r}")
    for name in names:
        if name not in NAMES:
            raise ConfigError(f"{path}: options.names: expected some of {', '.join(NAMES)}; got {name!r}")
    return names
