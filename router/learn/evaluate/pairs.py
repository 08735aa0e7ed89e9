"""Figures of a weak and a strong model: how much quality sending prompts to the strong one recovers, and calibration.

Reads predictions; does not know which router made them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from router.learn.data.corpus import Corpus
from router.learn.evaluate import metrics, results
from router.learn.evaluate import metrics_calibration as sureness
from router.learn.evaluate.evaluation import Pair, labels
from router.learn.evaluate.predict import Predicted
from router.learn.tune.operating_point import SHARES, shares_sent

Floats = npt.NDArray[np.float32]
ORACLE = "oracle"  #: knows scores: no prediction that could be sure or not, and no threshold
STEPS = 100  #: of the curve that is kept


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the user wants to know of every pair and table."""

    reaches: tuple[float, ...] = (0.5, 0.8)  #: of CPT
    against: str = ""  #: whom leads are taken over; empty: RouteLLM's head, and the best single model
    draws: int = 200
    seed: int = 0


def preferences(predicted: Sequence[Predicted], at: Pair) -> dict[str, Floats]:
    """Predicted gain of the strong model, of those who speak of all the pair's prompts."""
    gains = {one.name: one.quality[at.rows, at.strong] - one.quality[at.rows, at.weak] for one in predicted}
    return {name: gain for name, gain in gains.items() if np.isfinite(gain).all()}


def measured(
    corpus: Corpus,
    table: str,
    at: Pair,
    preferred: Mapping[str, Floats],
    predicted: Sequence[Predicted],
    folds: npt.NDArray[np.int64],
    asked: Asked,
) -> results.Pair:
    """`preferred`: by contestant, for the pair's prompts; those of `predicted` have qualities besides."""
    weak, strong = labels(corpus, at)
    qualities = {one.name: one.quality for one in predicted if one.name != ORACLE}
    samples = metrics.bootstrap(weak, strong, list(preferred.values()), asked.draws, asked.seed)
    base = list(preferred).index(asked.against) if asked.against in preferred else None
    figures = []
    for i, (name, gain) in enumerate(preferred.items()):
        more: dict[str, Any] = {}
        if base is not None and i != base:
            lead = metrics.curve(weak, strong, gain).apgr - metrics.curve(weak, strong, preferred[asked.against]).apgr
            more = {"lead": lead, "lead_95": metrics.interval(samples[:, i] - samples[:, base])}
        if name in qualities:
            more |= _sureness(weak, strong, qualities[name][at.rows][:, [at.weak, at.strong]])
        figures.append(_figures(corpus, at, name, gain, metrics.interval(samples[:, i]), folds, asked, more))
    return results.Pair(
        table=table, weak=corpus.columns[at.weak].model, strong=corpus.columns[at.strong].model, prompts=len(weak),
        weak_score=float(np.mean(weak, dtype=np.float64)), strong_score=float(np.mean(strong, dtype=np.float64)),
        against=asked.against if base is not None else "", routers=tuple(figures),
    )  # fmt: skip


def _figures(
    corpus: Corpus,
    at: Pair,
    name: str,
    gain: Floats,
    spread: metrics.Interval,
    folds: npt.NDArray[np.int64],
    asked: Asked,
    more: Mapping[str, Any],
) -> results.PairFigures:
    curve = metrics.curve(*labels(corpus, at), gain)
    shares = np.linspace(0, 1, STEPS + 1)
    pgr = np.interp(shares, np.linspace(0, 1, len(curve.pgr)), curve.pgr)
    sent = () if name == ORACLE else shares_sent(gain, folds[at.rows], SHARES)
    return results.PairFigures(
        router=name, apgr=curve.apgr, apgr_95=spread, pgr=tuple(pgr.tolist()),
        cpt=tuple(results.Cpt(reach, curve.cpt(reach)) for reach in asked.reaches),
        sent=tuple(map(results.Sent, SHARES, sent)),
        share_error=max((abs(found - share) for found, share in zip(sent, SHARES, strict=False)), default=None),
        tasks=_mistakes(corpus.tasks[at.rows], *labels(corpus, at), gain), **more,
    )  # fmt: skip


def _sureness(weak: Floats, strong: Floats, quality: Floats) -> dict[str, Any]:
    """Means of both models, and each one's reliability."""
    both = [(weak, quality[:, 0]), (strong, quality[:, 1])]
    mass = [sureness.equal_mass(*one) for one in both]
    return {
        "brier": float(np.mean([metrics.brier(*one) for one in both])),
        "ece_mass": float(np.mean([sureness.ece(bins) for bins in mass])),
        "ece_width": float(np.mean([sureness.ece(sureness.equal_width(*one)) for one in both])),
        "reliability_weak": mass[0],
        "reliability_strong": mass[1],
    }


def _mistakes(
    tasks: npt.NDArray[np.str_], weak: Floats, strong: Floats, gain: Floats
) -> tuple[results.TaskMistakes, ...]:
    """By task, when as many prompts are sent as gain by it: a perfect router would make no mistake."""
    sent = np.zeros(len(gain), bool)
    sent[np.argsort(-gain, kind="stable")[: int((strong > weak).sum())]] = True
    names, index, count = np.unique(tasks, return_inverse=True, return_counts=True)
    missed = np.bincount(index, ~sent & (strong > weak), len(names)) / count
    needless = np.bincount(index, sent & (strong <= weak), len(names)) / count
    return tuple(map(results.TaskMistakes, names.tolist(), count.tolist(), missed.tolist(), needless.tolist()))
