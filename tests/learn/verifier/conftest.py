"""Answers of known structure: most wrong ones do not add up, and a second model agrees with most right ones."""

import random

import numpy as np
import numpy.typing as npt
import pytest

from router.verify.evidence import Evidence


def rows(count: int = 300, seed: int = 0) -> list[dict[str, object]]:
    rng = random.Random(seed)
    out: list[dict[str, object]] = []
    for _ in range(count):
        a, b = rng.randint(10, 9999), rng.randint(10, 9999)
        right = rng.random() < 0.6
        sound = right if rng.random() < 0.9 else not right
        value = a + b if sound else a + b + rng.randint(1, 50)
        said = f"{a} + {b} = {value}.\n#### {value}"
        agreement = float(right if rng.random() < 0.8 else not right)
        out.append(
            {
                "prompt": f"What is {a} + {b}?",
                "model": "tiny",
                "score": float(right),
                "response": said,
                "agreement": agreement,
            }
        )
    return out


@pytest.fixture(scope="session")
def answers() -> list[dict[str, object]]:
    return rows()


@pytest.fixture(scope="session")
def evidence(answers: list[dict[str, object]]) -> list[Evidence]:
    return [Evidence(prompt=str(row["prompt"]), answer=str(row["response"])) for row in answers]


@pytest.fixture(scope="session")
def right(answers: list[dict[str, object]]) -> npt.NDArray[np.float32]:
    return np.array([row["score"] for row in answers], np.float32)
