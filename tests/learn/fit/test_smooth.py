"""The smooth teacher: its kernel, its imitation, and which tables have one."""

import msgspec
import numpy as np
import pytest
from scipy import sparse

from router.learn.data.corpus import Corpus, join
from router.learn.data.outcomes import Outcomes, Prompt
from router.learn.fit import mf
from router.learn.fit.design import Matrix
from router.learn.fit.logistic import imitate, ties
from router.learn.fit.recipe import SIZES, Tie
from router.learn.fit.smooth import SCALE, smooth_columns
from router.learn.fit.static_table import PIECES

RNG = np.random.default_rng(0)
LEVEL = np.array([0.5, -1], np.float32)
PRIOR = ties(np.array([np.nan, np.nan]), Tie())


def test_with_every_prompt_a_landmark_the_columns_are_the_kernel():
    vectors = RNG.standard_normal((30, 8)).astype(np.float32)
    columns = smooth_columns(vectors, 100, 0) / SCALE
    points = vectors - vectors.mean(0)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    kernel = np.exp(points @ points.T - 1)
    centred = kernel - kernel.mean(0) - kernel.mean(1)[:, None] + kernel.mean()
    np.testing.assert_allclose(columns @ columns.T, centred, atol=2e-3)


def test_few_landmarks_are_nearly_the_kernel_and_always_the_same():
    vectors = RNG.standard_normal((200, 3)).astype(np.float32)
    few, every = smooth_columns(vectors, 60, 0), smooth_columns(vectors, 200, 0)
    assert few.shape[1] <= 60 < every.shape[0]
    np.testing.assert_array_equal(few, smooth_columns(vectors, 60, 0))
    difference = few @ few.T - every @ every.T
    assert np.abs(difference).mean() < 0.02 * np.abs(every @ every.T).mean()


@pytest.mark.parametrize(("dimensions", "landmarks"), [(0, 10), (4, 0)])
def test_without_vectors_or_landmarks_there_is_no_column(dimensions, landmarks):
    assert smooth_columns(np.ones((5, dimensions), np.float32), landmarks, 0).shape == (5, 0)


def test_prompts_that_are_all_alike_do_not_break_it():
    assert not smooth_columns(np.ones((5, 3), np.float32), 4, 0).any()


def matrix(rows, columns):
    whole = RNG.standard_normal((rows, columns)).astype(np.float32)
    return Matrix(sparse.csr_matrix(whole[:, :4]), whole[:, 4:])


def test_imitation_finds_the_weights_that_made_the_logits():
    x = matrix(500, 9)
    weights = RNG.standard_normal((9, 2)).astype(np.float32)
    wanted = np.asarray(x.dot(weights) + LEVEL, np.float32)
    np.testing.assert_allclose(imitate(x, wanted, PRIOR, 1e-3, 60).logits(x), wanted, atol=0.1)


def test_imitation_under_a_heavy_ridge_says_the_mean():
    x = matrix(500, 9)
    wanted = np.asarray(x.dot(RNG.standard_normal((9, 2)).astype(np.float32)) + LEVEL, np.float32)
    said = imitate(x, wanted, PRIOR, 1e7, 60).logits(x)
    np.testing.assert_allclose(said, np.broadcast_to(wanted.mean(0), said.shape), atol=0.01)


def outcomes(name, models, prompts):
    """A table on which the last model knows what the first does not: whatever has `hard` in it."""
    texts = [f"{kind} question about {topic} number {i}" for i in range(prompts // 4)
             for kind in ("hard", "easy") for topic in ("rivers", f"stars of {name}")]  # fmt: skip
    scores = np.array([[float("easy" in text)] * (models - 1) + [1.0] for text in texts], np.float32)
    made = tuple(Prompt(f"{name}-{i}", f"{name}-{i}", "t", text) for i, text in enumerate(texts))
    names = tuple(f"{name}{i}" for i in range(models))
    return Outcomes(name=name, sha256="0" * 64, rows=scores.size, prompts=made, models=names, scores=scores)


def test_a_table_of_few_models_is_taught_and_says_what_its_labels_say():
    recipe = msgspec.structs.replace(SIZES["default"], word_rows=1024, topics=0, static=8, landmarks=16, ridge=0.5)
    corpus: Corpus = join([outcomes("pair", 2, 80), outcomes("many", 5, 40)])
    assert [mf.is_taught(corpus, table, recipe) for table in (0, 1)] == [True, False]
    assert not mf.is_taught(corpus, 0, msgspec.structs.replace(recipe, landmarks=0))
    static = RNG.standard_normal((PIECES, 8)).astype(np.float32)
    made = mf.features(corpus, recipe, static)
    every = np.ones(len(corpus.prompts), bool)
    taught = mf.train(corpus, made, every, recipe)
    plain = mf.train(corpus, made, every, msgspec.structs.replace(recipe, taught_models=0))
    np.testing.assert_array_equal(taught[1].weights.hidden, plain[1].weights.hidden)
    assert len(taught[0].rows) > len(plain[0].rows), "words of the other table teach too"
    logits = mf.predict(made, taught, every, len(corpus.columns))[corpus.table == 0, 0]
    hard = np.array(["hard" in prompt.text for prompt in corpus.prompts if prompt.id.startswith("pair")])
    assert logits[~hard].min() > logits[hard].max()
