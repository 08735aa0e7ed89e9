"""Answers as evidence: what is assumed of agreement, what is counted as cost, and the figures' names."""

from pathlib import Path

import answers
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from router.learn.fit.recipe import SIZES


def test_two_right_answers_agree_and_two_wrong_ones_sometimes() -> None:
    weak = np.array([1, 1, 0] + [0] * 2000, np.float32)
    second = np.array([1, 0, 1] + [0] * 2000, np.float32)
    ids = [f"{i:x}" for i in range(len(weak))]
    found = answers.agreement(ids, weak, second, 0.28)
    assert found[:3].tolist() == [1, 0, 0]
    assert found[3:].mean() == pytest.approx(0.28, abs=0.04)
    assert found.tolist() == answers.agreement(ids, weak, second, 0.28).tolist()
    assert answers.agreement(ids, weak, second, 1.0)[3:].all()
    assert not answers.agreement(ids, weak, second, 0.0)[3:].any()


def test_a_second_answer_costs_parameters_times_characters() -> None:
    chars = {answers.SECOND: np.array([100, 300, np.nan]), answers.MMLU_PRO[1]: np.array([400, np.nan, 400])}
    assert answers.second_cost(chars) == pytest.approx(3.8 * 200 / (70.6 * 400))


def _table(path: Path, rows: list[dict[str, object]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny tables of the shared ones' shape: long answers are wrong, and so are answers with wrong sums."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    pairs, responses, pro = [], [], []
    for i in range(300):
        a, b = (int(n) for n in rng.integers(10, 99, 2))
        hard = bool(rng.random() < 0.5)
        weak, strong = float(rng.random() < (0.3 if hard else 0.8)), float(rng.random() < 0.9)
        ask = {
            "prompt_id": f"g{i}",
            "group": f"g{i}",
            "task": "gsm8k",
            "prompt": f"{'Why' if hard else 'What'} is {a} + {b}?",
        }
        pairs += [{**ask, "model": m, "score": s} for m, s in zip(answers.GSM8K, (weak, strong), strict=True)]
        responses.append({"prompt_id": f"g{i}", "weak_response": f"{a} + {b} = {a + b + (weak == 0)}\n#### {a + b}"})
        second = float(rng.random() < (0.3 if hard else 0.8))
        for model, score in zip((*answers.MMLU_PRO, answers.SECOND), (weak, strong, second), strict=True):
            pro.append(
                {**ask, "task": "mmlu_pro/x", "model": model, "score": score, "output_chars": 100 + 300 * (score == 0)}
            )
    _table(folder / "routellm_pairs.parquet", pairs)
    _table(folder / "gsm8k_weak_responses.parquet", responses)
    _table(folder / "mmlu_pro.parquet", pro)
    return folder


def test_evidence_leads_the_prompt(data: Path) -> None:
    recipe = msgspec.structs.replace(SIZES["small"], steps=4)
    found = answers.figures(data, recipe, folds=3, draws=20)
    for name in ("gsm8k_answer", "mmlu_pro_agree"):
        keys = ("apgr", "cpt50", "cpt80", "low", "high", "lead_low", "lead_high")
        assert all(np.isfinite(found[f"{name}_{key}"]) for key in keys)
        assert found[f"{name}_apgr"] > found[f"{name}_prompt_apgr"] + 0.1
        assert found[f"{name}_oracle_apgr"] > found[f"{name}_apgr"]
    assert found["gsm8k_answer_auc"] > 0.95
    assert found["mmlu_pro_agree_free_apgr"] > found["mmlu_pro_agree_always_apgr"]
