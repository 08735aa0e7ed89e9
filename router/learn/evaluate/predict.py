"""Predicts held-out prompts by the same head that would be served. Knows no method and no figure."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from router import heads
from router.heads import Artefact, Claim, Head
from router.learn.data.corpus import Corpus
from router.learn.data.folds import by_group
from router.learn.evaluate.served import SURE, fitted
from router.learn.evaluate.splits import Split
from router.learn.fit.calibration import Method, calibrated
from router.learn.routers.base import Columns, Rows, Trainer

Floats = npt.NDArray[np.float32]
OnStep = Callable[[], None]
INNER = 3  #: folds, where calibration needs its own
QUERIES, ENOUGH_S = 200, 2.0  #: decisions are timed on so many prompts, or for so long


class Predicted(msgspec.Struct, frozen=True, kw_only=True):
    """What one contestant says. `quality` [prompts, columns]: NaN where it was not asked, or has nothing to say."""

    name: str
    kind: str  #: trained, checkpoint, or baseline
    quality: Floats
    seconds: float = 0.0
    decision_us: float | None = None
    batch_per_s: float | None = None
    leaks: tuple[str, ...] = ()
    placed: tuple[str, ...] = ()


def trained(
    name: str,
    trainer: Trainer,
    corpus: Corpus,
    splits: Sequence[Split],
    calibration: Method = "none",
    on_step: OnStep = lambda: None,
) -> Predicted:
    """One fit a split. A split's curves are fitted on what the other splits' fits say of its own training prompts;
    where these say nothing, as with a single split, on what inner folds of the training prompts say of one another."""
    start, raw = time.monotonic(), _Asked(corpus)
    made = [(split, *raw.fit(trainer, split, on_step)) for split in splits]
    said = raw if calibration == "none" else _Asked(corpus)
    for split, artefact, columns in made if calibration != "none" else []:
        inner = _Asked(corpus) if _alone(split, splits) else raw
        for part in _inner(corpus, split) if inner is not raw else ():
            inner.fit(trainer, part, on_step)
        known, scores = inner.quality[split.train][:, columns], corpus.scores[split.train][:, columns]
        said.ask(split, calibrated(artefact, _log_odds(known), scores, calibration), columns)
    return said.predicted(name, "trained", time.monotonic() - start)


def fits(corpus: Corpus, splits: Sequence[Split], calibration: Method) -> int:
    """How many `trained` makes."""
    inner = [len(_inner(corpus, split)) for split in splits if calibration != "none" and _alone(split, splits)]
    return len(splits) + sum(inner)


def of_checkpoint(path: str | Path, corpus: Corpus, tested: Rows, sha256s: dict[str, str]) -> Predicted:
    """A checkpoint as it is, its models found by name, its unknown ones as a pool would place them. `sha256s`: digest
    to name of the tables at hand. Raises ConfigError."""
    start, artefact = time.monotonic(), heads.read(heads.DEFAULT if str(path) == "default" else path)
    said = _Asked(corpus)
    said.ask(Split(~tested, tested), artefact, np.zeros(0, np.int64))
    leaks = tuple(sha256s[data.sha256] for data in artefact.meta.data if data.sha256 in sha256s)
    return said.predicted(checkpoint_name(path), "checkpoint", time.monotonic() - start, leaks=leaks)


def checkpoint_name(path: str | Path) -> str:
    """How a checkpoint is called in figures."""
    return f"{Path(path).stem} (file)"


def labelled(corpus: Corpus, rows: Rows) -> Columns:
    """Columns with a label among the rows."""
    return np.flatnonzero(np.isfinite(corpus.scores[rows]).any(axis=0))


def speaker(corpus: Corpus, columns: Columns, column: int) -> int | None:
    """Which of the columns speaks for one: itself, else its model in the table where that has most labels."""
    if column in columns:
        return column
    alike = [int(i) for i in columns if corpus.columns[i].model == corpus.columns[column].model]
    return max(alike, key=lambda i: int(np.isfinite(corpus.scores[:, i]).sum())) if alike else None


def _alone(split: Split, splits: Sequence[Split]) -> bool:
    """Whether no other split tests what this one trains on."""
    return not any((split.train & other.test).any() for other in splits)


def _inner(corpus: Corpus, split: Split) -> list[Split]:
    """Folds of the training prompts, by question."""
    fold = by_group(corpus.prompts, INNER)
    parts = [Split(split.train & (fold != i), split.train & (fold == i)) for i in range(INNER)]
    return [part for part in parts if part.train.any() and part.test.any()]


class _Asked:
    """What heads have said so far, and how fast."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self.quality: Floats = np.full(corpus.scores.shape, np.nan, np.float32)
        self._prompts, self._seconds, self._decision_us = 0, 0.0, 0.0
        self._placed: dict[str, None] = {}

    def fit(self, trainer: Trainer, split: Split, on_step: OnStep) -> tuple[Artefact, Columns]:
        """Trained on the split, and asked."""
        columns = labelled(self._corpus, split.train)
        artefact = fitted(trainer, split.train, columns, on_step)
        self.ask(split, artefact, columns)
        return artefact, columns

    def ask(self, split: Split, artefact: Artefact, columns: Columns) -> None:
        """Every tested prompt, of all models of its table."""
        for table in np.unique(self._corpus.table[split.test]):
            rows = np.flatnonzero(split.test & (self._corpus.table == table))
            tested = np.array([i for i, column in enumerate(self._corpus.columns) if column.table == table])
            head = heads.make(artefact, [self._claim(artefact, columns, column) for column in tested.tolist()])
            texts = [self._corpus.prompts[i].text for i in rows]
            start = time.perf_counter()
            self.quality[np.ix_(rows, tested)] = head.score_many(texts)
            self._seconds += time.perf_counter() - start
            self._prompts += len(rows)
            self._decision_us = self._decision_us or decision_us(head, texts)
            unlabelled = [one for one in head.placements if one.by not in ("like", "name")]
            self._placed |= {f"{one.name} by {one.by}": None for one in unlabelled}

    def predicted(self, name: str, kind: str, seconds: float, *, leaks: tuple[str, ...] = ()) -> Predicted:
        return Predicted(
            name=name, kind=kind, quality=self.quality, seconds=seconds, decision_us=self._decision_us,
            batch_per_s=self._prompts / self._seconds, leaks=leaks, placed=tuple(self._placed),
        )  # fmt: skip

    def _claim(self, artefact: Artefact, columns: Columns, column: int) -> Claim:
        model, spoken = self._corpus.columns[column].model, speaker(self._corpus, columns, column)
        if spoken is None:
            return Claim(name=model, model=model)
        return Claim(name=model, like=artefact.meta.models[int(np.flatnonzero(columns == spoken)[0])].name)


def decision_us(head: Head, texts: Sequence[str]) -> float:
    """One query at a time: the median, in microseconds."""
    times, until = [], time.perf_counter() + ENOUGH_S
    for text in texts[:QUERIES]:
        start = time.perf_counter()
        head.score(((text, 1.0),))
        times.append(time.perf_counter() - start)
        if start > until:
            break
    return float(np.median(times)) * 1e6


def _log_odds(quality: Floats) -> Floats:
    sure = np.clip(np.asarray(quality, np.float64), SURE, 1 - SURE)
    return np.asarray(np.log(sure / (1 - sure)), np.float32)
