"""Gives a pool member its bias and vector: those of its model in the checkpoint, or interpolated by strength.

Along the reference models, ordered by strength, bias and vector change smoothly; a local linear fit gives them at the
member's strength. docs/features.md says how accurate that is for models left out of training. Reads no labels.
"""

import difflib
import math
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import ModelRecord
from router.errors import ConfigError
from router.heads.base import Claim, Placement
from router.heads.checkpoint import Checkpoint

_SHOWN = 6  #: of a checkpoint's models, in an error
BANDWIDTH = 0.1  #: of the Gaussian over strength
_BEYOND = BANDWIDTH / 2  #: how far a guess by size leaves the references' range at most
_SIZE = re.compile(r"(?<![A-Za-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", re.IGNORECASE)

Floats = npt.NDArray[np.float32]


def place(checkpoint: Checkpoint, claims: Sequence[Claim]) -> tuple[Floats, Floats, tuple[Placement, ...]]:
    """`vectors` [claims, K], `bias` [claims], and how each was found. Raises ConfigError naming the member."""
    mixed, placements = mix(checkpoint.meta.models, claims)
    return mixed @ checkpoint.vectors, mixed @ checkpoint.bias, placements


def mix(models: Sequence[ModelRecord], claims: Sequence[Claim]) -> tuple[Floats, tuple[Placement, ...]]:
    """`mixed` [claims, models]: a member's logits are `mixed @` those of the reference models. Raises ConfigError."""
    placed = [_placement(models, claim, f"`$.pool[{i}]") for i, claim in enumerate(claims)]
    return shares(models, placed, [True] * len(models)), tuple(placed)


def shares(models: Sequence[ModelRecord], placed: Sequence[Placement], known: Sequence[bool]) -> Floats:
    """[members, models]: how much each reference model speaks for each member, of those of which something is `known`.
    A row sums to 1, or is 0 where none of them does."""
    return np.stack([_row(models, one, known) for one in placed])


def interpolate(rows: Floats, strengths: Sequence[float], at: float, bandwidth: float = BANDWIDTH) -> Floats:
    """`rows` [references, n] read off at strength `at`: local linear regression, Gaussian weights.

    Outside the references' range the slope at the edge is kept, for at most one bandwidth.
    """
    s = np.asarray(strengths, np.float64)
    at = min(max(at, s.min() - bandwidth), s.max() + bandwidth)
    weight = np.exp(-0.5 * ((s - at) / bandwidth) ** 2)
    weight /= weight.sum()
    centre = float(weight @ s)
    spread = float(weight @ (s - centre) ** 2)
    mean = weight @ rows
    # A ridge of a hundredth of the bandwidth keeps the slope finite where all the weight is on one reference.
    slope = (weight * (s - centre)) @ rows / (spread + (bandwidth / 100) ** 2)
    return (mean + (at - centre) * slope).astype(np.float32)


def size_of(name: str) -> float | None:
    """Billions of parameters, as model names tell: `Qwen3-0.6B`, `mixtral-8x7b`, `smollm-135m`."""
    return max(map(_billions, _SIZE.findall(name)), default=None)


def strength_of_size(models: Sequence[ModelRecord], size_b: float) -> float | None:
    """The strength that references of this size have: a line over log size. Outside their range it flattens out, so
    that of two smaller ones the larger is still the stronger."""
    known = [(m.size_b, m.strength) for m in models if m.size_b and m.strength is not None]
    if len(known) < 3:
        return None
    x = np.log([size for size, _ in known])
    y = np.array([strength for _, strength in known])
    slope, intercept = np.polyfit(x, y, 1)
    line = float(intercept + slope * math.log(size_b))
    inside = float(np.clip(line, y.min(), y.max()))
    return inside + _BEYOND * math.tanh((line - inside) / _BEYOND)


def _billions(match: tuple[str, str, str]) -> float:
    times, number, unit = match
    return float(number) * int(times or 1) * (1.0 if unit in "bB" else 1e-3)


def _placement(models: Sequence[ModelRecord], claim: Claim, at: str) -> Placement:
    names = [model.name for model in models]
    by_name = {name.lower(): name for name in names}
    if claim.like:
        if claim.like.lower() not in by_name:
            near = difflib.get_close_matches(claim.like, names, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            expected = f"{claim.name}: like: expected a model of the checkpoint, {_few(names)}"
            raise ConfigError(f"{expected}; got {claim.like!r}{hint} - at {at}.like`")
        return Placement(name=claim.name, by="like", reference=by_name[claim.like.lower()])
    if claim.strength is not None:
        if not any(model.strength is not None for model in models):
            raise ConfigError(
                f"{claim.name}: strength: the checkpoint's models have none; expected `like`, {_few(names)}"
                f" - at {at}.strength`"
            )
        return Placement(name=claim.name, by="strength", strength=claim.strength)
    return _guess(models, by_name, claim)


def _few(names: Sequence[str]) -> str:
    """What there is, in a line that can be read."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"one of {', '.join(names[:_SHOWN])}{more}"


def _guess(models: Sequence[ModelRecord], by_name: dict[str, str], claim: Claim) -> Placement:
    """A member that says neither `like` nor `strength`."""
    for text in (claim.name, claim.model):
        base = text.rstrip("/").rpartition("/")[2].lower()
        if base in by_name:
            return Placement(name=claim.name, by="name", reference=by_name[base])
    told = (size_of(text.rstrip("/").rpartition("/")[2]) for text in (claim.model, claim.name))
    for size_b in (*told, claim.size_b):
        strength = size_b and strength_of_size(models, size_b)
        if strength is not None and size_b:
            return Placement(name=claim.name, by="size", strength=strength)
    return Placement(name=claim.name, by="default")


def _row(models: Sequence[ModelRecord], placed: Placement, known: Sequence[bool]) -> Floats:
    """See `shares`."""
    each = np.eye(len(models), dtype=np.float32)[np.asarray(known)]
    among = [model for model, is_known in zip(models, known, strict=True) if is_known]
    if placed.reference:
        chosen = [i for i, model in enumerate(among) if model.name == placed.reference]
        return np.asarray(each[chosen].sum(0), np.float32)
    if placed.strength is not None:
        rated = [i for i, model in enumerate(among) if model.strength is not None]
        if rated:
            return interpolate(each[rated], [among[i].strength or 0.0 for i in rated], placed.strength)
        return np.zeros(len(models), np.float32)
    return np.asarray(each.sum(0) / max(len(among), 1), np.float32)
