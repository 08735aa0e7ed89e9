"""Held-out figures of a pair of models: APGR, CPT50 and CPT80, with an interval. Reads logits of any router."""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from router.errors import ConfigError
from router.learn.data.corpus import Corpus
from router.learn.evaluate import metrics
from router.learn.fit.logistic import sigmoid

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.bool_]


class Pair(msgspec.Struct, frozen=True):
    """Two columns of a corpus, the weak one first, and the prompts that both have answered."""

    weak: int
    strong: int
    rows: Rows


class Figures(msgspec.Struct, frozen=True):
    """One router on one pair."""

    apgr: float
    cpt50: float
    cpt80: float
    low: float  #: of the bootstrap's central 95 % of APGR
    high: float
    prompts: int


def pair(corpus: Corpus, weak: str, strong: str, table: int | None = None) -> Pair:
    """Raises ConfigError where a model is unknown, or the weak one is the better one."""
    for name in (weak, strong):
        if name not in corpus.models:
            raise ConfigError(f"--pair: expected two of {', '.join(corpus.models)}; got {name!r}")
    return _checked(corpus, corpus.column(weak, table), corpus.column(strong, table))


def widest_pair(corpus: Corpus, table: int) -> Pair | None:
    """The weakest and the strongest model of a table, by mean score over what each answered. Where they do not differ
    so on their common prompts, as specialists of equal means, the two models of the table that differ most on theirs;
    None where no two differ: there is no gain whose share APGR could be."""
    known = np.isfinite(corpus.scores)
    columns = np.array([i for i, column in enumerate(corpus.columns) if column.table == table and known[:, i].any()])
    if len(columns) < 2:
        return None
    means = [float(np.nanmean(corpus.scores[:, i], dtype=np.float64)) for i in columns]
    weak, strong = int(np.argmin(means)), int(np.argmax(means))
    gains = _gains(corpus.scores[:, columns])
    if not gains[weak, strong] > 0:
        weak, strong = (int(i) for i in np.unravel_index(int(np.argmax(gains)), gains.shape))
    if not gains[weak, strong] > 0:
        return None
    return _checked(corpus, int(columns[weak]), int(columns[strong]))


def no_pair(corpus: Corpus, table: int) -> str:
    """Why a table has no widest pair, and what would give it one."""
    seen = np.isfinite(corpus.scores)
    columns = [i for i, column in enumerate(corpus.columns) if column.table == table and seen[:, i].any()]
    if len(columns) < 2:
        models = ", ".join(repr(corpus.columns[i].model) for i in columns) or "none"
        return f"expected at least two models to route between, got {models} only"
    if seen[:, columns].sum(1).max() < 2:
        return "no two of its models have answered the same prompt: nothing compares them"
    return "no two of its models differ in mean score on the prompts that both have answered: there is no gain to share"


def preference(logits: Floats, at: Pair) -> Floats:
    """Predicted gain of the strong model over the weak one, for the pair's prompts."""
    return sigmoid(logits[at.rows, at.strong]) - sigmoid(logits[at.rows, at.weak])


def figures(corpus: Corpus, at: Pair, preferred: Floats, draws: int = 200) -> Figures:
    """`preferred`: one number for each of the pair's prompts."""
    weak, strong = labels(corpus, at)
    curve = metrics.curve(weak, strong, preferred)
    spread = metrics.interval(metrics.bootstrap(weak, strong, [preferred], draws)[:, 0])
    return Figures(curve.apgr, curve.cpt(0.5), curve.cpt(0.8), spread.low, spread.high, len(weak))


def labels(corpus: Corpus, at: Pair) -> tuple[Floats, Floats]:
    """Scores of the weak and of the strong model on the pair's prompts."""
    return corpus.scores[at.rows, at.weak], corpus.scores[at.rows, at.strong]


def within(at: Pair, rows: Rows) -> Pair:
    """The pair on some prompts only."""
    return Pair(at.weak, at.strong, at.rows & rows)


def apgr_of(corpus: Corpus, at: Pair, preferred: Sequence[float] | Floats) -> float:
    """APGR alone."""
    weak, strong = labels(corpus, at)
    return metrics.curve(weak, strong, np.asarray(preferred)).apgr


def _gains(scores: Floats) -> npt.NDArray[np.float64]:
    """[models, models] of `scores` [prompts, models]: how much higher the second scores than the first, in the mean of
    their common prompts. 0 where the sums differ by no more than `metrics.EVEN`, and where no prompt is common."""
    known = np.isfinite(scores).astype(np.float64)
    total = np.where(known > 0, scores, 0).astype(np.float64).T @ known  # of the first, over the common prompts
    gap = total.T - total
    return np.asarray(np.where(np.abs(gap) > metrics.EVEN, gap, 0) / np.maximum(known.T @ known, 1))


def _checked(corpus: Corpus, weak: int, strong: int) -> Pair:
    rows = np.isfinite(corpus.scores[:, weak]) & np.isfinite(corpus.scores[:, strong])
    names = corpus.columns[weak].model, corpus.columns[strong].model
    if not rows.any():
        raise ConfigError(f"{names[0]} and {names[1]} share no prompt: nothing tells them apart")
    if not _gains(corpus.scores[:, [weak, strong]])[0, 1] > 0:
        raise ConfigError(
            f"{names[1]} scores no higher than {names[0]} on their common prompts; expected weak, then strong"
        )
    return Pair(weak, strong, rows)
