"""The zoo's outcomes script: rows fit the schema, shares of right answers are counted, the README's table is made."""

import random

import lexicon
import pyarrow as pa
import pytest
import stack
import tasks
import torch
import yaml

pytestmark = pytest.mark.usefixtures("one_thread")


def asked(count):
    return tasks.mixed(random.Random(4), count, "test")


def test_rows_fit_the_schema_and_score_the_answers(labelling):
    questions = asked(24)
    texts = [question.answer if question.level < 3 else "so 1000000" for question in questions]
    rows = labelling.rows(questions, "zoo-small", texts, [7] * 24)
    table = pa.Table.from_pylist(rows, labelling.SCHEMA)
    assert all(column.null_count == 0 for column in table.columns)
    assert [row["score"] for row in rows] == [float(question.level < 3) for question in questions]
    assert {row["output_tokens"] for row in rows} == {7}
    assert labelling.summary(rows)["zoo-small"]["all"] == 0.5


def test_router_has_both_splits_and_all_wordings_of_a_question_in_one():
    questions = asked(480)
    sides = {}
    for question in questions:
        sides.setdefault(question.group, set()).add(question.router_split)
    assert all(len(split) == 1 for split in sides.values())
    assert 0.1 < sum(question.router_split == "test" for question in questions) / 480 < 0.3


def test_markdown_has_a_row_a_task_with_its_levels_and_a_column_a_model(labelling):
    questions = asked(48)
    right = labelling.rows(questions, "zoo-large", [question.answer for question in questions], [1] * 48)
    wrong = labelling.rows(questions, "zoo-small", [""] * 48, [1] * 48)
    lines = labelling.markdown(labelling.summary(wrong + right)).splitlines()
    assert lines[:3] == [
        "| task | zoo-small | zoo-large |",
        "| --- | --- | --- |",
        "| add | 0.00 / 0.00 / 0.00 / 0.00 | 1.00 / 1.00 / 1.00 / 1.00 |",
    ]
    assert [line.split(" | ")[0] for line in lines[2:-1]] == [f"| {task}" for task in tasks.TASKS]
    assert lines[-1] == "| all | 0.000 | 1.000 |"


def test_a_saved_model_is_asked_and_its_answers_measured(training, labelling, tmp_path):
    torch.manual_seed(2)
    training.save(stack.Stack(stack.Shape(1, 32, 32)), lexicon.build(), tmp_path / "tiny")
    texts, tokens = labelling.told(tmp_path / "tiny", ["12+71=", "Sort 86 16 79."], show=False)
    assert len(texts) == 2
    assert all(1 <= length <= 300 for length in tokens)


def test_config_names_the_models_of_the_table(zoo, labelling):
    pool = yaml.safe_load((zoo / "headgate.yaml").read_text())["pool"]
    assert {member["name"]: member["model"] for member in pool} == labelling.MODELS


def test_stages_end_with_the_layers_that_the_config_tells(zoo, training):
    text = (zoo / "headgate.yaml").read_text()
    for name in training.KEPT:
        assert f"- name: zoo-{name} # {training.final_shape(name).layers} layers" in text
