"""The baselines by splits say what those by folds say, and see no tested label."""

from pathlib import Path

import baselines
import numpy as np
import pytest

from router.learn.data import outcomes
from router.learn.data.corpus import Corpus, join
from router.learn.evaluate import beside, splits
from router.learn.evaluate.evaluation import Pair, pair
from router.learn.evaluate.pairs import preferences
from router.learn.fit import mf
from router.learn.fit.recipe import SIZES

RECIPE = SIZES["small"]


@pytest.fixture(scope="module")
def corpus(table: Path) -> Corpus:
    return join([outcomes.read(table)])


@pytest.fixture(scope="module")
def made(corpus: Corpus) -> mf.Features:
    return mf.features(corpus, RECIPE)


@pytest.fixture(scope="module")
def at(corpus: Corpus) -> Pair:
    return pair(corpus, "tiny", "big")


def test_equal_those_of_the_quality_bench(corpus: Corpus, made: mf.Features, at: Pair) -> None:
    protocol = splits.grouped(corpus, 3, seed=0)
    found = beside.of_tables(corpus, protocol.splits, beside.points_of(made, 0), 0)
    gains = preferences(found, at)
    assert gains["task-mean"] == pytest.approx(baselines.task_mean(corpus, protocol.folds, at), abs=1e-5)
    assert gains["oracle"] == pytest.approx(baselines.oracle(corpus, at))
    ours = beside.routellm(corpus, protocol.splits, made, at, RECIPE)
    assert ours == pytest.approx(baselines.routellm(corpus, made, protocol.folds, at, RECIPE), abs=1e-5)
    theirs = baselines.neighbours(corpus, made, protocol.folds, at)
    assert np.corrcoef(gains["nearest"], theirs)[0, 1] > 0.9  # other directions: all prompts', not the pair's


def test_see_no_tested_label(corpus: Corpus, made: mf.Features, at: Pair) -> None:
    protocol = splits.grouped(corpus, 3, seed=0)
    test, points = protocol.splits[0].test, beside.points_of(made, 0)
    scores = corpus.scores.copy()
    scores[test] = 1 - scores[test]
    turned = Corpus(corpus.prompts, corpus.columns, scores, corpus.table)
    one = {p.name: p.quality[test] for p in beside.of_tables(corpus, protocol.splits[:1], points, 0)}
    other = {p.name: p.quality[test] for p in beside.of_tables(turned, protocol.splits[:1], points, 0)}
    for name in ("random", "task-mean", "nearest"):
        assert (one[name] == other[name]).all()
    assert (one["oracle"] != other["oracle"]).all()
    theirs = [beside.routellm(c, protocol.splits[:1], made, at, RECIPE)[test[at.rows]] for c in (corpus, turned)]
    assert (theirs[0] == theirs[1]).all()


def test_without_training_prompts_nothing_is_said(corpus: Corpus, made: mf.Features, at: Pair) -> None:
    every = np.ones(len(corpus.prompts), bool)
    empty = [splits.Split(~every, every)]
    found = {p.name: p.quality for p in beside.of_tables(corpus, empty, beside.points_of(made, 0), 0)}
    assert np.isnan(found["task-mean"]).all()
    assert np.isnan(found["nearest"]).all()
    assert np.isnan(beside.routellm(corpus, empty, made, at, RECIPE)).all()
