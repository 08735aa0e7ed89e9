"""No question stands on both sides of a fold, in whatever table."""

import numpy as np
import pytest

from router.learn.data import folds, outcomes
from router.learn.data.corpus import join
from router.learn.data.outcomes import Prompt

PROMPTS = [Prompt(str(i), f"g{i % 40}", f"t{i % 7}", f"text {i}") for i in range(120)]


def test_groups_stay_together() -> None:
    fold = folds.by_group(PROMPTS, 5)
    for group in {prompt.group for prompt in PROMPTS}:
        assert len({fold[i] for i, prompt in enumerate(PROMPTS) if prompt.group == group}) == 1
    assert set(fold) == set(range(5))
    assert (folds.by_group(PROMPTS, 5, seed=1) != fold).any()


def test_folds_do_not_hang_on_the_order() -> None:
    assert folds.by_group(PROMPTS[::-1], 5)[::-1].tolist() == folds.by_group(PROMPTS, 5).tolist()


def test_whole_tasks_are_held_out() -> None:
    fold = folds.by_task(PROMPTS, 3)
    for task in {prompt.task for prompt in PROMPTS}:
        assert len({fold[i] for i, prompt in enumerate(PROMPTS) if prompt.task == task}) == 1
    assert np.bincount(folds.by_task([Prompt("", "", f"t{i}", "") for i in range(6)], 3)).tolist() == [2, 2, 2]


def test_training_leaves_out_every_wording_of_a_test_question() -> None:
    test = np.array([i < 40 for i in range(120)])  # each group once; the other 80 prompts reword them
    assert not folds.training_rows(PROMPTS, test).any()


def test_no_leak_between_the_tables_at_hand(shared_data) -> None:  # type: ignore[no-untyped-def]
    names = ("routellm_pairs", "mmlu_pro", "llmrouter_9models")
    corpus = join([outcomes.read(shared_data / f"{name}.parquet") for name in names])
    fold = folds.by_group(corpus.prompts, 5)
    test = (fold == 0) & (corpus.table == 0)
    held = {prompt.group for prompt, out in zip(corpus.prompts, test, strict=True) if out}
    train = folds.training_rows(corpus.prompts, test)
    assert not held & {prompt.group for prompt, used in zip(corpus.prompts, train, strict=True) if used}
    dropped = ~train & (corpus.table == 1)
    assert dropped.sum() > 500, "MMLU-Pro rewords thousands of MMLU's questions"


@pytest.mark.parametrize("count", [2, 10])
def test_folds_are_about_even(count: int) -> None:
    prompts = [Prompt(str(i), str(i), "", "") for i in range(5000)]
    sizes = np.bincount(folds.by_group(prompts, count))
    assert len(sizes) == count
    assert sizes.min() > 0.85 * 5000 / count
