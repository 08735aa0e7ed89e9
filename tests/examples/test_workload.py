"""The pair's graded questions are what their script draws, and `headgate bench` reads them."""

import json
from collections import Counter

import workload as pair_workload

from router.learn.bench import workload


def test_the_kept_questions_are_those_drawn_and_all_are_graded(root):
    path = root / "examples" / "pair" / "workload.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    drawn = pair_workload.drawn(pair_workload.COUNT, pair_workload.SEED)
    assert rows == [{"id": str(number), **row} for number, row in enumerate(drawn)]
    items = workload.read(path, None).items
    assert Counter(item.grader for item in items).keys() == {"number", "exact"}
    assert len({item.prompt for item in items}) == 400
