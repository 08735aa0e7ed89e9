"""What a router must beat: RouteLLM's own head on our features, nearest neighbours, task means, chance, the oracle."""

import numpy as np
import numpy.typing as npt

from router.learn.data.corpus import TASK_PRIOR, Corpus
from router.learn.data.folds import training_rows
from router.learn.evaluate import metrics
from router.learn.evaluate.evaluation import Pair, labels
from router.learn.fit.logistic import fit
from router.learn.fit.mf import Features
from router.learn.fit.recipe import Recipe
from router.learn.fit.unit import unit

Floats = npt.NDArray[np.float32]
Folds = npt.NDArray[np.int64]
NEIGHBOURS = 50


def chance(at: Pair, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).random(int(at.rows.sum()), dtype=np.float32)


def oracle(corpus: Corpus, at: Pair) -> Floats:
    return np.asarray(metrics.oracle(*labels(corpus, at)), np.float32)


def routellm(corpus: Corpus, made: Features, folds: Folds, at: Pair, recipe: Recipe) -> Floats:
    """RouteLLM's objective (Ong et al., 2024, equation 5): a bias-free logistic of who wins, where they differ."""
    out = np.full(len(folds), np.nan, np.float32)
    gain = corpus.scores[:, at.strong] - corpus.scores[:, at.weak]
    for fold in range(folds.max() + 1):
        test = (folds == fold) & at.rows
        train = training_rows(corpus.prompts, test) & at.rows & (np.nan_to_num(gain) != 0)
        used = made.design.rows_in_use(train, recipe.min_prompts)
        x = made.design.matrix(used)
        won = np.asarray(gain[train, None] > 0, np.float32)
        head = fit(
            x.rows(train), won, np.ones_like(won), np.ones((1, 1), np.float32), recipe.ridge, recipe.steps, bias=False
        )
        out[test] = head.logits(x.rows(test))[:, 0]
    return out[at.rows]


def task_mean(corpus: Corpus, folds: Folds, at: Pair) -> Floats:
    """The mean gain of the prompt's task, over training prompts. Needs the task's name, which no user sends."""
    gain = corpus.scores[:, at.strong] - corpus.scores[:, at.weak]
    tasks, index = np.unique(corpus.tasks, return_inverse=True)
    out = np.full(len(folds), np.nan, np.float32)
    for fold in range(folds.max() + 1):
        test = (folds == fold) & at.rows
        train = training_rows(corpus.prompts, test) & at.rows
        total = np.bincount(index[train], gain[train], len(tasks))
        count = np.bincount(index[train], minlength=len(tasks))
        means = (total + TASK_PRIOR * gain[train].mean()) / (count + TASK_PRIOR)
        out[test] = means[index[test]]
    return out[at.rows]


def neighbours(corpus: Corpus, made: Features, folds: Folds, at: Pair, dimensions: int = 128) -> Floats:
    """The mean gain of the nearest training prompts, by cosine of the projected design."""
    from sklearn.decomposition import TruncatedSVD

    used = made.design.rows_in_use(at.rows, 2)
    points = unit(TruncatedSVD(dimensions, random_state=0).fit_transform(made.design.matrix(used).sparse))
    gain = corpus.scores[:, at.strong] - corpus.scores[:, at.weak]
    out = np.full(len(folds), np.nan, np.float32)
    for fold in range(folds.max() + 1):
        test = np.flatnonzero((folds == fold) & at.rows)
        train = np.flatnonzero(training_rows(corpus.prompts, (folds == fold) & at.rows) & at.rows)
        for part in np.array_split(test, max(1, len(test) // 512)):
            near = np.argpartition(-(points[part] @ points[train].T), NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
            out[part] = gain[train][near].mean(1)
    return out[at.rows]
