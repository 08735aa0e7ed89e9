"""A verifier read from a file: what it says, and what it refuses."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from router.artefacts import artefact as artefacts
from router.artefacts.artefact import FORMAT, Artefact, Metadata, ModelRecord
from router.errors import ConfigError
from router.verify.evidence import Evidence
from router.verify.verifier import NAMES, LinearVerifier, load, matrix

SOME = (
    Evidence(prompt="What is 2 + 2?", answer="2 + 2 = 4"),
    Evidence(prompt="What is 2 + 2?", answer="2 + 2 = 5", agreement=0.0, second_tokens=9),
    Evidence(output_tokens=300, mean_logprob=-0.3, least_logprob=-5.0, quality=0.4),
    Evidence(),
    Evidence(answer=""),
    Evidence(answer="nothing \ud800 \U0001f600", agreement=1.0),
)


def made(seed: int = 0, **changes: Any) -> Artefact:
    rng = np.random.default_rng(seed)
    n = len(NAMES)
    arrays = {
        "weights": rng.normal(size=(2, n)), "unknown": rng.normal(size=(2, n)), "centre": rng.normal(size=n),
        "scale": rng.uniform(0.5, 2, n), "bias": rng.normal(size=2),
    }  # fmt: skip
    meta = Metadata(
        format=FORMAT, models=(ModelRecord(name="tiny"),), router="verifier", options={"names": list(NAMES)}
    )
    arrays |= changes.pop("arrays", {})
    return Artefact(
        meta=msgspec.structs.replace(meta, **changes), arrays={k: np.asarray(v, np.float32) for k, v in arrays.items()}
    )


def test_says_what_its_weights_say() -> None:
    n = len(NAMES)
    at = NAMES.index("wrong")
    weights, unknown = np.zeros((2, n)), np.zeros((2, n))
    weights[:, at], unknown[:, at] = (-2, -3), (0.5, 0.25)
    arrays = {"weights": weights, "unknown": unknown, "centre": np.zeros(n), "scale": np.ones(n), "bias": [1, 2]}
    verifier = LinearVerifier(made(arrays=arrays))
    said = verifier.judge_many(SOME)
    logits = [1, 2 - 3, 1 + 0.5, 1 + 0.5, 1, 2]
    assert said == pytest.approx(1 / (1 + np.exp(-np.array(logits))), abs=1e-6)


def test_one_by_one_is_the_same_as_many() -> None:
    verifier = LinearVerifier(made())
    assert [verifier.judge(one) for one in SOME] == verifier.judge_many(SOME).tolist()
    assert verifier.judge_many([]).shape == (0,)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "verifier.safetensors"
    artefacts.write(path, made())
    assert load(path).judge_many(SOME).tolist() == LinearVerifier(made()).judge_many(SOME).tolist()


def test_a_giant_answer_is_judged_by_its_ends() -> None:
    verifier = LinearVerifier(made())
    middle = "12 * 3 + 5 = 41. But then, x = y?\n" * 30_000
    giant = [
        Evidence(prompt="7 " + text, answer="3 + 4 = 7 " + text + " #### 41") for text in (middle, middle[:-34] + "7")
    ]
    assert len(giant[0].answer or "") > 1_000_000
    assert np.isfinite(verifier.judge_many(giant)).all()
    assert matrix(giant)[0, NAMES.index("final")] == 1


def test_a_number_of_no_weight_may_be_left_out() -> None:
    keep = [name for name in NAMES if name != "lines"]
    columns = [NAMES.index(name) for name in keep]
    whole = made()
    arrays = {name: array[..., columns] if name != "bias" else array for name, array in whole.arrays.items()}
    less = LinearVerifier(made(options={"names": keep}, arrays=arrays))
    weights, unknown = whole.arrays["weights"].copy(), whole.arrays["unknown"].copy()
    weights[:, NAMES.index("lines")] = unknown[:, NAMES.index("lines")] = 0
    same = LinearVerifier(made(arrays={"weights": weights, "unknown": unknown}))
    assert less.judge_many(SOME) == pytest.approx(same.judge_many(SOME), abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"router": "mf"}, "<memory>: router: expected 'verifier', got 'mf'"),
        ({"options": {}}, "<memory>: options.names: expected the numbers that are weighed, got None"),
        ({"options": {"names": ["luck"]}}, "options.names: expected some of .*; got 'luck'"),
        ({"arrays": {"scale": np.zeros(len(NAMES))}}, "<memory>: scale: expected numbers above 0, got 0.0"),
        ({"arrays": {"bias": np.zeros(1)}}, r"<memory>: bias: expected shape \[2\], got \[1\]"),
    ],
)
def test_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LinearVerifier(made(**changes))
