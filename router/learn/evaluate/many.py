"""Figures of all models of a table: accuracy by the highest predicted quality, and what quality costs at each price.

A decision weighs a model's mean cost over the training prompts, for no one knows an answer's length beforehand; what it
then pays is the answer's own cost.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from router.learn.data.corpus import Corpus
from router.learn.evaluate import metrics, metrics_cost, results
from router.learn.evaluate import metrics_calibration as sureness
from router.learn.evaluate.pairs import ORACLE, Asked
from router.learn.evaluate.predict import Predicted
from router.native import policy

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
PRICES = 121  #: on the curve, from quality alone to cost alone
BEST_SINGLE = "best single"


class Cells(msgspec.Struct, frozen=True):
    """The tested prompts of a table that every model has answered. [prompts, models] but for the tasks."""

    table: str
    models: tuple[str, ...]
    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    scores: Doubles
    tasks: npt.NDArray[np.str_]
    cost_usd: Doubles | None  #: of each answer
    expected_usd: Doubles | None  #: as known before it is given


def cells(corpus: Corpus, number: int, name: str, cost_usd: Doubles, expected_usd: Doubles) -> Cells:
    """Of the models that have labels. `cost_usd`, `expected_usd` [prompts, columns]: NaN where unknown; a table has
    costs where all of these do."""
    labelled = np.isfinite(corpus.scores)
    columns = np.array([i for i, c in enumerate(corpus.columns) if c.table == number and labelled[:, i].any()])
    known = labelled[:, columns].all(1) & (corpus.table == number)
    at = np.ix_(rows := np.flatnonzero(known), columns)
    priced = bool(np.isfinite(cost_usd[at]).all() and np.isfinite(expected_usd[at]).all())
    return Cells(
        name, tuple(corpus.columns[i].model for i in columns), rows, columns, corpus.scores[at].astype(np.float64),
        corpus.tasks[rows], cost_usd[at] if priced else None, expected_usd[at] if priced else None,
    )  # fmt: skip


def measured(found: Cells, predicted: Sequence[Predicted], asked: Asked) -> results.Many:
    """Raises nothing: contestants that do not speak of every model are left out."""
    best = int(found.scores.mean(0).argmax())
    speak = {one.name: one.quality[np.ix_(found.rows, found.columns)] for one in predicted}
    speak = {name: quality for name, quality in speak.items() if np.isfinite(quality).all()}
    won = {name: _score(found, quality.argmax(1)) for name, quality in speak.items()}
    against = asked.against if asked.against in won else BEST_SINGLE
    base = won.get(against, found.scores[:, best])
    draws = _draws(len(found.rows), asked)
    figures = [
        _figures(
            found, name, won[name], base, best, draws, _sureness(found, name, quality) | _costs(found, quality, best)
        )
        for name, quality in speak.items()
    ]
    costs = [None] * len(found.models) if found.cost_usd is None else found.cost_usd.mean(0).tolist()
    return results.Many(
        table=found.table, prompts=len(found.rows), best_single=found.models[best], against=against,
        models=tuple(map(results.Model, found.models, found.scores.mean(0).tolist(), costs)),
        single_aiq=_aiq(found, found.cost_usd.mean(0), found.scores.mean(0)) if found.cost_usd is not None else None,
        routers=tuple(figures),
    )  # fmt: skip


def accuracy(found: Cells, said: Predicted, asked: Asked) -> tuple[float, metrics.Interval] | None:
    """Of one contestant, alone; None where it does not speak of every model."""
    quality = said.quality[np.ix_(found.rows, found.columns)]
    if not np.isfinite(quality).all():
        return None
    won = _score(found, quality.argmax(1))
    return float(won.mean()), _interval(won, _draws(len(won), asked))


def curve(found: Cells, quality: Doubles | Floats) -> tuple[results.CostPoint, ...]:
    """From quality alone to cost alone, chosen as the policy chooses: argmax quality - price * expected cost. Empty
    without costs."""
    if found.cost_usd is None or found.expected_usd is None:
        return ()
    expected, said = np.ascontiguousarray(found.expected_usd, np.float64), np.ascontiguousarray(quality, np.float64)
    span = float(np.ptp(expected)) or 1.0
    points = []
    chosen = np.empty(len(said), np.int32)
    for price in [0.0, *np.geomspace(1e-3, 1e3, PRICES - 2) / span, np.inf]:
        if np.isfinite(price):
            policy.best(said, expected, price, chosen)
        else:
            chosen[:] = expected.mean(0).argmin()
        paid = float(found.cost_usd[np.arange(len(chosen)), chosen].mean())
        shown = float(price) if np.isfinite(price) else None
        points.append(results.CostPoint(shown, paid, float(_score(found, chosen).mean())))
    return tuple(points)


def _score(found: Cells, chosen: npt.NDArray[np.signedinteger]) -> Doubles:
    return np.asarray(found.scores[np.arange(len(chosen)), chosen])


def _draws(prompts: int, asked: Asked) -> npt.NDArray[np.int64]:
    return np.random.default_rng(asked.seed).integers(0, prompts, (asked.draws, prompts))


def _figures(
    found: Cells, name: str, won: Doubles, base: Doubles, best: int, draws: npt.NDArray[np.int64], more: dict[str, Any]
) -> results.ManyFigures:
    single, top = found.scores[:, best].mean(), found.scores.max(1).mean()
    lead = won - base
    return results.ManyFigures(
        router=name, accuracy=float(won.mean()), accuracy_95=_interval(won, draws), lead=float(lead.mean()),
        lead_95=_interval(lead, draws), of_gap=float((won.mean() - single) / (top - single)) if top > single else 0.0,
        tasks=_regret(found, won), **more,
    )  # fmt: skip


def _interval(values: Doubles, draws: npt.NDArray[np.int64]) -> metrics.Interval:
    alone = len(values) < 2
    return metrics.interval(np.array([np.nan if alone else values[rows].mean() for rows in draws]))


def _sureness(found: Cells, name: str, quality: Floats) -> dict[str, Any]:
    """Means of all models."""
    if name == ORACLE:
        return {}
    each = [(found.scores[:, i], quality[:, i]) for i in range(len(found.models))]
    return {
        "brier": float(np.mean([metrics.brier(*one) for one in each])),
        "ece_mass": float(np.mean([sureness.ece(sureness.equal_mass(*one)) for one in each])),
        "ece_width": float(np.mean([sureness.ece(sureness.equal_width(*one)) for one in each])),
    }


def _costs(found: Cells, quality: Floats, best: int) -> dict[str, Any]:
    points = curve(found, quality)
    if found.cost_usd is None:
        return {}
    cost, score = np.array([point.cost_usd for point in points]), np.array([point.score for point in points])
    single = float(found.cost_usd[:, best].mean())
    reached = metrics_cost.cost_of(cost, score, float(found.scores[:, best].mean()))
    return {
        "aiq": _aiq(found, cost, score),
        "saving": 1 - reached / single if np.isfinite(reached) and single else None,
        "curve": points,
    }


def _aiq(found: Cells, cost: Doubles, score: Doubles) -> float | None:
    """From the cost of the model that looks cheapest, where every curve ends, to that of the dearest; None where these
    are one."""
    assert found.cost_usd is not None
    assert found.expected_usd is not None
    singles = found.cost_usd.mean(0)
    low, high = float(singles[found.expected_usd.mean(0).argmin()]), float(singles.max())
    return metrics_cost.aiq(cost, score, low, high) if low < high else None


def _regret(found: Cells, won: Doubles) -> tuple[results.TaskRegret, ...]:
    names, index, count = np.unique(found.tasks, return_inverse=True, return_counts=True)
    total = np.bincount(index, found.scores.max(1) - won, len(names))
    return tuple(map(results.TaskRegret, names.tolist(), count.tolist(), (total / count).tolist()))
