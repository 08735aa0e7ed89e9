"""Adds a model to a trained `mf` router from a few labels: fits its vector and bias, and changes nothing else.

The reference models give the prior: their vectors are regressed on strength, and the scatter around the line is the
prior's covariance (empirical Bayes; Efron and Morris, 1973). Where the new model's strength is not given, it is fitted
from the labels too. So few labels move the model along directions in which models are known to differ.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from router import heads
from router.artefacts.artefact import DataRecord, ModelRecord
from router.errors import ConfigError
from router.heads import Artefact, checkpoint
from router.heads.checkpoint import Checkpoint
from router.heads.curves import X, Y
from router.heads.lengths import TENSORS
from router.heads.placement import BANDWIDTH, interpolate, size_of
from router.learn import output
from router.learn.data import records
from router.learn.data.outcomes import Outcomes, model_name, read
from router.learn.fit.design import bags
from router.native.scorer import Encoder

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
FEWEST = 3  #: reference models that a scatter can be taken of
WIDE = 1.0  #: a bias's spread where there are fewer
STEPS = 50
SMALL = 1e-6
JUDGED = 5  #: folds
GRID = 21  #: strengths that are tried where it is not told


class Prior(msgspec.Struct, frozen=True):
    """Of a model's vector with its bias behind it: [K + 1], and the inverse of its covariance [K + 1, K + 1]."""

    mean: Doubles
    precision: Doubles


class Judged(msgspec.Struct, frozen=True):
    """Mean squared error of quality (Brier score) on the new model's labels, each predicted without itself."""

    added: float  #: by folds of the labels
    placed: float  #: before any label: by strength, or as the references' mean
    constant: float  #: by the mean of the labels


class Added(msgspec.Struct, frozen=True):
    """What `headgate train --add-model` reports."""

    out: str
    model: str
    labels: int
    strength: float | None
    models: int  #: of the new checkpoint
    brier: Judged
    seen: bool = False  #: the base was trained on one of these tables: the Brier scores are too good


def run(
    paths: Sequence[Path], base: str, name: str, out: Path, *, strength: float | None = None, command: str = ""
) -> Added:
    """`headgate train --add-model` without the command line. Raises ConfigError."""
    output.check("--out", out, paths)
    own = heads.read(heads.DEFAULT if base == "default" else base)
    checked(own, name)
    tables = [read(path) for path in paths]
    texts, scores = labelled(tables, name)
    made, judged = add(own, name, texts, scores, strength)
    heads.write(out, signed(made, tables, command))
    known = {record.sha256 for record in own.meta.data}
    seen = any(table.sha256 in known for table in tables)
    return Added(records.told(out), model_name(name), len(texts), strength, len(made.meta.models), judged, seen)


def labelled(tables: Sequence[Outcomes], name: str) -> tuple[list[str], Floats]:
    """The prompts that the model answered, and its scores. Raises ConfigError where there are none."""
    texts: list[str] = []
    scores: list[Floats] = []
    for table in tables:
        if model_name(name) in table.models:
            own = table.scores[:, table.models.index(model_name(name))]
            rows = np.flatnonzero(np.isfinite(own))
            texts += [table.prompts[i].text for i in rows]
            scores.append(own[rows])
    if not texts:
        models = dict.fromkeys(model for table in tables for model in table.models)
        raise ConfigError(f"--add-model: expected one of {', '.join(models)}, the tables' models; got {name!r}")
    return texts, np.concatenate(scores)


def add(
    base: Artefact, name: str, texts: Sequence[str], scores: Floats, strength: float | None = None
) -> tuple[Artefact, Judged]:
    """The artefact with one model more. `scores` [texts] in 0..1. Raises ConfigError for a base that is no `mf` router,
    and for a model that it has already."""
    own = checked(base, name)
    h = hidden(own, texts)
    start = priors(own, strength)
    return _with(base, name, fit(h, scores, start), len(texts), strength), _judged(h, scores, start)


def checked(base: Artefact, name: str) -> Checkpoint:
    """Raises ConfigError; see `add`."""
    if base.meta.router != "mf":
        raise ConfigError(f"{base.path}: router: expected mf, whose models are vectors; got {base.meta.router}")
    names = [model.name for model in base.meta.models]
    if model_name(name) in names:
        raise ConfigError(f"--add-model: {model_name(name)!r} is in {base.path} already; train anew to change it")
    return checkpoint.of(base)


def hidden(own: Checkpoint, texts: Sequence[str]) -> Doubles:
    """[texts, K + 1]: what the native scorer takes to the models, and a one for the bias."""
    pooled = bags(Encoder(own.encoder, own.vocab), texts) @ own.table.astype(np.float32)
    return np.concatenate([np.asarray(pooled, np.float64), np.ones((len(texts), 1))], axis=1)


def priors(own: Checkpoint, strength: float | None = None) -> tuple[Prior, ...]:
    """What the reference models say of one more: at its strength, or at each strength that it may have."""
    rows = np.concatenate([own.vectors, own.bias[:, None]], axis=1).astype(np.float64)
    known = [i for i, model in enumerate(own.meta.models) if model.strength is not None]
    if len(known) >= FEWEST:
        return _along(rows[known], np.array([own.meta.models[i].strength or 0.0 for i in known]), strength)
    if len(rows) < FEWEST:
        spread = np.append(np.full(rows.shape[1] - 1, np.sqrt((rows[:, :-1] ** 2).mean()) + 1e-6), WIDE)
        return (Prior(rows.mean(0), np.diag(spread**-2.0)),)
    left = (rows - rows.mean(0)) * len(rows) / (len(rows) - 1)
    return (Prior(rows.mean(0), _precision(left)),)


