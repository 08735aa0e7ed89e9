"""Logistic regression of right and wrong on evidence, with indicators for missing numbers. Reads no tables."""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import FORMAT, Artefact, DataRecord, Metadata, ModelRecord
from router.errors import ConfigError
from router.verify.evidence import Evidence
from router.verify.verifier import NAMES, ROUTER, matrix, standard

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.bool_]
RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0)
INNER = 4  #: folds that choose the ridge
NEWTONS = 25
FEWEST = 20  #: answers


class _Line(msgspec.Struct, frozen=True):
    """One line of weights, over the values and then over what is unknown."""

    weights: Floats
    bias: float
    ridge: float


def fit(
    evidence: Sequence[Evidence],
    right: npt.NDArray[np.floating],
    folds: npt.NDArray[np.int64],
    models: Sequence[str],
    *,
    data: tuple[DataRecord, ...] = (),
    ridge: float | None = None,
) -> Artefact:
    """`right[i]` in 0..1: was the i-th answer correct. `folds[i]` is the fold that holds it out when the ridge is
    chosen. `models`: whose answers these are. Raises ConfigError where there is too little to learn from.

    Answers beside a second one also teach the line for an answer alone, and what agreement means when the second's
    length is not known.
    """
    y = np.asarray(right, np.float64)
    if len(y) < FEWEST or not 0 < y.mean() < 1:
        raise ConfigError(
            f"expected at least {FEWEST} answers, right and wrong ones; got {len(y)}, {y.mean():.0%} right"
        )
    beside = np.array([one.agreement is not None for one in evidence])
    seconded = [one for one in evidence if one.agreement is not None]
    alone = matrix([_without(one, "agreement", "second_tokens") for one in evidence])
    full, brief = matrix(seconded), matrix([_without(one, "second_tokens") for one in seconded])
    centre, scale = scales(np.concatenate([alone, full]))
    lines = [_line(_columns(alone, centre, scale), y, folds, ridge)] * 2
    if beside.sum() >= FEWEST and 0 < y[beside].mean() < 1:
        both = _columns(np.concatenate([full, brief]), centre, scale)
        lines[1] = _line(both, np.tile(y[beside], 2), np.tile(folds[beside], 2), ridge)
    return _artefact(lines, centre, scale, models, data)


def _without(evidence: Evidence, *statistics: str) -> Evidence:
    return msgspec.structs.replace(evidence, **dict.fromkeys(statistics))


def scales(values: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of what is known; 0 and 1 where nothing is, or all is alike."""
    known = np.isfinite(values)
    count = np.maximum(known.sum(0), 1)
    centre = np.where(known, values, 0).sum(0) / count
    spread = np.sqrt((np.where(known, values - centre, 0) ** 2).sum(0) / count)
    return centre, np.where(spread > 1e-6, spread, 1.0)


def _columns(values: Floats, centre: Floats, scale: Floats) -> Floats:
    """[answers, 2 * NAMES]: the values, and 1 where they are unknown."""
    return np.concatenate([standard(values, centre, scale), ~np.isfinite(values)], axis=1)


def _line(x: Floats, y: Floats, folds: npt.NDArray[np.int64], ridge: float | None) -> _Line:
    moving = x.std(0) > 1e-9  # what never varies says nothing, and would only share the bias
    x = x[:, moving]
    chosen = ridge if ridge is not None else _best_ridge(x, y, folds)
    found = newton(x, y, chosen)
    weights = np.zeros(len(moving))
    weights[moving] = found[:-1]
    return _Line(weights, float(found[-1]), chosen)


def _best_ridge(x: Floats, y: Floats, folds: npt.NDArray[np.int64]) -> float:
    losses = dict.fromkeys(RIDGES, 0.0)
    for fold in np.unique(folds):
        test = folds == fold
        if test.all():
            return RIDGES[len(RIDGES) // 2]
        for ridge in RIDGES:
            found = newton(x[~test], y[~test], ridge)
            losses[ridge] += float(_losses(x[test] @ found[:-1] + found[-1], y[test]).sum())
    return min(losses, key=lambda ridge: losses[ridge])


def newton(x: Floats, y: Floats, ridge: float) -> Floats:
    """Weights and bias that minimise the log loss plus `ridge / 2 * |weights|^2`. No step that makes it worse."""
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    penalty = np.full(x.shape[1], ridge)
    penalty[-1] = 1e-6
    at = np.zeros(x.shape[1])
    loss = _losses(x @ at, y).sum()
    for _ in range(NEWTONS):
        quality = 0.5 * (1 + np.tanh(0.5 * (x @ at)))
        slope = x.T @ (quality - y) + penalty * at
        step = np.linalg.solve((x * (quality * (1 - quality))[:, None]).T @ x + np.diag(penalty), slope)
        for _ in range(8):
            ahead = at - step
            now = _losses(x @ ahead, y).sum() + 0.5 * penalty @ ahead**2
            if now <= loss:
                break
            step = step / 2
        else:
            return at
        done = loss - now < 1e-9 * max(1.0, loss)
        at, loss = ahead, now
        if done:
            break
    return at


def _losses(logits: Floats, y: Floats) -> Floats:
    return np.logaddexp(0, logits) - y * logits


def _artefact(
    lines: Sequence[_Line], centre: Floats, scale: Floats, models: Sequence[str], data: tuple[DataRecord, ...]
) -> Artefact:
    n = len(NAMES)
    stacked = np.stack([line.weights for line in lines])
    arrays = {
        "weights": stacked[:, :n], "unknown": stacked[:, n:], "centre": centre, "scale": scale,
        "bias": np.array([line.bias for line in lines]),
    }  # fmt: skip
    meta = Metadata(
        format=FORMAT,
        models=tuple(ModelRecord(name=name) for name in models),
        data=data,
        router=ROUTER,
        options={"names": list(NAMES), "ridges": [line.ridge for line in lines]},
    )
    return Artefact(meta=meta, arrays={name: np.ascontiguousarray(a, np.float32) for name, a in arrays.items()})
