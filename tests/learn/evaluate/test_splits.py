"""What is held out: no tested question is ever trained on, and small draws are within larger ones."""

import numpy as np
import pytest

from router.errors import ConfigError
from router.learn.data.corpus import Corpus, join
from router.learn.data.outcomes import Outcomes, Prompt
from router.learn.evaluate import splits

NAMES = ("one.parquet", "two.parquet")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Two tables of 60 prompts; every third question stands in both."""

    def table(name: str, number: int) -> Outcomes:
        groups = [f"q{i}" if i % 3 == 0 else f"{name}{i}" for i in range(60)]
        prompts = tuple(
            Prompt(f"{name}{i}", group, f"{name}/{'ab'[i % 2]}", f"{name} text {i}") for i, group in enumerate(groups)
        )
        scores = np.random.default_rng(number).integers(0, 2, (60, 2)).astype(np.float32)
        return Outcomes(name=name, sha256=name, rows=120, prompts=prompts, models=("small", "big"), scores=scores)

    return join([table("one", 1), table("two", 2)])


def groups(corpus: Corpus, rows: np.ndarray) -> set[str]:
    return {prompt.group for prompt, chosen in zip(corpus.prompts, rows, strict=True) if chosen}


def test_folds_test_every_prompt_once_and_share_no_question(corpus: Corpus) -> None:
    protocol = splits.grouped(corpus, 4, seed=0)
    assert sum(split.test for split in protocol.splits).tolist() == [1] * 120
    for split in protocol.splits:
        assert not groups(corpus, split.train) & groups(corpus, split.test)
    assert protocol.tested.all()


def test_too_few_questions_for_the_folds(corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match=r"--folds: 50 folds need more questions than 100"):
        splits.grouped(corpus, 50, seed=0)


def test_whole_tasks_are_left_out(corpus: Corpus) -> None:
    protocol = splits.tasks_out(corpus, 5, seed=0)
    assert len(protocol.splits) == 4  # as many as there are tasks
    for split in protocol.splits:
        assert not set(corpus.tasks[split.train]) & set(corpus.tasks[split.test])
        assert not groups(corpus, split.train) & groups(corpus, split.test)


def test_transfer_between_tables_leaves_shared_questions_out(corpus: Corpus) -> None:
    (split,) = splits.transfer(corpus, NAMES, ["one"], ["two.parquet"], 0).splits
    assert (corpus.table[split.train] == 0).all()
    assert split.test.sum() == 60
    assert split.train.sum() == 40
    assert not groups(corpus, split.train) & groups(corpus, split.test)


def test_transfer_to_a_task_trains_on_all_else(corpus: Corpus) -> None:
    protocol = splits.transfer(corpus, NAMES, [], ["two:*/a"], 0)
    (split,) = protocol.splits
    assert set(corpus.tasks[split.test]) == {"two/a"}
    assert set(corpus.table[split.train]) == {0, 1}
    assert not groups(corpus, split.train) & groups(corpus, split.test)
    assert set(protocol.folds.tolist()) == {-1, 0, 1}  # thresholds: one half by the other


@pytest.mark.parametrize(
    ("train_on", "test_on", "message"),
    [
        (["oen"], ["two"], r"--train-on: expected one of the tables one, two; got 'oen'; did you mean 'one'\?"),
        ([], ["two:two/x"], r"--test-on: two has no prompt of task 'two/x'; did you mean 'two/[ab]'\?"),
        (["two"], ["two"], "--train-on: no prompt is left whose question is not tested"),
    ],
)
def test_transfer_refuses(corpus: Corpus, train_on: list[str], test_on: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        splits.transfer(corpus, NAMES, train_on, test_on, 0)


def test_cuts_are_nested_and_of_each_table(corpus: Corpus) -> None:
    split = splits.grouped(corpus, 4, seed=0).splits[0]
    small, large = (splits.cut(corpus, split, labels, seed=0) for labels in (5, 20))
    assert np.bincount(corpus.table[small.train]).tolist() == [5, 5]
    assert (large.train | ~small.train).all()
    assert (split.train | ~large.train).all()
    assert (small.test == split.test).all()
    other = splits.cut(corpus, split, 5, seed=1)
    assert (other.train != small.train).any()
