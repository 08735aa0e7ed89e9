"""The zoo's graded questions are what their script draws, `headgate bench` reads them and grades as the tasks do."""

import json
import random
import re
from collections import Counter

import pyarrow.parquet as pq
import pytest
import tasks

from router.learn.bench import workload


def test_the_kept_questions_are_those_drawn_and_all_are_graded(zoo, asking):
    path = zoo / "workload.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == [{"id": str(number), **row} for number, row in enumerate(asking.drawn(asking.COUNT, asking.SEED))]
    items = workload.read(path, None).items
    assert {item.grader for item in items} == {"regex"}
    assert len({item.prompt for item in items}) == asking.COUNT
    assert set(Counter(row["task"] for row in rows).values()) == {asking.COUNT // 24}


def test_no_question_is_one_that_the_router_learnt_from(zoo, asking):
    table = pq.read_table(zoo / "outcomes.parquet", columns=["prompt", "split"]).to_pylist()
    learnt = {row["prompt"] for row in table if row["split"] == "train"}
    assert not learnt & {row["prompt"] for row in asking.drawn(asking.COUNT, asking.SEED)}


@pytest.mark.parametrize("task", sorted(tasks.TASKS))
def test_pattern_grades_as_the_task_does(asking, task):
    rng = random.Random(3)
    question = tasks.draw(rng, task, 2, "test")
    other = tasks.draw(rng, task, 2, "test").result
    pattern = asking.row(question)["expected"]
    right = question.result
    for text in (
        question.answer,
        f"so {right}",
        f"so {other} so {right} \n",
        right,
        f"so {right}1",
        f"so {other}",
        "so",
        "",
    ):
        assert bool(re.search(pattern, text)) == bool(tasks.score(question, text)), text
