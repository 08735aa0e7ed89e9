"""Graded questions for `headgate bench`: `python examples/pair/workload.py` writes `workload.jsonl` (kept).

Sums of every length and wording, and the fixed facts, in the mix of `outcomes.py`; drawn anew, so not its questions.
"""

import json
import random
from pathlib import Path

import questions

COUNT, SEED = 400, 11


def row(exchange: questions.Exchange) -> dict[str, object]:
    """Of a sum the last number counts, else the whole text: as `questions.score` has it."""
    grader = "number" if "sum" in exchange.task else "exact"
    return {"prompt": exchange.prompt, "expected": exchange.answer, "grader": grader, "task": exchange.task}


def drawn(count: int, seed: int) -> list[dict[str, object]]:
    """`count` different questions."""
    rng = random.Random(seed)
    found: dict[str, dict[str, object]] = {}
    while len(found) < count:
        digits = rng.randint(1, 4)
        makers = (
            lambda: questions.short_sum(rng, digits),
            lambda: questions.worded_sum(rng, digits),
            lambda: questions.explained_sum(rng, digits),
            lambda: questions.short_sum(rng, min(digits, 3), 3),
            lambda: questions.fact(rng),
        )
        exchange = rng.choices(makers, (8, 8, 2, 2, 1))[0]()
        found.setdefault(exchange.prompt, row(exchange))
    return list(found.values())


def main() -> None:
    rows = [json.dumps({"id": str(number), **one}) for number, one in enumerate(drawn(COUNT, SEED))]
    Path(__file__).with_name("workload.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
