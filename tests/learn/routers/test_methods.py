"""Each method's arithmetic against the obvious way to work it out."""

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from router import heads
from router.artefacts.artefact import FORMAT, Metadata, ModelRecord
from router.errors import ConfigError
from router.heads import Artefact
from router.heads.methods import embedding
from router.heads.methods.labelled import log_odds
from router.learn import routers
from router.learn.data import outcomes
from router.learn.data.corpus import Corpus, join
from router.learn.evaluate import served
from router.learn.fit import topics
from router.learn.fit.recipe import Recipe
from router.learn.routers import mlp
from router.learn.routers.ensemble import stacked
from router.native import twin

RECIPE = Recipe(word_rows=2048, vocabulary=512, static=0, steps=10)


@pytest.fixture(scope="module")
def corpus(table: Path) -> Corpus:
    return join([outcomes.read(table)])


def fit(name: str, corpus: Corpus, **options: object) -> Artefact:
    trainer = routers.make(name, corpus, RECIPE, options)
    return served.fitted(trainer, np.ones(len(corpus.prompts), bool), np.arange(2))


@pytest.fixture(scope="module")
def knn(corpus: Corpus) -> Artefact:
    return fit("knn", corpus, dimensions=32, neighbours=15, sharpness=4.0, prior=2.0)


# The embedding


def test_the_decomposition_is_the_singular_one() -> None:
    draw = np.random.default_rng(0)
    dense = draw.normal(size=(60, 8)) @ draw.normal(size=(8, 40)) + 0.01 * draw.normal(size=(60, 40))
    axes = topics._main_axes(sparse.csr_matrix(dense.astype(np.float32)), 5)
    _, _, expected = np.linalg.svd(dense)
    np.testing.assert_allclose(np.abs(axes.T @ expected[:5].T), np.eye(5), atol=1e-2)


def test_a_matrix_of_low_rank_gives_no_more_axes_than_it_has() -> None:
    matrix = sparse.csr_matrix(np.outer(np.arange(1, 9), [1, 0, 2, 0]).astype(np.float32))
    assert topics._main_axes(matrix, 3).shape == (4, 1)
    assert topics.lsa(matrix, 3).shape == (4, 3)


def test_rows_of_one_prompt_alone_stay_zero() -> None:
    matrix = sparse.csr_matrix(np.array([[1, 1, 0], [1, 0, 1], [1, 1, 0], [0, 1, 0]], np.float32))
    assert not topics.lsa(matrix, 2)[2].any()


def test_the_embedding_is_the_bags_projection(corpus: Corpus, knn: Artefact) -> None:
    assert knn.meta.encoder is not None
    segments = [("What is 12 + 34?", 1.0), ("Why is it so?", 0.5)]
    mean = np.zeros(32)
    for text, weight in segments:
        bag, _ = twin.featurise(text, knn.arrays["vocab"], knn.meta.encoder)
        rows, weights = zip(*bag, strict=True)
        mean += weight / 1.5 * (np.array(weights) @ knn.arrays["table"][list(rows)].astype(np.float64))
    found = embedding.of(knn)([segments, [("", 1.0)]])
    np.testing.assert_allclose(found[0], mean / np.linalg.norm(mean), atol=1e-5)
    assert not found[1].any()


# Neighbours


def test_neighbours_vote_as_the_formula_says(corpus: Corpus, knn: Artefact) -> None:
    texts = ["What is 123 + 456?", "Why is 5 like 6 in riddle 7?", "What is 2 + 2?"]
    embed = embedding.of(knn)
    points = embed([((prompt.text, 1.0),) for prompt in corpus.prompts])
    expected = []
    for query in embed([((text, 1.0),) for text in texts]):
        nearness = points @ query
        near = np.argsort(-nearness)[:15]
        weight = np.exp(4 * (nearness[near] - nearness[near[0]]))
        hits = weight @ corpus.scores[near] + 2 * knn.arrays["means"]
        expected.append(hits / (weight.sum() + 2))
    found = served.head_of(knn).score_many(texts)
    np.testing.assert_allclose(found, expected, atol=5e-3)  # the index holds halves; near ties may fall either way


