"""What a judge's artefact says, as typed structs, and their checks. Knows no training and no serving.

The file is that of `router.verify.verifier`: its metadata's `options.judge` is a `Learnt`, and it has these tensors
(float32; M models and one row for all others, K numbers, F logits, P models with a probe):

    judge.centre, judge.scale, judge.unknown [K]   judge.curve [K, KNOTS]   judge.bias [1]
    judge.models [M + 1, 3]: slope and offset of the log odds, tokens of an answer on average
    first.weights [P, F]   first.line [P, 2]: bias and the prior's weight   first.ids [F] (int32), or none of the three
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import Artefact
from router.errors import ConfigError
from router.verify.observed import OBSERVED
from router.watched import MOST_KNOTS, Statistic

#: Standard deviations from the mean at which a curve may bend, and where it ends.
KNOTS = (-4.0, -1.0, 0.0, 1.0, 4.0)
WAYS = ("cascade", "handoff", "first")  #: of changing one's mind: after the answer, in it, at its first token
OTHERS = ""  #: the model that stands for all that are not named

Floats = npt.NDArray[np.float64]


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """Of an answer that still runs after t_k tokens: logit P(right | statistic x) = intercept_k + slope_k * x +
    prior_weight_k * logit(prior)."""

    statistic: Statistic = "tokens"
    tokens: tuple[float, ...] = ()  #: t_k, rising, at most `MOST_KNOTS`; empty: nothing is known of running answers
    intercept: tuple[float, ...] = ()
    slope: tuple[float, ...] = ()
    prior_weight: tuple[float, ...] = ()
    left: tuple[float, ...] = ()  #: output tokens still to come, on average


class Gain(msgspec.Struct, frozen=True, kw_only=True):
    """Area of quality over cost, held out, less that of deciding before the answer only; 95 % interval, paired."""

    mean: float
    low: float
    high: float

    @property
    def told(self) -> float:
        """0 where it is not above noise: then the way is off."""
        return self.mean if self.low > 0 else 0.0


class Learnt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of a judge but its tensors. Of mappings by model, `OTHERS` stands for the models that are not named."""

    numbers: tuple[str, ...]  #: K of `OBSERVED`
    experts: dict[str, float]  #: the shares in the curves of the lines that they are a mean of; only told
    running: dict[str, Running]
    spreads: dict[str, float]  #: on the scale of probability
    correlation: float
    gains: dict[str, Gain] = {}  #: of `WAYS`; one that is missing was not measured
    measured: str = ""  #: what the gains were measured on; empty: they were not
    probed: tuple[str, ...] = ()  #: P models with a probe of their first token


class Tensors(msgspec.Struct, frozen=True, kw_only=True):
    """Checked; float64."""

    centre: Floats
    scale: Floats
    unknown: Floats
    curve: Floats
    bias: float
    models: Floats
    first_weights: npt.NDArray[np.float32]
    first_line: Floats
    first_ids: npt.NDArray[np.int32]


def learnt(artefact: Artefact) -> Learnt:
    """Raises ConfigError naming the file, the key and what was expected."""
    path, told = artefact.path, artefact.meta.options.get("judge")
    if told is None:
        raise ConfigError(
            f"{path}: options.judge: expected what `headgate train --router verifier` writes, got none: "
            "the file is of an earlier version, train it again"
        )
    try:
        found = msgspec.convert(told, Learnt)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: options.judge: {error}") from error
    for name in found.numbers:
        if name not in OBSERVED:
            raise ConfigError(f"{path}: options.judge.numbers: expected some of {', '.join(OBSERVED)}; got {name!r}")
    for way in found.gains:
        if way not in WAYS:
            raise ConfigError(f"{path}: options.judge.gains: expected some of {', '.join(WAYS)}; got {way!r}")
    for model, running in found.running.items():
        _check_running(f"{path}: options.judge.running.{model or '(others)'}", running)
    _check_range(f"{path}: options.judge.spreads", found.spreads, 0, 1)
    _check_range(f"{path}: options.judge", {"correlation": found.correlation}, -1, 1)
    known = {model.name for model in artefact.meta.models}
    for model in found.probed:
        if model not in known:
            raise ConfigError(f"{path}: options.judge.probed: expected some of {sorted(known)}; got {model!r}")
    return found


def tensors(artefact: Artefact, of: Learnt) -> Tensors:
    """Raises ConfigError as `learnt`."""
    k, probes = len(of.numbers), len(of.probed)
    read: dict[str, Any] = {
        name: artefact.array(f"judge.{name}", np.float32, shape).astype(np.float64)
        for name, shape in (
            ("centre", (k,)), ("scale", (k,)), ("unknown", (k,)), ("curve", (k, len(KNOTS))), ("bias", (1,)),
            ("models", (len(artefact.meta.models) + 1, 3)),
        )
    }  # fmt: skip
    for key, low in (("scale", read["scale"]), ("models", read["models"][:, 2])):
        if not (low > 0).all():
            raise ConfigError(f"{artefact.path}: judge.{key}: expected numbers above 0, got {low.min():g}")
    read["bias"] = float(read["bias"][0])
    if not probes:
        empty = np.zeros((0, 0), np.float32)
        return Tensors(first_weights=empty, first_line=np.zeros((0, 2)), first_ids=np.zeros(0, np.int32), **read)
    weights = artefact.array("first.weights", np.float32, (probes, None))
    line = artefact.array("first.line", np.float32, (probes, 2)).astype(np.float64)
    ids = artefact.array("first.ids", np.int32, (weights.shape[1],))
    return Tensors(first_weights=weights, first_line=line, first_ids=ids, **read)


def _check_running(where: str, at: Running) -> None:
    if len(at.tokens) > MOST_KNOTS:
        raise ConfigError(f"{where}.tokens: expected at most {MOST_KNOTS} knots, got {len(at.tokens)}")
    for name in ("intercept", "slope", "prior_weight", "left"):
        values: Sequence[float] = getattr(at, name)
        if len(values) != len(at.tokens):
            raise ConfigError(f"{where}.{name}: expected {len(at.tokens)} numbers, one a knot; got {len(values)}")
        if not all(map(math.isfinite, values)):
            raise ConfigError(f"{where}.{name}: expected finite numbers, got {list(values)}")
    rising = all(a < b for a, b in zip((0.0, *at.tokens), at.tokens, strict=False))
    if not rising or not all(map(math.isfinite, at.tokens)) or min(at.left, default=0) < 0:
        raise ConfigError(f"{where}: expected rising tokens above 0 and no negative `left`, got {at.tokens}, {at.left}")


def _check_range(where: str, values: Mapping[str, float], low: float, high: float) -> None:
    for name, value in values.items():
        if not low <= value <= high:
            raise ConfigError(f"{where}.{name or '(others)'}: expected {low} to {high}, got {value:g}")
