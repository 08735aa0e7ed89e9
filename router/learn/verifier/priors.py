"""What a head would have said of answers before there were any, by fits that have not seen their questions."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from router.learn.data.corpus import join
from router.learn.data.folds import by_group
from router.learn.evaluate import served
from router.learn.fit.recipe import SIZES
from router.learn.routers import make
from router.learn.verifier.additive import line
from router.learn.verifier.answered import Answered
from router.verify.odds import logit

METHOD, RECIPE = "mf", "small"  #: the head: any other is as good a stand-in, this one is fitted in a second
INNER = 4  #: folds

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class Priors:
    """Of the answers of tables. Where the tables tell `quality` of every answer, that is taken instead of a fit."""

    def __init__(self, known: Answered, seed: int = 0, on_fit: Callable[[], None] = lambda: None) -> None:
        given = [one.quality for one in known.evidence]
        self._given = None if any(one is None for one in given) else np.array([logit(one or 0.0) for one in given])
        self._right, self._on_fit = known.right.astype(np.float64), on_fit
        self._groups = np.array([prompt.group for prompt in known.prompts])
        self._folds = by_group(known.prompts, INNER, seed + 2)
        self.corpus = join(known.outcomes)
        self._trainer = make(METHOD, self.corpus, SIZES[RECIPE])
        rows: dict[tuple[str, str], int] = {}
        for i, prompt in enumerate(self.corpus.prompts):
            rows.setdefault((prompt.id, prompt.group), i)
        self.rows = np.array([rows[prompt.id, prompt.group] for prompt in known.prompts])
        self._columns = np.array([self.corpus.column(known.models[author]) for author in known.authors])
        self._corpus_groups = np.array([prompt.group for prompt in self.corpus.prompts])

    def of(self, train: Mask, asked: Sequence[Mask]) -> tuple[Floats, list[Floats]]:
        """Log odds [answers] of `train`, by fits on its other questions, and of each of `asked`, by one on what of
        `train` is not asked; NaN elsewhere. Calibrated on `train`."""
        if self._given is not None:
            return self._given, [self._given] * len(asked)
        out = np.full(len(train), np.nan)
        for fold in range(INNER):
            part = train & (self._folds == fold)
            if part.any():
                out[part] = self._logits(train & ~part, part)
        fitted = train & np.isfinite(out)
        slope, offset = line(out[fitted], self._right[fitted]) if fitted.any() else (1.0, 0.0)
        told = []
        for mask in asked:
            one = np.full(len(train), np.nan)
            if mask.any():
                one[mask] = offset + slope * self._logits(train & ~mask, mask)
            told.append(one)
        return offset + slope * out, told

    def whole(self) -> Floats:
        """Log odds [answers], each by a fit that has not seen its question."""
        every = np.ones(len(self._groups), bool)
        return self.of(every, ())[0]

    def table(self, models: tuple[str, ...]) -> Floats:
        """Log odds [prompts of the tables, models], held out by question and calibrated per model; NaN where a model
        has no label."""
        columns = [self.corpus.column(model) for model in models]
        folds = by_group(self.corpus.prompts, INNER, 2)
        out = served.held_out(self._trainer, self.corpus, folds)[:, columns].astype(np.float64)
        for k, column in enumerate(columns):
            right = self.corpus.scores[:, column].astype(np.float64)
            known = np.isfinite(right) & np.isfinite(out[:, k])
            slope, offset = line(out[known, k], right[known])
            out[:, k] = offset + slope * out[:, k]
        return out

    def _logits(self, train: Mask, asked: Mask) -> Floats:
        """Of `asked`, by a fit that saw no question of an answer outside `train`."""
        self._on_fit()
        rows = ~np.isin(self._corpus_groups, self._groups[~train])
        columns = np.unique(self._columns)  # those of the judged models: a table may have many others
        columns = columns[np.isfinite(self.corpus.scores[np.ix_(rows, columns)]).any(axis=0)]
        if not rows.any() or not len(columns):
            return np.full(int(asked.sum()), np.nan)
        made = served.fitted(self._trainer, rows, columns)
        wanted, at = np.unique(self.rows[asked], return_inverse=True)
        told = np.full((len(wanted), self.corpus.scores.shape[1]), np.nan)
        told[:, columns] = served.predict(made, [self.corpus.prompts[i].text for i in wanted])
        return np.asarray(told[at, self._columns[asked]])
