"""The baselines of every evaluation: chance, the oracle, task means, nearest neighbours, RouteLLM's own head. They are
fitted on the splits' training prompts as routers are, and may read what a server cannot: a task's name, a score."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from router.learn.data.corpus import TASK_PRIOR, Corpus
from router.learn.evaluate.evaluation import Pair
from router.learn.evaluate.predict import Predicted, labelled, speaker
from router.learn.evaluate.splits import Split
from router.learn.fit import mf
from router.learn.fit.logistic import fit
from router.learn.fit.recipe import Recipe
from router.learn.fit.unit import unit

Floats = npt.NDArray[np.float32]
NEIGHBOURS = 50
DIMENSIONS = 128  #: of the space of neighbours
ROUTELLM = "routellm"
NAMES = ("random", "task-mean", "nearest", ROUTELLM, "oracle")


def of_tables(corpus: Corpus, splits: Sequence[Split], points: Floats, seed: int) -> tuple[Predicted, ...]:
    """Those that speak of every model. `points` [prompts, d]: for the neighbours, of unit length."""
    return (
        Predicted(name="random", kind="baseline", quality=_chance(corpus, splits, seed)),
        Predicted(name="task-mean", kind="baseline", quality=_learnt(corpus, splits, _TaskMean(corpus))),
        Predicted(name="nearest", kind="baseline", quality=_learnt(corpus, splits, _Nearest(corpus, points))),
        Predicted(name="oracle", kind="baseline", quality=_oracle(corpus, splits)),
    )


def points_of(made: mf.Features, seed: int) -> Floats:
    """Prompts as unit vectors: the main directions of the design that the native head learns on. No label is in it."""
    from sklearn.decomposition import TruncatedSVD

    bags = made.design.matrix(made.design.rows_in_use(np.ones(made.design.bags.shape[0], bool), 2)).sparse
    dimensions = min(DIMENSIONS, bags.shape[1] - 1, bags.shape[0] - 1)
    return unit(TruncatedSVD(dimensions, random_state=seed).fit_transform(bags))


def routellm(corpus: Corpus, splits: Sequence[Split], made: mf.Features, at: Pair, recipe: Recipe) -> Floats:
    """RouteLLM's objective (Ong et al., 2024, equation 5): a bias-free logistic of who wins, where they differ. Its log
    odds for the pair's prompts; NaN where there was nothing to learn from."""
    out = np.full(len(corpus.prompts), np.nan, np.float32)
    for split in splits:
        spoken = [speaker(corpus, labelled(corpus, split.train), column) for column in (at.weak, at.strong)]
        if spoken[0] is None or spoken[1] is None:
            continue
        gain = corpus.scores[:, spoken[1]] - corpus.scores[:, spoken[0]]
        train = split.train & (np.nan_to_num(gain) != 0)
        test = split.test & at.rows
        if not train.any() or not test.any():
            continue
        x = made.design.matrix(made.design.rows_in_use(train, recipe.min_prompts))
        won = np.asarray(gain[train, None] > 0, np.float32)
        one = np.ones((1, 1), np.float32)
        head = fit(x.rows(train), won, np.ones_like(won), one, recipe.ridge, recipe.steps, bias=False)
        out[test] = head.logits(x.rows(test))[:, 0]
    return out[at.rows]


class _TaskMean:
    """The mean score of the prompt's task, drawn to the model's mean by `TASK_PRIOR` prompts."""

    def __init__(self, corpus: Corpus) -> None:
        self._scores = corpus.scores
        names, self._task = np.unique(corpus.tasks, return_inverse=True)
        self._tasks = len(names)

    def predict(self, train: npt.NDArray[np.int64], test: npt.NDArray[np.int64], column: int) -> Floats:
        score, task = self._scores[train, column], self._task[train]
        total, count = np.bincount(task, score, self._tasks), np.bincount(task, minlength=self._tasks)
        means = (total + TASK_PRIOR * score.mean()) / (count + TASK_PRIOR)
        return np.asarray(means[self._task[test]], np.float32)


class _Nearest:
    """The mean score of the nearest training prompts, by cosine."""

    def __init__(self, corpus: Corpus, points: Floats) -> None:
        self._scores, self._points = corpus.scores, points
        self._asked: tuple[bytes, npt.NDArray[np.int64]] | None = None

    def predict(self, train: npt.NDArray[np.int64], test: npt.NDArray[np.int64], column: int) -> Floats:
        key = train.tobytes() + test.tobytes()
        if self._asked is None or self._asked[0] != key:  # models of one table share their prompts
            self._asked = key, self._near(train, test)
        return np.asarray(self._scores[self._asked[1], column].mean(1), np.float32)

    def _near(self, train: npt.NDArray[np.int64], test: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        most = min(NEIGHBOURS, len(train))
        found = []
        for part in np.array_split(test, max(1, len(test) // 512)):
            cosine = self._points[part] @ self._points[train].T
            found.append(train[np.argpartition(-cosine, most - 1, axis=1)[:, :most]])
        return np.concatenate(found)


def _learnt(corpus: Corpus, splits: Sequence[Split], method: _TaskMean | _Nearest) -> Floats:
    """Column by column: of those that the split's training prompts have labels for."""
    out = np.full(corpus.scores.shape, np.nan, np.float32)
    for split in splits:
        known = labelled(corpus, split.train)
        for column in range(len(corpus.columns)):
            spoken = speaker(corpus, known, column)
            test = np.flatnonzero(split.test & (corpus.table == corpus.columns[column].table))
            if spoken is not None and len(test):
                train = np.flatnonzero(split.train & np.isfinite(corpus.scores[:, spoken]))
                out[test, column] = method.predict(train, test, spoken)
    return out


def _own(corpus: Corpus, splits: Sequence[Split]) -> npt.NDArray[np.bool_]:
    """[prompts, columns]: tested prompts, and the columns of their table."""
    tested = np.logical_or.reduce([split.test for split in splits])
    tables = np.array([column.table for column in corpus.columns])
    return np.asarray(tested[:, None] & (corpus.table[:, None] == tables))


def _chance(corpus: Corpus, splits: Sequence[Split], seed: int) -> Floats:
    drawn = np.random.default_rng(seed).random(corpus.scores.shape, dtype=np.float32)
    return np.asarray(np.where(_own(corpus, splits), drawn, np.nan), np.float32)


def _oracle(corpus: Corpus, splits: Sequence[Split]) -> Floats:
    return np.asarray(np.where(_own(corpus, splits), np.nan_to_num(corpus.scores), np.nan), np.float32)
