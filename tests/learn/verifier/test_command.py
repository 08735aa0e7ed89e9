"""`headgate train --router verifier` as a user types it, on tables of each shape."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from router.cli.main import main
from router.verify import judging
from router.verify.evidence import Evidence
from router.verify.verifier import load


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return path


def trained(capsys: pytest.CaptureFixture[str], out: Path, *arguments: object) -> dict[str, Any]:
    asked = ["train", "--router", "verifier", "--out", str(out), "--folds", "3", "--json", *map(str, arguments)]
    assert main(asked) == 0, capsys.readouterr().err
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def test_a_table_with_responses(
    answers: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "verifier.safetensors"
    report = trained(capsys, out, jsonl(tmp_path / "log.jsonl", answers))
    assert (report["answers"], report["models"]) == (300, ["tiny"])
    assert report["held_out"]["auc"] > 0.9 > 0.6 > report["held_out"]["length_auc"]
    assert report["held_out"]["brier"] < 0.7 * report["held_out"]["base_brier"]
    verifier = load(out)
    sound, unsound = (Evidence(prompt="What is 20 + 30?", answer=f"20 + 30 = {n}.\n#### {n}") for n in (50, 57))
    assert verifier.judge(unsound) < 0.5 < verifier.judge(sound)
    assert verifier.meta.figures["auc"] == report["held_out"]["auc"]
    assert verifier.meta.recipe == "headgate train --router verifier log.jsonl --folds 3"


def test_responses_in_a_file_of_their_own(
    answers: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = [
        {**{k: row[k] for k in ("prompt", "score")}, "model": m, "prompt_id": f"p{i}"}
        for i, row in enumerate(answers)
        for m in ("tiny", "big")
    ]
    table = jsonl(tmp_path / "log.jsonl", bare)
    responses = tmp_path / "responses.parquet"
    told = {"prompt_id": [f"p{i}" for i in range(300)], "weak_response": [row["response"] for row in answers]}
    pq.write_table(pa.table(told), responses)
    arguments = (table, "--responses", responses)
    report = trained(capsys, tmp_path / "x.safetensors", *arguments, "--judged", "tiny")
    assert (report["answers"], report["models"]) == (300, ["tiny"])
    assert main(["train", "--router", "verifier", "--out", str(tmp_path / "y"), *map(str, arguments)]) == 2
    assert "expected a name; say whose answers these are with one --judged MODEL" in capsys.readouterr().err


def test_lengths_alone(answers: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {**{k: row[k] for k in ("prompt", "model", "score")}, "output_chars": 40 + 400 * (row["score"] == 0)}
        for row in answers
    ]
    report = trained(capsys, tmp_path / "x.safetensors", jsonl(tmp_path / "log.jsonl", rows))
    assert report["held_out"]["length_auc"] == 1


def test_prints_what_it_found(
    answers: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = jsonl(tmp_path / "log.jsonl", answers)
    assert main(["train", "--router", "verifier", str(table), "--out", str(tmp_path / "x"), "--folds", "2"]) == 0
    said = capsys.readouterr().out
    assert "300 answers of tiny" in said
    assert "AUC 0.9" in said
    assert "All answers are of one kind of task: how it does on others is not known" in said
    assert "not measured: no other model has a score on 100 of the prompts that tiny answered" in said
    assert "Before only: all else is off" in said


def with_tokens(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of two kinds of task; wrong answers run longer and less sure; a large model is always right."""
    rows = []
    for i, row in enumerate(answers):
        tokens = 10 + i % 7 + 8 * (row["score"] == 0)
        level = -0.25 - 0.5 * (row["score"] == 0)
        seen = {"logprobs": [level] * tokens, "finish_reason": "stop", "output_tokens": tokens, "agreement": None}
        rows.append({**row, **seen, "task": f"{'ab'[i % 2]}/x"})
        rows.append({"prompt": row["prompt"], "model": "large", "score": 1.0, "output_tokens": 20})
    return rows


