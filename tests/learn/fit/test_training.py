"""Training on a small table: finds the structure, and the native head serves what was measured, bit for bit again."""

from pathlib import Path

import numpy as np
import pytest

from router.errors import ConfigError
from router.heads import checkpoint
from router.heads.base import Claim
from router.heads.methods.mf import MfHead
from router.learn.data import outcomes
from router.learn.data.corpus import join
from router.learn.data.folds import by_group
from router.learn.fit import mf
from router.learn.fit.calibration import lines, platt
from router.learn.fit.export import head, spoken_for
from router.learn.fit.held_out import held_out
from router.learn.fit.logistic import sigmoid, ties
from router.learn.fit.recipe import SIZES, Tie
from router.learn.fit.training import Report, run

SMALL = SIZES["small"]


@pytest.fixture(scope="module")
def made(table: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    out = tmp_path_factory.mktemp("checkpoint") / "sums.safetensors"
    return out, run([table], out, SMALL, command="headgate train sums.jsonl")


def test_finds_what_the_weak_model_fails_on(made: tuple[Path, Report]) -> None:
    out, report = made
    held = report.held_out[0]
    assert (held.weak, held.strong) == ("tiny", "big")
    assert held.figures.apgr > 0.75
    scorer = MfHead(checkpoint.read(out), [Claim(name="tiny"), Claim(name="big")])

    def quality(text: str) -> tuple[float, ...]:
        return scorer.score([(text, 1.0)]).quality

    short, long = quality("What is 3 + 4?"), quality("What is 345345 + 997531?")
    assert short[0] > 0.6 > 0.4 > long[0]
    assert long[1] - long[0] > 0.4 > short[1] - short[0]


def test_small_checkpoints_are_small(made: tuple[Path, Report]) -> None:
    assert made[1].bytes <= 1_000_000


def test_metadata_says_where_it_comes_from(made: tuple[Path, Report], table: Path) -> None:
    meta = checkpoint.read(made[0]).meta
    assert meta.recipe == "headgate train sums.jsonl"
    assert meta.data[0].sha256 == outcomes.read(table).sha256
    assert meta.figures == {"sums.jsonl:tiny->big:apgr": round(made[1].held_out[0].figures.apgr, 4)}
    assert [model.name for model in meta.models] == ["tiny", "big"]


def test_same_command_same_bytes(made: tuple[Path, Report], table: Path, tmp_path: Path) -> None:
    run([table], tmp_path / "again.safetensors", SMALL, command="headgate train sums.jsonl")
    assert (tmp_path / "again.safetensors").read_bytes() == made[0].read_bytes()


def test_the_native_head_serves_what_training_predicts(made: tuple[Path, Report], table: Path) -> None:
    corpus = join([outcomes.read(table)])
    features = mf.features(corpus, SMALL)
    logits = held_out(corpus, features, by_group(corpus.prompts, 5), SMALL)
    rows = np.ones(len(corpus.prompts), bool)
    parts = mf.train(corpus, features, rows, SMALL)
    line = lines(logits, corpus.scores)
    expected = sigmoid(mf.predict(features, parts, rows, 2) * line[:, 0] + line[:, 1])
    scorer = MfHead(checkpoint.read(made[0]), [Claim(name="tiny"), Claim(name="big")])
    served = np.array([scorer.score([(prompt.text, 1.0)]).quality for prompt in corpus.prompts])
    np.testing.assert_allclose(served, expected, atol=2e-3)


def test_held_out_logits_do_not_see_their_labels(table: Path) -> None:
    corpus = join([outcomes.read(table)])
    features, fold = mf.features(corpus, SMALL), by_group(corpus.prompts, 2)
    before = held_out(corpus, features, fold, SMALL)
    corpus.scores[fold == 0] = 1 - corpus.scores[fold == 0]
    after = held_out(corpus, features, fold, SMALL)
    np.testing.assert_array_equal(before[fold == 0], after[fold == 0])
    assert np.abs(before[fold == 1] - after[fold == 1]).max() > 0.1


def test_fewer_columns_keep_the_main_directions(table: Path) -> None:
    corpus = join([outcomes.read(table)])
    features = mf.features(corpus, SMALL)
    rows = np.ones(len(corpus.prompts), bool)
    parts = mf.train(corpus, features, rows, SMALL)
    exact = head(features, parts, spoken_for(corpus), 16)
    logits = features.design.bags @ exact.table @ exact.vectors.T + exact.bias
    np.testing.assert_allclose(logits, mf.predict(features, parts, rows, 2), atol=1e-3)
    assert exact.table.shape[1] == 16


def test_platt_finds_a_known_line() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=20000).astype(np.float32)
    scores = (rng.random(20000) < 1 / (1 + np.exp(-(2 * logits - 1)))).astype(np.float32)
    assert platt(logits, scores) == (pytest.approx(2, abs=0.1), pytest.approx(-1, abs=0.1))
    unknown = lines(logits[:, None], np.full((20000, 1), np.nan, np.float32))
    assert unknown.tolist() == [[1.0, 0.0]]


def test_ties_are_the_covariance_they_say() -> None:
    tie = ties(np.array([0.2, 0.4, np.nan]), Tie(shared=1, strength=2, single=0.1))
    covariance = tie @ tie.T
    assert covariance[0, 1] == pytest.approx(1 - 4, abs=1e-5)
    assert covariance[0, 2] == pytest.approx(1, abs=1e-5)
    assert covariance[2, 2] == pytest.approx(1 + 0.01, abs=1e-5)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("tiny", "huge")], "--pair: expected two of tiny, big; got 'huge'"),
        ([("big", "tiny")], "tiny scores no higher than big on their common prompts; expected weak, then strong"),
    ],
)
def test_pairs_are_refused_by_name(table: Path, tmp_path: Path, pairs: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run([table], tmp_path / "x.safetensors", SMALL, pairs=pairs)


def test_one_model_is_no_pool(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text('{"prompt": "a", "model": "m", "score": 1}\n{"prompt": "b", "model": "m", "score": 0}\n')
    with pytest.raises(ConfigError, match="expected at least two models to route between, got 'm' only"):
        run([path], tmp_path / "x.safetensors", SMALL)


def test_out_must_have_a_folder(table: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--out: expected a file in an existing folder"):
        run([table], tmp_path / "none" / "x.safetensors", SMALL)
