"""The pair's task: questions have the right answers, and the check of an answer cannot be fooled easily."""

import random
import re

import pytest
import questions
from hypothesis import given
from hypothesis import strategies as st

MAKERS = (questions.short_sum, questions.worded_sum, questions.explained_sum, questions.json_sum)


@given(st.integers(0, 2**32), st.integers(1, 4), st.sampled_from(MAKERS))
def test_sum_answer_ends_with_the_sum_of_the_numbers_asked(seed, digits, maker):
    exchange = maker(random.Random(seed), digits)
    asked = [int(number) for number in questions.numbers_in(exchange.prompt)]
    assert len(asked) == 2
    assert max(len(str(number)) for number in asked) == digits
    assert int(questions.numbers_in(exchange.answer)[-1]) == sum(asked)


@given(st.lists(st.integers(0, 9999), min_size=2, max_size=5))
def test_worked_line_holds_true_equations_and_the_sum(numbers):
    line = questions.worked(numbers)
    *columns, last = line.split(", ")
    for column in columns:
        left, right = column.split("=")
        assert sum(map(int, left.split("+"))) == int(right)
    assert last == f"so {sum(numbers)}"
    assert len(columns) == len(str(max(numbers)))


def test_worked_line_carries():
    assert questions.worked([128, 77]) == "8+7=15, 2+7+1=10, 1+0+1=2, so 205"


@pytest.mark.parametrize(
    ("numbers", "work_from", "told"), [([8, 7], 2, "15"), ([12, 7], 3, "19"), ([12, 7], 2, "2+7=9, 1+0=1, so 19")]
)
def test_short_sums_are_told_at_once(numbers, work_from, told):
    assert questions.told(numbers, work_from) == told


@pytest.mark.parametrize(
    ("response", "score"),
    [
        ("5798", 1.0),
        ("1+7=8, so 5798", 1.0),
        (" 5798\n", 1.0),
        ("5798 or 1", 0.0),
        ("57980", 0.0),
        ("", 0.0),
        ("none", 0.0),
    ],
)
def test_score_of_a_sum_looks_at_the_last_number(response, score):
    exchange = questions.Exchange("sum", "4821+977=", "5798", 4)
    assert questions.score(exchange, response) == score


def test_score_of_other_tasks_compares_the_text():
    exchange = questions.Exchange("fact", "Hello!", questions.FACTS["Hello!"])
    assert questions.score(exchange, questions.FACTS["Hello!"] + " ") == 1.0
    assert questions.score(exchange, "hello") == 0.0


def test_counting_is_complete():
    exchange = questions.counting(random.Random(3))
    first, last = map(int, re.findall(r"\d+", exchange.prompt))
    assert exchange.answer.split(", ") == [str(number) for number in range(first, last + 1)]