def test_token_statistics_make_a_judge_and_its_figures_stand_beside_what_needs_no_training(
    answers: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, table = tmp_path / "verifier.safetensors", jsonl(tmp_path / "log.jsonl", with_tokens(answers))
    asked = ["--router", "verifier", "--judged", "tiny", "--folds", "2", "--cost-ratio", "8", "--out", str(out)]
    assert main(["train", str(table), *asked]) == 0
    said = capsys.readouterr().out
    head = next(line for line in said.splitlines() if "mean logprob" in line)
    assert head.split() == ["answers", "judge", "mean", "logprob", "least", "logprob", "length", "prior"]
    (inside,) = (line.split() for line in said.splitlines() if line.startswith("  in domain"))
    (left,) = (line.split() for line in said.splitlines() if line.startswith("  a kind of task left out"))
    assert float(inside[3]) > 0.95 and float(left[-5]) > 0.95  # noqa: PT018
    assert "costs by a token of large as 8 of tiny" in said
    judge = judging.load(out)
    assert judge.gains["handoff"] > 0
    assert load(out).meta.recipe.endswith("--judged tiny --cost-ratio 8 --folds 2")
    assert load(out).meta.figures["lead_in"] >= 0
    sure, unsure = (
        Evidence(output_tokens=n, mean_logprob=m, least_logprob=m, finish_reason="stop")
        for n, m in ((12, -0.25), (22, -0.75))
    )
    assert judge.quality(0.6, unsure, "tiny") < 0.5 < judge.quality(0.6, sure, "tiny")


def test_logits_of_the_first_token_make_a_probe_where_the_table_says_of_which_tokens(
    answers: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(-10, 2, (len(answers), 6))
    rows = [{**row, "score": float(one[2] > -10), "response": "x"} for row, one in zip(answers, logits, strict=True)]
    table = pa.Table.from_pylist([{**row, "first_logits": one} for row, one in zip(rows, logits.tolist(), strict=True)])
    for told in (True, False):
        ids = {"first_logits_token_ids": "[9, 4, 1, 7, 3, 2]"} if told else {}
        pq.write_table(table.replace_schema_metadata(ids), tmp_path / "t.parquet")
        report = trained(capsys, tmp_path / "v.safetensors", tmp_path / "t.parquet")
        judge = judging.load(tmp_path / "v.safetensors")
        assert (judge.first("tiny") is not None) == told
    assert report["judge"]["probes"] == {}
    pq.write_table(table.replace_schema_metadata({"first_logits_token_ids": "[-1]"}), tmp_path / "t.parquet")
    assert main(["train", "--router", "verifier", str(tmp_path / "t.parquet"), "--out", str(tmp_path / "x")]) == 2
    assert "first_logits_token_ids: expected a list of token ids, got [-1]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"response": 3}, "log.jsonl:1: response: expected text, got 3"),
        ({"agreement": 2}, "log.jsonl:1: agreement: expected a number from 0 to 1, got 2"),
        ({"mean_logprob": 0.5}, "log.jsonl:1: mean_logprob: expected a number from -inf to 0, got 0.5"),
        ({"second_tokens": -1}, "log.jsonl:1: second_tokens: expected a number from 0 to inf, got -1"),
        ({"second_tokens": "12"}, "log.jsonl:1: second_tokens: expected a number from 0 to inf, got '12'"),
        ({"output_tokens": -1}, "log.jsonl:1: output_tokens: expected a number of 0 or more, got -1"),
        ({"finish_reason": 1}, "log.jsonl:1: finish_reason: expected text, got 1"),
        ({"sample_agreement": 2}, "log.jsonl:1: sample_agreement: expected a number from 0 to 1, got 2"),
        ({"logprobs": 1}, "log.jsonl:1: logprobs: expected a list of at most 1048576 numbers, got 1"),
        ({"logprobs": "-1"}, "log.jsonl:1: logprobs: expected a list of at most 1048576 numbers, got '-1'"),
        ({"logprobs": [0.5]}, "log.jsonl:1: logprobs: expected finite numbers from -inf to 0.0, got 0.5 among them"),
        ({"logprobs": [None]}, "log.jsonl:1: logprobs: expected finite numbers from -inf to 0.0, got None among them"),
        (
            {"logprobs": [-1.0], "entropies": [1, 2]},
            "log.jsonl:1: logprobs, entropies, margins: expected as many numbers in each, got [1, 2]",
        ),
        ({"margins": [1]}, "log.jsonl:1: logprobs: expected numbers where there are entropies or margins, got none"),
        (
            {"first_logits": [1] * 4097},
            "log.jsonl:1: first_logits: expected a list of at most 4096 numbers, got [1, 1, 1",
        ),
        (
            {"recent_logprob": 1, "output_tokens": 3},
            "log.jsonl:1: recent_logprob: expected a number from -inf to 0.0, got 1",
        ),
    ],
)
def test_refuses_broken_rows(
    answers: list[dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    message: str,
) -> None:
    table = jsonl(tmp_path / "log.jsonl", [{**answers[0], **change}, *answers[1:]])
    assert main(["train", "--router", "verifier", str(table), "--out", str(tmp_path / "x")]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--router", "verifier", "--judged", "huge"], "--judged: expected one of tiny; got 'huge'"),
        (["--router", "verifier", "--pair", "a,b"], "--router verifier: takes neither --pair nor --option"),
        (["--router", "verifier", "--responses", "nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
        (["--router", "verifier", "--responses", "x.csv"], "x.csv: cannot be read"),
        (["--responses", "x.jsonl"], "--responses: expected --router verifier beside it, got mf"),
        (["--judged", "tiny"], "--judged: expected --router verifier beside it, got mf"),
        (["--cost-ratio", "5"], "--cost-ratio: expected --router verifier beside it, got mf"),
    ],
)
def test_refuses_in_one_line(
    answers: list[dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    table = jsonl(tmp_path / "log.jsonl", answers)
    assert main(["train", str(table), "--out", str(tmp_path / "x"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_refuses_a_table_without_answers(
    answers: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = jsonl(tmp_path / "log.jsonl", [{k: row[k] for k in ("prompt", "model", "score")} for row in answers])
    assert main(["train", "--router", "verifier", str(table), "--out", str(tmp_path / "x")]) == 2
    assert "expected answers of tiny: `response`, `output_tokens` or --responses FILE" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1e300", "-1", "null"])
def test_tokens_beyond_all_sense_are_refused_by_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: str
) -> None:
    path = tmp_path / "t.jsonl"
    row = '{"prompt": "p%d", "model": "m", "score": 1, "response": "x"}\n'
    path.write_text("".join(row % i for i in range(20)))
    told = tmp_path / "answers.jsonl"
    told.write_text(f'{{"prompt": "p0", "model": "m", "output_tokens": {number}}}\n')
    asked = ["train", str(path), "--router", "verifier", "--responses", str(told), "--out", str(tmp_path / "x")]
    code = main(asked)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    if number != "null":
        assert code == 2
        assert f"{told}:1: output_tokens: expected a number from 0 to inf, got " in said
        assert len(said) < 2000
