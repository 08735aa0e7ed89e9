"""Tables whose models have no weakest and strongest: trained where there is something to learn, else refused."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router import heads
from router.cli.main import main
from router.errors import ConfigError
from router.heads import Claim
from router.learn.data.corpus import Column, Corpus
from router.learn.data.outcomes import Prompt
from router.learn.evaluate import metrics
from router.learn.evaluate.evaluation import no_pair, widest_pair
from router.learn.fit.recipe import SIZES
from router.learn.fit.training import Report, run

FRENCH, SUM = "translate sentence {} to French", "compute the sum of {} and 3"


def written(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def answers(i: int, scores: dict[str, float]) -> list[dict[str, Any]]:
    text = (FRENCH if i % 2 else SUM).format(i)
    return [{"prompt": text, "model": model, "score": score} for model, score in scores.items()]


def specialists(path: Path) -> Path:
    rows = [row for i in range(80) for row in answers(i, {"translator": i % 2, "calculator": 1 - i % 2})]
    return written(path, rows)


def trained(paths: list[Path], out: Path, router: str = "mf") -> Report:
    return run(paths, out, SIZES["small"], router=router)


def corpus_of(scores: list[list[float]], tables: list[int] | None = None) -> Corpus:
    array = np.array(scores, np.float32)
    columns = tuple(Column(table, f"m{i}") for i, table in enumerate(tables or [0] * array.shape[1]))
    prompts = tuple(Prompt(str(i), str(i), "", str(i)) for i in range(len(array)))
    return Corpus(prompts, columns, array, np.zeros(len(array), np.int64))


@pytest.mark.parametrize("router", ["mf", "knn", "mlp", "rules", "sw_ranking"])
def test_two_specialists_of_equal_means_are_trained(tmp_path: Path, router: str) -> None:
    out = tmp_path / "x.safetensors"
    report = trained([specialists(tmp_path / "t.jsonl")], out, router)
    assert report.held_out == ()
    assert report.unmeasured == (
        "t.jsonl: no two of its models differ in mean score on the prompts that both have answered: there is no gain "
        "to share",
    )
    head = heads.load(out, [Claim(name="translator"), Claim(name="calculator")])
    if router in ("mf", "knn", "mlp"):
        french, total = head.score_many([FRENCH.format(201), SUM.format(200)])
        assert french[0] > french[1]
        assert total[1] > total[0]


def test_the_command_trains_specialists_and_says_what_is_not_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = specialists(tmp_path / "t.jsonl")
    assert main(["train", str(table), "--size", "small", "--out", str(tmp_path / "x.safetensors")]) == 0
    said = capsys.readouterr().out
    assert "No held-out figures of t.jsonl: no two of its models differ in mean score" in said
    assert "APGR" not in said


def test_a_third_model_that_differs_gives_the_pair(tmp_path: Path) -> None:
    rows = [row for i in range(80) for row in answers(i, {"a": i % 2, "b": 1 - i % 2, "c": float(i % 4 > 0)})]
    held = trained([written(tmp_path / "t.jsonl", rows)], tmp_path / "x.safetensors").held_out[0]
    assert held.strong == "c"
    assert held.weak in ("a", "b")


def test_one_answer_a_prompt_as_feedback_gives_is_trained(tmp_path: Path) -> None:
    rows = [answers(i, {("a", "b")[i // 2 % 2]: float(i % 2)})[0] for i in range(80)]
    report = trained([written(tmp_path / "feedback.jsonl", rows)], tmp_path / "x.safetensors")
    assert report.models == ("b", "a") or report.models == ("a", "b")
    assert report.unmeasured == (
        "feedback.jsonl: no two of its models have answered the same prompt: nothing compares them",
    )
    assert (tmp_path / "x.safetensors").exists()


def test_a_table_of_one_model_beside_another_table_is_trained(tmp_path: Path) -> None:
    rows = [row for i in range(80) for row in answers(i, {"a": i % 2, "b": 1.0})]
    own = [answers(i, {"mine": i % 2})[0] for i in range(80)]
    tables = [written(tmp_path / "two.jsonl", rows), written(tmp_path / "one.jsonl", own)]
    report = trained(tables, tmp_path / "x.safetensors")
    assert [(held.weak, held.strong) for held in report.held_out] == [("a", "b")]
    assert report.unmeasured == ("one.jsonl: expected at least two models to route between, got 'mine' only",)


@pytest.mark.parametrize("score", [0, 0.5, 1])
def test_scores_that_are_all_equal_are_refused_with_why(tmp_path: Path, score: float) -> None:
    rows = [row for i in range(20) for row in answers(i, {"a": score, "b": score})]
    with pytest.raises(ConfigError, match=f"^expected scores that differ, got {score:g} for every answer: nothing tel"):
        trained([written(tmp_path / "t.jsonl", rows)], tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


def test_a_pair_that_is_asked_for_is_still_refused_where_it_ties(tmp_path: Path) -> None:
    table = specialists(tmp_path / "t.jsonl")
    with pytest.raises(ConfigError, match="translator scores no higher than calculator on their common prompts"):
        run([table], tmp_path / "x", SIZES["small"], pairs=[("calculator", "translator")])


def test_the_pair_is_taken_on_common_prompts_where_the_means_mislead() -> None:
    nan = math.nan
    # m0 has the lowest mean and m1 the highest, but where both answered they are alike; m2 is better than m0 there.
    corpus = corpus_of([[1, 1, nan], [0, nan, 0.25], [nan, 1, nan], [0, nan, 0.5]])
    found = widest_pair(corpus, 0)
    assert found is not None
    assert (found.weak, found.strong) == (0, 2)
    assert found.rows.tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        ([[1.0], [0.0]], "expected at least two models to route between, got 'm0' only"),
        ([[1, math.nan], [math.nan, 0]], "no two of its models have answered the same prompt"),
        ([[1, 0], [0, 1]], "no two of its models differ in mean score"),
        ([[0.5, 0.5 + 1e-7]], "no two of its models differ in mean score"),
    ],
)
def test_no_pair_and_why(scores: list[list[float]], why: str) -> None:
    corpus = corpus_of(scores)
    assert widest_pair(corpus, 0) is None
    assert no_pair(corpus, 0).startswith(why)


def test_draws_end_where_hardly_any_has_a_gap() -> None:
    """One prompt of a hundred is won, by hardly more than all others are lost together."""
    weak, strong = np.full(100, 1e-5), np.zeros(100)
    strong[0] = 99.3e-5 + 1e-5
    samples = metrics.bootstrap(weak, strong, [strong], draws=50)
    assert np.isfinite(samples).all()


def test_one_prompt_has_no_interval() -> None:
    samples = metrics.bootstrap(np.zeros(1), np.ones(1), [np.ones(1)], draws=5)
    spread = metrics.interval(samples[:, 0])
    assert math.isnan(spread.low)
    assert math.isnan(spread.high)


def test_a_pair_of_one_common_prompt_is_reported_without_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*answers(0, {"a": 0, "b": 1}), *(answers(i, {"ab"[i % 2]: i % 3 / 2})[0] for i in range(1, 60))]
    table = written(tmp_path / "t.jsonl", rows)
    assert main(["train", str(table), "--size", "small", "--out", str(tmp_path / "x"), "--pair", "a,b"]) == 0
    assert "(t.jsonl, 1 prompts): APGR" in (said := capsys.readouterr().out)
    assert "(no interval: one prompt)" in said
    assert main(["eval", str(table), "--size", "small", "--folds", "2", "--pair", "a,b", "--router", "knn"]) == 0
    assert "a -> b (t.jsonl) has one prompt: no interval" in capsys.readouterr().out


def test_three_specialists_are_evaluated_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row for i in range(90) for row in answers(i, {f"m{k}": float(i % 3 == k) for k in range(3)})]
    table, out = written(tmp_path / "t.jsonl", rows), tmp_path / "report"
    assert main(["eval", str(table), "--size", "small", "--router", "knn", "--folds", "2", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "No pair of models is measured of t.jsonl: no two of its models differ in mean score" in said
    assert "3 models, t.jsonl, 90 prompts" in said
    assert (out / "report.html").stat().st_size > 1000