def test_unknown_labels_do_not_vote(corpus: Corpus) -> None:
    scores = corpus.scores.copy()
    scores[::2, 0] = np.nan
    some = Corpus(corpus.prompts, corpus.columns, scores, corpus.table)
    made = fit("knn", some, dimensions=32, neighbours=500, sharpness=0.0, prior=1e-6)
    found = served.head_of(made).score_many(["What is 1 + 1?"])[0]
    np.testing.assert_allclose(found, np.nanmean(scores, 0), atol=1e-3)


# The network


def test_slopes_are_those_of_the_loss() -> None:
    draw = np.random.default_rng(1)
    at = {
        "inner": draw.normal(size=(6, 5)), "inner.bias": draw.normal(size=5),
        "outer": draw.normal(size=(5, 3)), "outer.bias": draw.normal(size=3),
    }  # fmt: skip
    points, targets, weights = draw.normal(size=(7, 6)), draw.random((7, 3)), draw.random((7, 3))
    kept = (draw.random((7, 5)) > 0.3) / 0.7

    def loss() -> float:
        hidden = np.maximum(points @ at["inner"] + at["inner.bias"], 0) * kept
        z = hidden @ at["outer"] + at["outer.bias"]
        return float((weights * (np.logaddexp(0, z) - targets * z)).sum() / len(points))

    slopes = mlp._slopes(at, points, targets, weights, kept)
    for name, array in at.items():
        index = np.unravel_index(array.size // 2, array.shape)
        before, step = array[index], 1e-5
        array[index] = before + step
        above = loss()
        array[index] = before - step
        below = loss()
        array[index] = before
        assert slopes[name][index] == pytest.approx((above - below) / (2 * step), rel=1e-4, abs=1e-7), name


# Ensembles


def test_a_part_that_has_all_the_weight_speaks_alone(corpus: Corpus) -> None:
    both = fit("ensemble", corpus, parts=["mf", "random"], weights=[1.0, 0.0])
    texts = [prompt.text for prompt in corpus.prompts[:20]]
    np.testing.assert_allclose(
        served.head_of(both).score_many(texts), served.head_of(fit("mf", corpus)).score_many(texts), atol=1e-5
    )


def test_the_mean_is_of_log_odds(corpus: Corpus) -> None:
    both = fit("ensemble", corpus, parts=["rules", "random"], weights=[0.25, 0.75])
    texts = [prompt.text for prompt in corpus.prompts[:20]]
    one, other = (log_odds(served.head_of(fit(name, corpus)).score_many(texts)) for name in ("rules", "random"))
    found = log_odds(served.head_of(both).score_many(texts))
    np.testing.assert_allclose(found, 0.25 * one + 0.75 * other, atol=1e-3)


def test_stacking_trusts_who_is_right() -> None:
    draw = np.random.default_rng(2)
    truth = draw.normal(size=(4000, 2))
    scores = (draw.random(truth.shape) < 1 / (1 + np.exp(-truth))).astype(np.float32)
    scores[::3, 1] = np.nan
    logits = np.stack([0.5 * truth, draw.normal(size=truth.shape), draw.normal(size=truth.shape) - truth]).astype(
        np.float32
    )
    half, noise, wrong = stacked(logits, scores)
    assert half == pytest.approx(2, abs=0.25)
    assert noise < 0.1
    assert wrong == 0


def test_an_ensemble_of_other_models_is_refused(corpus: Corpus) -> None:
    made = fit("ensemble", corpus, parts=["random"])
    options = {**made.meta.options, "parts": [{**made.meta.options["parts"][0], "models": [{"name": "x"}]}]}
    meta = Metadata(format=FORMAT, models=made.meta.models, router="ensemble", options=options)
    with pytest.raises(ConfigError, match=r"options: parts\[0\]\.models: expected tiny, big"):
        served.head_of(Artefact(meta=meta, arrays=made.arrays))


# The file


def test_arrays_of_odd_sizes_lie_aligned(tmp_path: Path) -> None:
    meta = Metadata(format=FORMAT, models=(ModelRecord(name="m"),), router="random")
    arrays = {
        "0.bytes": np.arange(7, dtype=np.uint8),
        "halves": np.ones(3, np.float16),
        "bias": np.ones(1, np.float32),
        "wide": np.arange(2, dtype=np.uint64),
    }
    heads.write(tmp_path / "x", Artefact(meta=meta, arrays=arrays))
    found = heads.read(tmp_path / "x")
    for name, array in arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].ctypes.data % array.itemsize == 0
