"""The judge that is learnt: what serves says what was fitted, and nothing held out leaks."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from router.artefacts.artefact import FORMAT, Artefact, Metadata, ModelRecord
from router.learn.verifier.answered import Answered, answered
from router.learn.verifier.auroc import auc
from router.learn.verifier.judge_training import MadeJudge, make_judge
from router.learn.verifier.learner import Learner, kind_names, kinds
from router.verify.judging import Judge


def table(count: int = 480, seed: int = 0, *, told: bool = True) -> list[dict[str, Any]]:
    """Answers to questions of three kinds. Where `told`, wrong ones are longer and have a token that is unsure; a mean
    log-probability tells in kinds a and b, and is turned round in c."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        kind, right = "abc"[i % 3], bool(rng.random() < 0.5)
        bad = told and not right
        tokens = int(rng.integers(8, 30)) + 8 * bad
        level = (-0.2 - 0.4 * bad) if kind != "c" else (-0.6 + 0.4 * bad)
        logprobs = np.minimum(0, level + 0.1 * rng.normal(size=tokens))
        logprobs[tokens // 2] = -1.5 - 1.5 * bad - rng.random()
        for model, score in (("tiny", right), ("big", True)):
            seen = {
                "response": "word " * tokens, "logprobs": logprobs.tolist(), "finish_reason": "stop",
                "output_tokens": tokens, "cost_usd": 1e-6 * tokens,
            }  # fmt: skip
            more = seen if model == "tiny" else {"cost_usd": 2e-4}
            rows.append(
                {"prompt": f"{kind} question {i}", "task": f"{kind}/x", "model": model, "score": float(score)} | more
            )
    return rows


def read(folder: Path, rows: list[dict[str, Any]]) -> Answered:
    path = folder / "table.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return answered([path], judged=["tiny"])


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Answered:
    return read(tmp_path_factory.mktemp("learner"), table())


@pytest.fixture(scope="module")
def made(known: Answered) -> MadeJudge:
    return make_judge(known, 3)


def serving(made: MadeJudge) -> Judge:
    meta = Metadata(
        format=FORMAT, models=(ModelRecord(name="tiny"),), router="verifier",
        options={"judge": msgspec.to_builtins(made.options)},
    )  # fmt: skip
    return Judge(Artefact(meta=meta, arrays=made.arrays))


def test_what_serves_says_what_was_fitted(known: Answered, made: MadeJudge) -> None:
    learner = Learner(known)
    every = np.ones(len(known.right), bool)
    learnt, _ = learner.learn(every)
    prior = learner.priors.whole()
    fitted = learnt.lines[0, 1] + learnt.lines[0, 0] * learnt.model.log_odds(learner._with(prior))
    judge = serving(made)
    chance = 1 / (1 + np.exp(-prior))
    said = [judge.log_odds(float(p), one, "tiny") for p, one in zip(chance, known.evidence, strict=True)]
    assert said == pytest.approx(fitted.tolist(), abs=1e-3)


def test_it_tells_right_from_wrong_and_is_never_below_what_needs_no_training(made: MadeJudge) -> None:
    report = made.report
    assert report.in_domain.judge > 0.9
    assert report.in_domain.lead >= 0
    assert report.left_out is not None
    assert report.left_out.lead >= 0
    assert set(report.kinds) == {"a", "b", "c"}
    for one in report.kinds.values():
        assert one.lead > -0.03
    assert report.kinds["c"].mean_logprob == pytest.approx(0.05, abs=0.1)
    assert report.experts["floor"] >= 0.25
    assert report.ece < 0.08


def test_gains_over_deciding_before_are_measured_against_the_better_model(made: MadeJudge) -> None:
    assert made.report.measured == "tiny and big on 480 prompts, costs by cost_usd"
    judge = serving(made)
    assert judge.gains["cascade"] > 0.05
    assert set(judge.gains) == {"cascade", "handoff"}
    assert judge.spread("tiny") > 0.2
    assert judge.running(0.5, "tiny").tokens


def test_evidence_that_tells_nothing_is_worth_a_coin_and_every_way_is_off(tmp_path: Path) -> None:
    made = make_judge(read(tmp_path, table(told=False)), 3)
    report = made.report
    assert report.left_out is not None
    for area in (report.in_domain.judge, report.left_out.judge):
        assert 0.4 < area < 0.6
    assert set(serving(made).gains.values()) == {0.0}
    assert serving(made).spread("tiny") < 0.1


def test_held_out_figures_do_not_see_the_labels_that_they_are_held_against(tmp_path: Path) -> None:
    """Answers of one question in other words have its label and its length: one would give the other away."""
    rows = [row for row in table(240, told=False) if row["model"] == "tiny"]
    for i, row in enumerate(rows):
        twin = rows[i - i % 2]
        row |= {"group": f"g{i // 2}", "score": twin["score"], "output_tokens": 100 + 7 * (i // 2)}
        row |= {"response": None, "logprobs": None}
    found = make_judge(read(tmp_path, rows), 3).report.in_domain
    assert found.judge < 0.62
    assert found.mean_logprob is None


def test_kinds_are_families_of_tasks_or_tasks_where_there_is_one_family(known: Answered) -> None:
    assert kind_names(known.prompts) == {0: "a", 1: "b", 2: "c"}
    one = [msgspec.structs.replace(prompt, task=f"all/{prompt.task[0]}") for prompt in known.prompts]
    assert kind_names(one) == {0: "all/a", 1: "all/b", 2: "all/c"}
    many = [msgspec.structs.replace(prompt, task=f"{i % 12:02}/x") for i, prompt in enumerate(known.prompts)]
    assert kinds(many).max() == 4
    assert kind_names(many)[0] == "00, 05, 10"


def test_priors_that_the_table_tells_are_taken(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        row | {"quality": 0.9 if row["score"] else 0.2} for row in table(120) if row["model"] == "tiny"
    ]
    learner = Learner(read(tmp_path, rows))
    prior: npt.NDArray[np.float64] = learner.priors.whole()
    assert auc(learner.right, prior) == 1
    assert set(np.round(prior, 3)) == {round(np.log(9), 3), round(np.log(0.25), 3)}
