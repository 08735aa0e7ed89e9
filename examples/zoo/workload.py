"""Graded questions for `headgate bench`: `python examples/zoo/workload.py` writes `workload.jsonl` (kept).

All tasks and levels alike often. No model was trained on them, nor the router on their outcomes.
"""

import json
import random
from pathlib import Path

import tasks

COUNT, SEED = 480, 11
MOST_TOKENS = 64  # the longest right answer has about 50


def row(question: tasks.Question) -> dict[str, object]:
    """A right answer ends with `so` and the result: as `tasks.score` has it."""
    pattern = rf"{tasks.LAST}\s*{question.result}\s*$"
    task = f"{question.task}/{question.level}"
    return {"prompt": question.prompt, "expected": pattern, "grader": "regex", "task": task, "max_tokens": MOST_TOKENS}


def drawn(count: int, seed: int) -> list[dict[str, object]]:
    """`count` different questions in an order drawn by the seed, so that any run of them is a mix."""
    rng = random.Random(seed)
    kept = [question for question in tasks.mixed(rng, 8 * count, "test") if question.router_split == "test"]
    cells: dict[tuple[str, int], list[tasks.Question]] = {}
    for question in kept:
        cells.setdefault((question.task, question.level), []).append(question)
    each = count // len(cells)
    questions = [question for cell in cells.values() for question in cell[:each]]
    rng.shuffle(questions)
    return [row(question) for question in questions]


def main() -> None:
    rows = [json.dumps({"id": str(number), **one}) for number, one in enumerate(drawn(COUNT, SEED))]
    Path(__file__).with_name("workload.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
