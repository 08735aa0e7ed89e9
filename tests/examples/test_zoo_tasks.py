"""The zoo's questions: the working is true, the result follows from the prompt, the split leaks nothing."""

import random
import re

import pytest
import tasks
from hypothesis import given
from hypothesis import strategies as st

seeds = st.integers(0, 2**32)
levels = st.sampled_from(tasks.LEVELS)


def numbers(text):
    return [int(number) for number in re.findall(r"\d+", text)]


@given(seeds, st.sampled_from(sorted(tasks.TASKS)), levels)
def test_right_answer_scores_one_and_another_result_zero(seed, task, level):
    question = tasks.TASKS[task](random.Random(seed), level)
    assert (question.task, question.level) == (task, level)
    assert tasks.score(question, question.answer) == 1.0
    assert tasks.score(question, question.answer + "1") == 0.0
    assert tasks.score(question, question.result) == 0.0, "a result without `so` is not an answer"


@given(seeds, levels)
def test_sum_ends_with_the_sum_and_has_a_column_a_digit(seed, level):
    question = tasks.add(random.Random(seed), level)
    a, b = numbers(question.prompt)
    assert len(str(a)) == len(str(b)) == level + 1
    assert question.result == str(a + b)
    steps = question.answer.split(" so ")[0].split(" ")
    assert len(steps) == level + 1
    for step in steps:
        left, right = step.split("=")
        assert sum(map(int, left.split("+"))) == int(right)


def test_columns_carry():
    assert tasks.columns(4821, 977) == "1+7=8 2+7=9 8+9=17 4+0+1=5"


@given(seeds, levels)
def test_sorted_numbers_are_those_of_the_prompt_in_order(seed, level):
    question = tasks.sort(random.Random(seed), level)
    assert len(numbers(question.prompt)) == level + 2
    assert numbers(question.result) == sorted(numbers(question.prompt))
    assert len({number // 10 for number in numbers(question.result)}) == level + 2


@given(seeds, levels)
def test_copy_gives_the_letters_back(seed, level):
    question = tasks.copy(random.Random(seed), level)
    assert question.prompt.endswith(question.result)
    assert len(question.result.split()) == 3 * level + 1


@given(seeds, levels)
def test_count_is_that_of_the_letter_asked(seed, level):
    question = tasks.count(random.Random(seed), level)
    wanted, among = re.search(r"(\w) in ([\w, ]+)", question.prompt).groups()
    assert len(among.split(", ")) == 3 * level + 1
    assert question.result == str(among.split(", ").count(wanted))


@given(seeds, levels)
def test_modular_sum_is_the_rest_of_the_sum(seed, level):
    question = tasks.modular(random.Random(seed), level)
    *terms, modulus = numbers(question.prompt)
    assert len(terms) == level + 2
    assert question.result == str(sum(terms) % modulus)


@given(seeds, levels)
def test_story_has_two_true_steps_from_the_numbers_told(seed, level):
    question = tasks.story(random.Random(seed), level)
    first, second = question.answer.split(" so ")[0].split(" ")
    for step in (first, second):
        a, sign, b, result = re.fullmatch(r"(\d+)([-+*])(\d+)=(\d+)", step).groups()
        assert tasks.SIGNS[sign](int(a), int(b)) == int(result)
    a, b, c = numbers(question.prompt)
    assert numbers(first)[:2] == [a, b]
    assert numbers(second)[1] == c
    assert numbers(second)[0] == numbers(first)[2]
    assert question.result == second.split("=")[1]


@pytest.mark.parametrize(
    ("response", "score"),
    [("so 5798", 1.0), ("1+7=9 so 5798", 1.0), ("so 1 so 5798 ", 1.0), ("5798", 0.0), ("so 57980", 0.0), ("so", 0.0),
     ("so 5798 so 5799", 0.0), ("", 0.0)],
)  # fmt: skip
def test_score_looks_at_what_follows_the_last_so(response, score):
    question = tasks.Question("add", 3, "4821+977=", "1+7=8 2+7=9 8+9=17 4+0+1=5 so 5798", "4821+977")
    assert tasks.score(question, response) == score


@given(seeds, st.sampled_from(sorted(tasks.TASKS)), levels, st.sampled_from(("train", "test")))
def test_drawn_question_is_of_the_split_asked_for(seed, task, level, split):
    assert tasks.draw(random.Random(seed), task, level, split).split == split


def test_what_is_looked_back_at_is_as_far_from_the_end_in_all_wordings():
    """So one offset does for all of them; the tokenizer keeps each of these ends a token."""
    rng = random.Random(4)
    for task in ("add", "sort", "copy", "count", "modular"):
        for _ in range(100):
            question = tasks.TASKS[task](rng, 1)
            tail = question.prompt[:-1] if task != "copy" else question.prompt
            assert tail.endswith(question.key), question.prompt


def test_all_wordings_of_a_sum_are_on_one_side():
    rng = random.Random(3)
    sides: dict[str, set[str]] = {}
    for _ in range(4000):
        question = tasks.add(rng, 1)
        sides.setdefault(question.key, set()).add(question.split)
    assert all(len(side) == 1 for side in sides.values())
    assert {"train"} in sides.values()
    assert {"test"} in sides.values()


def test_mixed_questions_differ_and_are_even_over_tasks_and_levels():
    drawn = tasks.mixed(random.Random(5), 240, "test")
    assert len({question.prompt for question in drawn}) == 240
    cells = [(question.task, question.level) for question in drawn]
    assert {cells.count(cell) for cell in cells} == {10}
    assert len(set(cells)) == 24


def test_more_questions_than_there_are_is_an_error_that_names_the_task():
    with pytest.raises(ValueError, match=r"1000000 different questions: story, level \d, test has too few"):
        few = {"story": lambda rng, level: tasks.story(random.Random(rng.randrange(40)), 1)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tasks, "TASKS", few)
            tasks.mixed(random.Random(1), 1_000_000, "test")


def test_the_same_seed_draws_the_same():
    assert tasks.mixed(random.Random(9), 48, "train") == tasks.mixed(random.Random(9), 48, "train")
