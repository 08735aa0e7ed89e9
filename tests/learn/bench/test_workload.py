"""Questions from files, and made up."""

import json

import pytest

from router.errors import ConfigError
from router.learn.bench import workload


def file(tmp_path, text, name="q.jsonl"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_rows_have_questions_answers_and_graders_of_their_own(tmp_path):
    rows = [
        {"prompt": "1+1=", "expected": 2},
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], "max_tokens": 5},
        {"question": "Which?", "answer": "B", "grader": "choice", "id": "x7", "task": "t"},
    ]
    found = workload.read(file(tmp_path, "\n".join(map(json.dumps, rows))), "number")
    one, two, three = found.items
    assert (one.prompt, one.expected, one.grader, one.id) == ("1+1=", "2", "number", "0")
    assert (two.prompt, two.grader, two.max_tokens, len(two.turns)) == ("u", None, 5, 2)
    assert (three.expected, three.grader, three.id, three.task) == ("B", "choice", "x7", "t")
    assert found.graded


def test_a_csv_file_is_read_too(tmp_path):
    found = workload.read(file(tmp_path, "prompt,answer\n1+1=,2\n", "q.csv"), "number")
    assert [(item.prompt, item.expected) for item in found.items] == [("1+1=", "2")]


BROKEN = """{"prompt": "a"}
{broken
{"prompt": 3}
{"prompt": "b", "grader": "vibes"}
{"prompt": "c", "grader": "exact"}
"""


def test_broken_rows_are_refused_by_line_and_can_be_left_out(tmp_path):
    path = file(tmp_path, BROKEN)
    with pytest.raises(ConfigError) as refused:
        workload.read(path, None)
    told = str(refused.value)
    assert told.startswith("4 broken rows; --skip-broken leaves them out:")
    for text in (
        "q.jsonl:2: expected a JSON object, got broken JSON",
        "q.jsonl:3: prompt: expected text, got 3",
        "q.jsonl:4: grader: expected one of exact, number, choice, regex, command; got 'vibes'",
        "q.jsonl:5: expected: the grader exact wants an expected answer, got none",
    ):
        assert text in told
    found = workload.read(path, None, skip_broken=True)
    assert ([item.prompt for item in found.items], len(found.left_out)) == (["a"], 4)


@pytest.mark.parametrize(
    ("grader", "expected", "message"),
    [
        ("regex", "(", "is no regular expression"),
        ("number", "none", "the grader number wants a number"),
        ("choice", "AB", "the grader choice wants one letter"),
    ],
)
def test_an_expected_answer_that_a_grader_cannot_use_is_refused(tmp_path, grader, expected, message):
    with pytest.raises(ConfigError, match=message):
        workload.read(file(tmp_path, json.dumps({"prompt": "p", "expected": expected})), grader)


def test_made_up_prompts_differ_from_their_first_word_on_and_have_their_length():
    items = workload.synthetic(100, 20, 8, 0).items
    assert len({item.prompt.split()[0] for item in items}) == 100
    assert {len(item.prompt.split()) for item in items} == {20}
    assert {(item.max_tokens, item.fixed) for item in items} == {(8, True)}
