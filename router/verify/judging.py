"""How likely an answer is right, whole or while it runs: the prior and the evidence, combined and calibrated.

    log odds = offset_m + slope_m * (bias + sum over numbers of  curve(value) where it is known
                                                                 unknown      where it is not )

An additive model of straight pieces (Hastie and Tibshirani, 1986), then a line per model m (Platt, 1999). Reads no
tables and trains nothing: docs/verifier.md.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from router.artefacts import artefact as artefacts
from router.artefacts.artefact import Artefact
from router.errors import ConfigError
from router.verify import stated
from router.verify.evidence import Evidence
from router.verify.judged import KNOTS, OTHERS, Gain, Running, learnt, tensors
from router.verify.observed import OBSERVED, observed
from router.verify.odds import logit, probability
from router.verify.verifier import ROUTER

Probe: TypeAlias = tuple[npt.NDArray[np.float32], float]
_Piece: TypeAlias = tuple[float, float]  # value at the knot, slope behind it
_Term: TypeAlias = tuple[int, float, float, float, tuple[_Piece, ...]]


class Judge:
    """Of one artefact, or of none (`fixed`). Immutable: safe from many threads.

    `gains`: held-out gain of `cascade`, `handoff` and `first` over deciding before the answer only, in area of quality
    over cost; 0: not above noise, or not measured, and so off. `correlation`: between models, of what evidence adds to
    their priors.
    """

    def __init__(self, artefact: Artefact | None = None) -> None:
        self.gains: dict[str, float] = {}
        self.intervals: dict[str, Gain] = {}
        self.correlation = stated.CORRELATION
        self.first_ids: tuple[int, ...] = ()  #: the tokens whose logits a probe weighs, in order
        self._terms: tuple[_Term, ...] | None = None
        self._spreads: Mapping[str, float] = {OTHERS: stated.SPREAD}
        self._running: Mapping[str, Running] = {}
        self._probes: dict[str, tuple[npt.NDArray[np.float32], float, float]] = {}
        if artefact is not None:
            self._read(artefact)

    def _read(self, artefact: Artefact) -> None:
        if artefact.meta.router != ROUTER:
            raise ConfigError(f"{artefact.path}: router: expected {ROUTER!r}, got {artefact.meta.router!r}")
        told = learnt(artefact)
        read = tensors(artefact, told)
        self.intervals = dict(told.gains)
        self.gains = {way: gain.told for way, gain in told.gains.items()}
        self.correlation, self._spreads, self._running = told.correlation, told.spreads, told.running
        self._bias = read.bias
        self._terms = tuple(
            (OBSERVED.index(name), float(read.centre[k]), float(1 / read.scale[k]), float(read.unknown[k]),
             _pieces(read.curve[k].tolist()))
            for k, name in enumerate(told.numbers)
        )  # fmt: skip
        names = [*(model.name for model in artefact.meta.models), OTHERS]
        self._lines: dict[str, tuple[float, float, float]] = {
            name: (row[0], row[1], row[2]) for name, row in zip(names, read.models.tolist(), strict=True)
        }
        self.first_ids = tuple(read.first_ids.tolist())
        for model, weights, (bias, prior) in zip(
            told.probed, read.first_weights, read.first_line.tolist(), strict=True
        ):
            self._probes[model] = (weights, bias, prior)

    def quality(self, prior: float, evidence: Evidence, model: str) -> float:
        """P(right) of `model`'s answer, 0..1. `prior`: what the head said before there was an answer, 0..1."""
        return probability(self.log_odds(prior, evidence, model))

    def log_odds(self, prior: float | None, evidence: Evidence, model: str) -> float:
        """`prior` None: not known."""
        if self._terms is None:
            return stated.log_odds(prior, evidence)
        slope, offset, typical = self._lines.get(model) or self._lines[OTHERS]
        values = observed(evidence, prior, typical)
        total = self._bias
        for at, centre, inverse, unknown, pieces in self._terms:
            value = values[at]
            if value != value:
                total += unknown
                continue
            z = (value - centre) * inverse
            if z < -1.0:
                k, knot = 0, -4.0
                z = z if z > -4.0 else -4.0
            elif z < 0.0:
                k, knot = 1, -1.0
            elif z < 1.0:
                k, knot = 2, 0.0
            else:
                k, knot = 3, 1.0
                z = z if z < 4.0 else 4.0
            value, rise = pieces[k]
            total += value + rise * (z - knot)
        return offset + slope * total

    def running(self, prior: float, model: str, expected_tokens: float | None = None) -> Running:
        """For a boundary. `expected_tokens`: of this answer, where the artefact knows nothing of running answers."""
        found = self._running.get(model) or self._running.get(OTHERS)
        return found if found is not None else stated.running(expected_tokens)

    def spread(self, model: str) -> float:
        """Deviation, on the scale of probability, of P(right) by prior and evidence from the prior."""
        found = self._spreads.get(model)
        return found if found is not None else self._spreads.get(OTHERS, stated.SPREAD)

    def first(self, model: str, prior: float = 0.5) -> Probe | None:
        """Weights of the normalised logits of `first_ids` at the first token, and what is added, the prior's part in
        it: together the log odds of a right answer. None: no probe of this model gains anything."""
        found = self._probes.get(model)
        if found is None:
            return None
        weights, bias, weight = found
        return weights, bias + weight * logit(prior)


def load(path: str | Path) -> Judge:
    """Raises ConfigError naming the file, the key and what was expected."""
    return Judge(artefacts.read(path))


def fixed() -> Judge:
    """Of no artefact: a fixed combination of the prior, the least log-probability and the length against the expected,
    by the curves of `router.verify.stated`."""
    return Judge()


def _pieces(curve: Sequence[float]) -> tuple[_Piece, ...]:
    return tuple(
        (a, (b - a) / (end - start)) for a, b, start, end in zip(curve, curve[1:], KNOTS, KNOTS[1:], strict=False)
    )
