"""Graders: what is right, and what fails or hangs without ending a run."""

import sys

import pytest

from router.learn.bench.grade import Asked, Grade, Graders


def graded(grader, expected, answer, command="", limit_s=60.0):
    graders = Graders(command, limit_s)
    try:
        (found,) = graders.grade([(grader, Asked(id="1", prompt="p", expected=expected, answer=answer))])
    finally:
        graders.close()
    return found


@pytest.mark.parametrize(
    ("grader", "expected", "answer", "score"),
    [
        ("exact", "Paris.", " Paris.\n", 1.0),
        ("exact", "Paris.", "paris.", 0.0),
        ("number", "205", "8+7=15, 2+7+1=10, so 205", 1.0),
        ("number", "1,205.0", "It is 1205.", 1.0),
        ("number", "205", "205, or perhaps 206", 0.0),
        ("number", "205", "I cannot say", 0.0),
        ("choice", "B", "A is wrong, so the answer is (B).", 1.0),
        ("choice", "B", "**Answer: B**, not A", 1.0),
        ("choice", "b", "b)", 1.0),
        ("choice", "B", "C", 0.0),
        ("regex", r"^\d{3}$", "205", 1.0),
        ("regex", r"^\d{3}$", "20", 0.0),
    ],
)
def test_an_answer_is_right_or_wrong(grader, expected, answer, score):
    assert graded(grader, expected, answer) == Grade(score)


def command(code):
    return f"{sys.executable} -c '{code}'"


def test_a_command_reads_the_question_and_its_last_line_is_the_score():
    code = 'import json,sys; one = json.load(sys.stdin); print("note"); print(0.5 * (one["answer"] == one["expected"]))'
    assert graded("command", "x", "x", command(code)) == Grade(0.5)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ('import sys; sys.exit("no model")', "exit code 1: no model"),
        ("print(7)", "expected a score from 0 to 1, got '7'"),
        ('print("nan")', "expected a score from 0 to 1, got 'nan'"),
        ("pass", "expected a score from 0 to 1, got ''"),
    ],
)
def test_a_command_that_fails_gives_no_grade_and_says_why(code, why):
    assert graded("command", "x", "x", command(code)) == Grade(None, why)


def test_a_command_that_is_not_there_gives_no_grade():
    assert graded("command", "x", "x", "/no/such") == Grade(None, "/no/such: No such file or directory")


def test_a_command_that_hangs_is_ended_with_what_it_started():
    found = graded("command", "x", "x", "sh -c 'sleep 3600 & sleep 3600'", limit_s=0.2)
    assert found == Grade(None, "no grade within 0.2 s")


def test_a_pattern_that_never_ends_gives_no_grade_and_the_next_one_is_graded():
    graders = Graders(limit_s=1.0)
    endless = Asked(id="1", prompt="p", expected="(a+)+$", answer="a" * 60 + "b")
    plain = Asked(id="2", prompt="p", expected="a", answer="a")
    try:
        assert graders.grade([("regex", endless)]) == [Grade(None, "no grade within 1 s")]
        graders._patterns._limit_s = 60.0
        assert graders.grade([("regex", plain)]) == [Grade(1.0)]
    finally:
        graders.close()