def fit(h: Doubles, scores: npt.NDArray[np.floating], start: Sequence[Prior]) -> Doubles:
    """[K + 1]: vector and bias, each prior's most likely one weighted by how well it explains the labels (Laplace's
    approximation of the evidence). Without labels, the priors' weighted mean."""
    found: list[tuple[Doubles, float]] = []
    for one in start:
        found.append(_most_likely(h, scores, one, found[-1][0] if found else one.mean))
    evidence = np.array([evidence for _, evidence in found])
    share = np.exp(evidence - evidence.max())
    return np.asarray(share @ np.array([at for at, _ in found]) / share.sum())


def _most_likely(h: Doubles, scores: npt.NDArray[np.floating], start: Prior, at: Doubles) -> tuple[Doubles, float]:
    """By Newton's method from `at`; with the log evidence, but for a constant."""
    value = _loss(h, scores, start, at)
    for _ in range(STEPS):
        quality = _sigmoid(h @ at)
        slope = h.T @ (quality - scores) + start.precision @ (at - start.mean)
        step = np.linalg.solve(_curvature(h, quality, start), slope)
        while (then := _loss(h, scores, start, at - step)) > value + SMALL * (1 + abs(value)) and np.abs(
            step
        ).max() > SMALL:
            step = step / 2
        at, value = at - step, then
        if np.abs(step).max() < SMALL:
            break
    return at, -value - 0.5 * float(np.linalg.slogdet(_curvature(h, _sigmoid(h @ at), start))[1])


def signed(made: Artefact, tables: Sequence[Outcomes], command: str) -> Artefact:
    """With the tables among its data, and the command behind that of the base."""
    more = tuple(DataRecord(name=table.name, sha256=table.sha256, rows=table.rows) for table in tables)
    data = (*made.meta.data, *more)
    recipe = f"{made.meta.recipe}; {command}" if made.meta.recipe else command
    return msgspec.structs.replace(made, meta=msgspec.structs.replace(made.meta, data=data, recipe=recipe))


def _along(rows: Doubles, strengths: Doubles, at: float | None) -> tuple[Prior, ...]:
    """Around the line along strength. Each reference's deviation is from the line that the others make. Where `at` is
    not told, one prior for each strength that it may have, all alike likely."""
    left = np.empty_like(rows)
    for i in range(len(rows)):
        others = np.arange(len(rows)) != i
        left[i] = rows[i] - _line(rows[others], strengths[others], strengths[i])
    precision = _precision(left)
    if at is not None:
        return (Prior(_line(rows, strengths, at), precision),)
    grid = np.linspace(max(strengths.min() - BANDWIDTH, 0), min(strengths.max() + BANDWIDTH, 1), GRID)
    return tuple(Prior(_line(rows, strengths, s), precision) for s in grid)


def _line(rows: Doubles, strengths: Doubles, at: float) -> Doubles:
    return np.asarray(interpolate(rows.astype(np.float32), strengths.tolist(), float(at)), np.float64)


def _precision(left: Doubles) -> Doubles:
    """The inverse covariance of deviations [references, K + 1], shrunk towards independence (Ledoit and Wolf, 2004):
    there are hardly more references than dimensions."""
    from sklearn.covariance import ledoit_wolf

    spread = np.sqrt((left**2).mean(0))
    spread = np.maximum(spread, 1e-3 * spread.max() + 1e-9)
    alike, _ = ledoit_wolf(left / spread, assume_centered=True)
    return np.asarray(np.linalg.inv(alike) / np.outer(spread, spread))


def _with(base: Artefact, name: str, found: Doubles, labels: int, strength: float | None) -> Artefact:
    arrays = dict(base.arrays)
    arrays["vectors"] = np.concatenate([arrays["vectors"], found[None, :-1].astype(np.float32)])
    arrays["bias"] = np.append(arrays["bias"], np.float32(found[-1]))
    for key in (name for name in TENSORS if name in arrays):  # its answers' lengths are not learnt: nothing is known
        arrays[key] = np.concatenate([arrays[key], np.zeros_like(arrays[key][:1])])
    for key in (X, Y):
        if key in arrays:
            line = np.linspace(-4, 4, arrays[key].shape[1], dtype=np.float32)
            arrays[key] = np.concatenate([arrays[key], line[None]])
    record = ModelRecord(name=model_name(name), strength=strength, prompts=labels, size_b=size_of(name))
    meta = msgspec.structs.replace(base.meta, models=(*base.meta.models, record))
    return msgspec.structs.replace(base, meta=meta, arrays=arrays)


def _judged(h: Doubles, scores: Floats, start: Sequence[Prior]) -> Judged:
    folds = np.random.default_rng(0).permutation(len(scores)) % min(JUDGED, len(scores))
    said, constant = np.empty(len(scores)), np.empty(len(scores))
    for fold in range(folds.max() + 1):
        out = folds == fold
        said[out] = _sigmoid(h[out] @ fit(h[~out], scores[~out], start))
        constant[out] = scores[~out].mean() if (~out).any() else 0.5
    placed = _sigmoid(h @ fit(h[:0], scores[:0], start))
    return Judged(*(round(float(((one - scores) ** 2).mean()), 4) for one in (said, placed, constant)))


def _loss(h: Doubles, scores: npt.NDArray[np.floating], start: Prior, at: Doubles) -> float:
    z = h @ at
    away = at - start.mean
    return float((np.logaddexp(0, z) - scores * z).sum() + 0.5 * away @ start.precision @ away)


def _curvature(h: Doubles, quality: Doubles, start: Prior) -> Doubles:
    return np.asarray((h.T * np.maximum(quality * (1 - quality), 1e-6)) @ h + start.precision)


def _sigmoid(z: Doubles) -> Doubles:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * z)))
