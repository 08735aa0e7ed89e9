"""The evaluated decision is the served one, and calibration sees no label that its fit did not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from router import heads
from router.heads import Claim
from router.learn import routers
from router.learn.data import outcomes
from router.learn.data.corpus import Corpus, join
from router.learn.data.outcomes import Outcomes
from router.learn.evaluate import predict, splits
from router.learn.fit.recipe import SIZES
from router.learn.routers.base import Columns, Rows, Trainer


@pytest.fixture(scope="module")
def sums(table: Path) -> Outcomes:
    return outcomes.read(table)


@pytest.fixture(scope="module")
def corpus(sums: Outcomes) -> Corpus:
    return join([sums])


@pytest.fixture(scope="module")
def trainer(corpus: Corpus) -> Trainer:
    return routers.make("mf", corpus, SIZES["small"])


class Recording:
    """Hands on to a trainer and keeps what it made."""

    def __init__(self, inner: Trainer) -> None:
        self._inner = inner
        self.made: list[heads.Artefact] = []
        self.rows: list[Rows] = []

    def steps(self) -> int:
        return self._inner.steps()

    def fit(self, rows: Rows, columns: Columns, on_step: Callable[[], None] = lambda: None) -> heads.Artefact:
        self.rows.append(rows)
        self.made.append(self._inner.fit(rows, columns, on_step))
        return self.made[-1]


@pytest.mark.parametrize("name", ["mf", "knn", "sw_ranking", "mlp", "rules", "random", "ensemble"])
def test_says_what_the_served_head_says(corpus: Corpus, name: str) -> None:
    protocol, kept = splits.grouped(corpus, 3, seed=0), Recording(routers.make(name, corpus, SIZES["small"]))
    found = predict.trained(name, kept, corpus, protocol.splits)
    claims = [Claim(name=model, like=model) for model in ("tiny", "big")]
    for split, artefact in zip(protocol.splits, kept.made, strict=True):
        head = heads.make(artefact, claims)
        for row in np.flatnonzero(split.test)[:20]:
            served = head.score(((corpus.prompts[row].text, 1.0),)).quality
            assert found.quality[row] == pytest.approx(served, abs=1e-5)
    assert np.isfinite(found.quality).all()
    assert found.decision_us is not None
    assert found.decision_us > 0
    assert found.batch_per_s is not None


def test_calibration_sees_only_training_labels(corpus: Corpus, trainer: Trainer) -> None:
    """A fold's predictions stand, whatever is done to its own labels."""
    protocol = splits.grouped(corpus, 3, seed=0)
    first = protocol.splits[0]
    raw = predict.trained("mf", trainer, corpus, protocol.splits)
    plain = predict.trained("mf", trainer, corpus, protocol.splits, "platt")
    assert (plain.quality != raw.quality).any()
    cut = [splits.cut(corpus, split, 64, seed=0) for split in protocol.splits]
    before = predict.trained("mf", trainer, corpus, cut, "platt").quality[first.test]
    scores = corpus.scores.copy()
    unseen = ~np.logical_or.reduce([split.train for split in cut])
    scores[unseen] = 1 - scores[unseen]
    turned = Corpus(corpus.prompts, corpus.columns, scores, corpus.table)
    after = predict.trained("mf", routers.make("mf", turned, SIZES["small"]), turned, cut, "platt").quality[first.test]
    assert (before == after).all()


def test_a_single_split_is_calibrated_by_inner_folds(corpus: Corpus, trainer: Trainer) -> None:
    """Its fits see no prompt beyond the training ones."""
    protocol = splits.transfer(corpus, ["sums.jsonl"], [], ["sums:riddle"], 0)
    (split,), kept = protocol.splits, Recording(trainer)
    found = predict.trained("mf", kept, corpus, [split], "platt")
    raw = predict.trained("mf", trainer, corpus, [split])
    assert predict.fits(corpus, [split], "platt") == len(kept.made) == 1 + predict.INNER
    assert predict.fits(corpus, [split], "none") == 1
    assert not any((rows & ~split.train).any() for rows in kept.rows)
    assert (found.quality[split.test] != raw.quality[split.test]).any()
    assert np.isfinite(found.quality[split.test]).all()
    assert np.isnan(found.quality[~split.test]).all()


def test_models_of_another_table_speak_for_their_namesakes(sums: Outcomes) -> None:
    """`tiny` is known from the first table; nothing is known of `huge-70b`, and no size tells its strength."""
    half = len(sums.prompts) // 2
    first = Outcomes(
        name="a", sha256="a", rows=2 * half, prompts=sums.prompts[:half], models=("tiny", "big"),
        scores=sums.scores[:half],
    )  # fmt: skip
    other = Outcomes(
        name="b", sha256="b", rows=2 * half, prompts=sums.prompts[half:], models=("tiny", "huge-70b"),
        scores=sums.scores[half:],
    )  # fmt: skip
    corpus = join([first, other])
    (split,) = splits.transfer(corpus, ["a", "b"], ["a"], ["b"], 0).splits
    found = predict.trained("mf", routers.make("mf", corpus, SIZES["small"]), corpus, [split])
    assert found.placed == ("huge-70b by default",)
    assert np.isfinite(found.quality[split.test][:, 2:]).all()
    assert np.isnan(found.quality[split.test][:, :2]).all()


def test_a_checkpoint_as_it_is_and_its_leak(corpus: Corpus, sums: Outcomes, tmp_path: Path, trainer: Trainer) -> None:
    from router.learn.fit.export import signed

    every = np.ones(len(corpus.prompts), bool)
    made = signed(trainer.fit(every, np.array([0, 1])), [sums], "by hand", {})
    heads.write(tmp_path / "mine.safetensors", made)
    found = predict.of_checkpoint(tmp_path / "mine.safetensors", corpus, every, {sums.sha256: sums.name})
    assert (found.name, found.kind, found.leaks) == ("mine (file)", "checkpoint", ("sums.jsonl",))
    head = heads.make(made, [Claim(name="tiny"), Claim(name="big")])
    assert (found.quality == head.score_many([prompt.text for prompt in corpus.prompts])).all()
    assert predict.of_checkpoint(tmp_path / "mine.safetensors", corpus, every, {"other": "x"}).leaks == ()


def test_who_speaks_for_a_column() -> None:
    """Column 3 is model b in table 1: unlabelled there, so its namesake of table 0 speaks."""
    from router.learn.data.corpus import Column

    columns = (Column(0, "a"), Column(0, "b"), Column(1, "a"), Column(1, "b"))
    corpus = Corpus((), columns, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    assert predict.speaker(corpus, np.array([0, 1]), 3) == 1
    assert predict.speaker(corpus, np.array([0, 1, 2]), 2) == 2
    assert predict.speaker(corpus, np.array([0]), 3) is None
