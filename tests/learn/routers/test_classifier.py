"""Training the classifier on a tiny encoder: it learns, freezes what it should, and is served as it was evaluated."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from router import Router, heads
from router.cli.main import main
from router.config import Member
from router.errors import ConfigError
from router.heads import Claim
from router.learn import routers
from router.learn.data.corpus import Corpus, join
from router.learn.data.outcomes import read
from router.learn.evaluate.served import fitted, head_of, held_out, predict
from router.learn.fit.recipe import SIZES

pytest.importorskip("transformers")

COLUMNS = np.array([0, 1])  # tiny, big
ODD = ["", " ", "\0", "\ud800 北京", "🙂" * 50, "a" * 5000, "What is 3 + 4?", "\u202e\u0301x"]


@pytest.fixture(scope="module")
def corpus(table) -> Corpus:
    return join([read(table)])


@pytest.fixture(scope="module")
def trainer(corpus, tiny_encoder):
    def make(**options):
        options = {"encoder": str(tiny_encoder), "max_tokens": 48, "learning_rate": 1e-3, **options}
        return routers.make("classifier", corpus, SIZES["small"], options)

    return make


@pytest.fixture(scope="module")
def tuned(trainer, corpus):
    return fitted(trainer(epochs=2), np.ones(len(corpus.prompts), bool), COLUMNS)


def gap(corpus, logits, column):
    """Predicted quality where the model was right, less where it was wrong."""
    quality, right = 1 / (1 + np.exp(-logits[:, column])), corpus.scores[:, column] > 0.5
    return quality[right].mean() - quality[~right].mean()


@pytest.mark.parametrize("epochs", [0, 2])
def test_it_learns_what_it_has_not_seen(trainer, corpus, epochs):
    folds = np.arange(len(corpus.prompts)) % 2
    made = trainer(epochs=epochs)
    steps = []
    logits = held_out(made, corpus, folds, lambda: steps.append(1))
    assert len(steps) == 2 * made.steps()
    assert gap(corpus, logits, 0) > 0.4
    assert gap(corpus, logits, 1) > 0.4


def test_equal_input_gives_an_equal_artefact(trainer, corpus, tuned):
    again = fitted(trainer(epochs=2), np.ones(len(corpus.prompts), bool), COLUMNS)
    assert again.arrays.keys() == tuned.arrays.keys()
    for name, array in again.arrays.items():
        np.testing.assert_array_equal(array, tuned.arrays[name], name)


def test_what_is_frozen_stays(trainer, corpus, tuned):
    rows = np.ones(len(corpus.prompts), bool)
    untouched = fitted(trainer(epochs=0), rows, COLUMNS)
    upper = fitted(trainer(epochs=1, freeze=1), rows, COLUMNS)
    moved = {n for n, a in upper.arrays.items() if not np.array_equal(a, untouched.arrays[n])}
    assert any(".layer.1." in name for name in moved)
    assert not [name for name in moved if ".layer.0." in name or "embeddings" in name]
    assert any("embeddings" in n for n, a in tuned.arrays.items() if not np.array_equal(a, untouched.arrays[n]))
    whole = fitted(trainer(epochs=1, freeze=2), rows, COLUMNS)  # nothing is left to move
    assert all(np.array_equal(array, untouched.arrays[name]) for name, array in whole.arrays.items())


def test_missing_labels_do_not_count(trainer, corpus):
    scores = corpus.scores.copy()
    scores[::2, 0] = np.nan
    holed = Corpus(corpus.prompts, corpus.columns, scores, corpus.table)
    options = {"encoder": trainer()._options.encoder, "epochs": 0, "max_tokens": 48}
    artefact = fitted(routers.make("classifier", holed, SIZES["small"], options), np.ones(len(scores), bool), COLUMNS)
    assert artefact.meta.models[0].prompts == len(scores) // 2
    assert gap(corpus, predict(artefact, [p.text for p in corpus.prompts]), 0) > 0.4


def test_the_served_decision_is_the_evaluated_one(tuned, corpus, tmp_path):
    path = tmp_path / "classifier.safetensors"
    heads.write(path, tuned)
    claims = [Claim(name="a", like="tiny"), Claim(name="b", like="big")]
    texts = [prompt.text for prompt in corpus.prompts[:40]]
    served, evaluated = heads.load(path, claims), heads.make(tuned, claims)
    np.testing.assert_array_equal(served.score_many(texts), evaluated.score_many(texts))
    for text, row in zip(texts, evaluated.score_many(texts), strict=True):
        np.testing.assert_allclose(served.score(((text, 1.0),)).quality, row, atol=1e-6)
    pool = [Member(name="a", like="tiny"), Member(name="b", like="big")]
    decider = Router.decider(pool, checkpoint=str(path), price=0.0)
    assert [decider.decide(text).member for text in texts] == evaluated.score_many(texts).argmax(1).tolist()


def test_whatever_the_texts_it_scores_them(tuned):
    head = head_of(tuned)
    assert head.score_many([]).shape == (0, 2)
    many = head.score_many(ODD)
    assert ((many > 0) & (many < 1)).all()
    np.testing.assert_allclose([head.score(((text, 1.0),)).quality for text in ODD], many, atol=1e-6)


def test_many_threads_say_what_one_says(tuned):
    head = head_of(tuned)
    texts = [f"what is {i} + {i * i} ?" for i in range(40)]
    expected = [head.score(((text, 1.0),)) for text in texts]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda text: head.score(((text, 1.0),)), texts * 3)) == expected * 3


def test_the_command_trains_one_and_tells_no_folder(tiny_encoder, table, tmp_path, capsys):
    out = tmp_path / "c.safetensors"
    asked = ["train", str(table), "--out", str(out), "--router", "classifier", "--folds", "2", "--json"]
    given = [f"encoder={tiny_encoder}", "epochs=0", "max_tokens=48"]
    assert main(asked + [word for option in given for word in ("--option", option)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["held_out"][0]["figures"]["apgr"] > 0.55
    recipe = heads.read(out).meta.recipe
    assert str(tiny_encoder.parent) not in recipe
    assert f"--option encoder={tiny_encoder.name} --option epochs=0" in recipe


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"encoder": "/no/such/folder"}, "option encoder: /no/such/folder cannot be loaded"),
        ({"max_tokens": 65}, "option max_tokens: expected 4 to 64, got 65"),
        ({"pooling": "max"}, "--router classifier: option Invalid enum value 'max'"),
        ({"epoch": 3}, "option epoch: expected one of encoder, pooling"),
    ],
)
def test_a_refused_option_is_named(trainer, options, match):
    with pytest.raises(ConfigError, match=match):
        trainer(**options)
