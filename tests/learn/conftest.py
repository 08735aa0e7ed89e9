"""A small table of known structure: sums, where the weak model fails on long numbers and both fail on riddles."""

import random
import sys
from pathlib import Path

import msgspec
import pytest

# What only benches and their tests use lies there; `test_beside` and `test_routers` compare with it.
sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))


def rows(prompts: int = 400, seed: int = 0) -> list[dict[str, object]]:
    rng = random.Random(seed)
    out: list[dict[str, object]] = []
    for i in range(prompts):
        digits = rng.randint(1, 6)
        a, b = (rng.randint(10 ** (digits - 1), 10**digits - 1) for _ in range(2))
        riddle = rng.random() < 0.2
        text = f"Why is {a} like {b} in riddle {i}?" if riddle else f"What is {a} + {b}?"
        weak = 0.0 if riddle or digits > 3 else 1.0
        strong = 0.0 if riddle else 1.0
        for model, score in (("tiny", weak), ("big", strong)):
            if rng.random() < 0.05:
                score = 1 - score
            out.append({"prompt": text, "model": model, "score": score, "task": "riddle" if riddle else "sum"})
    return out


def write_jsonl(path: Path, content: list[dict[str, object]]) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in content))
    return path


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("outcomes") / "sums.jsonl", rows())
