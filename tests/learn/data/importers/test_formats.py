"""Every format at hand becomes the one schema; small files written here in the shapes that the projects publish."""

import csv
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from router.errors import ConfigError
from router.learn.data import battles, importers, outcomes
from router.learn.data.importers.base import Options
from router.learn.data.importers.run import Imported, run


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_bytes(msgspec.json.Encoder().encode_lines(rows))
    return path


def imported(path: Path, **options: Any) -> tuple[Imported, list[dict[str, Any]]]:
    """The report, and the rows that were written."""
    out = path.with_name("out.jsonl")
    report = run([path], out, options=Options(**options))
    return report, [msgspec.json.decode(line) for line in out.read_bytes().splitlines()]


QUESTION = "Which organ pumps blood?\nA. Heart\nB. Liver\nAnswer:"


def test_routellm_mmlu(tmp_path: Path) -> None:
    rows = [{"prompt": QUESTION, "mixtral": True, "gpt-4": False}, {"prompt": "B", "mixtral": False, "gpt-4": True}]
    report, made = imported(write_csv(tmp_path / "mmlu_high_school_biology.csv", rows))
    assert [took.format for took in report.took] == ["routellm"]
    assert [(row["model"], row["score"]) for row in made] == [
        ("mixtral", 1),
        ("gpt-4", 0),
        ("mixtral", 0),
        ("gpt-4", 1),
    ]
    assert made[0]["task"] == "mmlu/high_school_biology"
    assert made[0]["prompt_id"] == outcomes.prompt_id(QUESTION)
    assert made[0]["group"] == outcomes.question_group("which organ pumps blood")
    assert (report.kind, report.rows, report.prompts, report.models) == ("outcomes", 4, 2, ("mixtral", "gpt-4"))


def test_routellm_gsm8k_keeps_answers(tmp_path: Path) -> None:
    row = {"prompt": "1 + 1?", "weak": "True", "strong": "False", "weak_response": " 2\n#### 2", "strong_response": ""}
    _, made = imported(write_csv(tmp_path / "gsm8k_responses.csv", [row]))
    assert {row["task"] for row in made} == {"gsm8k"}
    assert (made[0]["response"], made[0]["output_chars"]) == (" 2\n#### 2", 9)
    assert "response" not in made[1]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_routerbench(tmp_path: Path, suffix: str) -> None:
    row = {
        "sample_id": "mmlu.0", "prompt": "['Say A.', 'Now?']", "eval_name": "mmlu-law", "a/m|model_response": "A",
        "a/m|total_cost": 0.25, "a/m": 1.0, "n|model_response": "", "n|total_cost": 0.5, "n": None,
        "oracle_model_to_route_to": "a/m",
    }  # fmt: skip
    path = tmp_path / f"routerbench{suffix}"
    if suffix == ".csv":
        write_csv(path, [row])
    else:
        pq.write_table(pa.Table.from_pylist([row]), path)
    report, made = imported(path)
    assert report.took[0].format == "routerbench"
    assert len(made) == 1
    assert (made[0]["prompt"], made[0]["task"], made[0]["model"]) == ("Say A.\nNow?", "mmlu-law", "a/m")
    assert (made[0]["score"], made[0]["cost_usd"], made[0]["output_chars"]) == (1.0, 0.25, 1)
    assert [(one.why, one.count) for one in report.left_out] == [("no score of this model", 1)]


def test_llmrouter(tmp_path: Path) -> None:
    row = {
        "task_name": "gsm8k", "query": "1 + 1?", "ground_truth": "2", "metric": "GSM8K", "choices": None,
        "model_name": "qwen2.5-7b", "response": "It is 2", "token_num": 453, "input_tokens": 449, "output_tokens": 4,
        "performance": 0.5, "embedding_id": 3,
    }  # fmt: skip
    report, made = imported(write_jsonl(tmp_path / "default_routing_train_data.jsonl", [row]))
    assert report.took[0].format == "llmrouter"
    assert made == [
        {
            "prompt_id": outcomes.prompt_id("1 + 1?"), "group": outcomes.question_group("1 + 1?"), "task": "gsm8k",
            "prompt": "1 + 1?", "model": "qwen2.5-7b", "score": 0.5, "output_tokens": 4.0, "output_chars": 7.0,
            "response": "It is 2", "split": "train",
        }
    ]  # fmt: skip


RECORD = {
    "index": 1, "origin_query": "2 + 2?", "prompt": "Question: 2 + 2?\nAnswer:", "prediction": "4", "ground_truth": "4",
    "score": 1.0, "prompt_tokens": 15, "completion_tokens": 5, "cost": 0.0001, "raw_output": "It is 4.",
}  # fmt: skip


def test_llmrouterbench_takes_model_and_dataset_from_the_path(tmp_path: Path) -> None:
    folder = tmp_path / "bench" / "aime" / "test" / "Qwen3-8B"
    folder.mkdir(parents=True)
    (folder / "20250101.json").write_bytes(msgspec.json.encode({"performance": 1.0, "records": [RECORD]}))
    out = tmp_path / "out.parquet"
    report = run([tmp_path / "bench"], out)
    assert report.took[0].format == "llmrouterbench"
    table = outcomes.read(out)
    assert (table.models, table.prompts[0].task, table.splits) == (("qwen3-8b",), "aime", (("test",),))
    assert table.prompts[0].group == outcomes.question_group("2 + 2?")
    assert (table.cost_usd, table.output_tokens) == ([[0.0001]], [[5.0]])


def test_llmrouterbench_as_lines(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "bench.jsonl", [{**RECORD, "model": "m", "dataset": "aime"}])
    _, made = imported(path)
    assert (made[0]["model"], made[0]["task"], made[0]["response"]) == ("m", "aime", "It is 4.")
    write_jsonl(path, [RECORD])
    with pytest.raises(ConfigError, match=r"bench\.jsonl:1: model: expected a name, here or in the path as <dataset>"):
        imported(path)


def conversation(text: object) -> list[dict[str, object]]:
    return [{"role": "user", "content": text}, {"role": "assistant", "content": "Hi"}]


def battle(winner: str, text: object = "Hello?", b: str = "n") -> dict[str, Any]:
    return {
        "question_id": "q", "model_a": "m", "model_b": b, "winner": winner, "judge": "user", "turn": 1,
        "conversation_a": conversation(text), "conversation_b": conversation(text),
    }  # fmt: skip


def test_arena_battles(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "See:"}, {"type": "image", "image": "x"}, {"type": "text", "text": "what?"}]
    rows = [battle("model_a"), battle("model_b", parts), battle("tie (bothbad)"), battle("tie"), battle("tie", b="x/M")]
    report, made = imported(write_jsonl(tmp_path / "arena.jsonl", rows))
    assert (report.kind, report.rows, report.took[0].format) == ("battles", 4, "arena")
    assert [(row["prompt"], row["winner"]) for row in made] == [
        ("Hello?", "a"), ("See:\nwhat?", "b"), ("Hello?", "tie"), ("Hello?", "tie"),
    ]  # fmt: skip
    assert [(one.why, one.count) for one in report.left_out] == [("a model against itself", 1)]
    assert battles.read(tmp_path / "out.jsonl").outcome.tolist() == [1, 0, 0.5, 0.5]


def test_arena_as_scores(tmp_path: Path) -> None:
    rows = [battle("model_a"), battle("tie (bothbad)"), battle("tie")]
    report, made = imported(write_jsonl(tmp_path / "arena.jsonl", rows), scores=True)
    assert report.kind == "outcomes"
    assert [row["score"] for row in made] == [1, 0, 0, 0, 0.5, 0.5]


def test_arena_of_the_55k(tmp_path: Path) -> None:
    row = {
        "id": 1, "model_a": "m", "model_b": "n", "prompt": '[null, "First?", "Second?"]', "response_a": '["x"]',
        "response_b": '["y"]', "winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0,
    }  # fmt: skip
    path = write_csv(tmp_path / "train.csv", [row])
    assert imported(path)[1][0]["winner"] == "b"
    assert imported(path)[1][0]["prompt"] == "First?"
    write_csv(path, [row | {"winner_tie": 1}])
    with pytest.raises(
        ConfigError, match=r"train\.csv:2: winner_model_a, .*: expected exactly one of them to be 1, got 2"
    ):
        imported(path)


def test_journal_joins_the_last_feedback_to_its_decision(tmp_path: Path) -> None:
    lines = [
        {"type": "decision", "id": "d1", "prompt": "1 + 1?", "model": "small", "completion_tokens": 7, "cost_usd": 0.5},
        {"type": "decision", "id": "d2", "model": "small"},
        {"type": "decision", "id": "d3", "prompt": "2?", "model": "big", "status": "cancel"},
        {"type": "decision", "id": "d4", "prompt": "3?", "model": "big", "later": "fields are passed over"},
        {"type": "feedback", "id": "d1", "score": 1},
        {"type": "feedback", "id": "d1", "score": 0},
        {"type": "feedback", "id": "d2", "score": 1},
    ]
    report, made = imported(write_jsonl(tmp_path / "journal.jsonl", lines))
    assert [(row["prompt"], row["model"], row["score"], row["output_tokens"]) for row in made] == [
        ("1 + 1?", "small", 0, 7),
    ]  # fmt: skip
    assert {one.why: one.count for one in report.left_out} == {
        "a decision whose prompt was not kept": 1, "an answer that did not finish": 1,
        "feedback on no decision above that could be used": 1, "a decision without feedback": 1,
    }  # fmt: skip


def test_a_journals_feedback_may_stand_in_a_later_file_and_torn_lines_are_left_out(tmp_path: Path) -> None:
    request = {
        "type": "request", "version": 1, "id": "d1", "request_id": "r", "time_s": 1.0, "kind": "chat", "asked": "auto",
        "model": "small", "end": "finish", "status": 200, "completion_tokens": 7, "cost_usd": 0.5, "session_id": "s",
        "turns": [["system", "Be short."], ["user", "1 + 1?"]],
    }  # fmt: skip
    folder = tmp_path / "journal"
    folder.mkdir()
    first = write_jsonl(folder / "headgate-20260101T000000-000001.jsonl", [request])
    with first.open("a") as file:
        file.write('{"type":"request","id":"torn')
    write_jsonl(
        folder / "headgate-20260101T000000-000002.jsonl",
        [{"type": "feedback", "id": "d1", "score": 1}, request | {"id": "d2"}],
    )
    report, (row,) = imported(folder)
    assert (row["prompt"], row["model"], row["score"], row["output_tokens"], row["cost_usd"], row["group"]) == (
        "Be short.\n\n1 + 1?", "small", 1, 7, 0.5, "s",
    )  # fmt: skip
    assert {one.why: one.count for one in report.left_out} == {
        "a line that is not whole": 1, "a decision without feedback": 1,
    }  # fmt: skip


PREFERENCES = [
    {"type": "decision", "id": "d1", "prompt": "1?", "model": "small", "completion_tokens": 7},
    {"type": "decision", "id": "d2", "prompt": "2?", "model": "big"},
    {"type": "decision", "id": "d3", "prompt": "3?", "model": "big"},
    {"type": "feedback", "id": "d1", "better": "small", "worse": "big"},
    {"type": "feedback", "id": "d1", "better": "big", "worse": "small"},
    {"type": "feedback", "id": "d2", "better": "big", "worse": "small", "tie": True},
]


def test_preferences_alone_in_a_journal_become_battles(tmp_path: Path) -> None:
    report, made = imported(write_jsonl(tmp_path / "journal.jsonl", PREFERENCES))
    assert [(row["prompt"], row["model_a"], row["model_b"], row["winner"]) for row in made] == [
        ("1?", "big", "small", "a"), ("2?", "big", "small", "tie"),
    ]  # fmt: skip
    assert (report.kind, report.models) == ("battles", ("big", "small"))
    assert {one.why: one.count for one in report.left_out} == {"a decision without feedback": 1}


def test_preferences_beside_scores_are_counted_or_become_scores_where_that_is_asked_for(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "journal.jsonl", [*PREFERENCES, {"type": "feedback", "id": "d1", "score": 0.3}])
    report, made = imported(path)
    assert [(row["prompt"], row["model"], row["score"]) for row in made] == [("1?", "small", 0.3)]
    assert {one.why: one.count for one in report.left_out} == {
        "a preference beside scores (--as-scores takes both)": 2, "a decision without feedback": 1,
    }  # fmt: skip
    made = imported(path, scores=True)[1]
    assert [(row["prompt"], row["model"], row["score"], row.get("output_tokens")) for row in made] == [
        ("1?", "small", 0.3, 7), ("1?", "big", 1, None), ("2?", "big", 0.5, None), ("2?", "small", 0.5, None),
    ]  # fmt: skip


def test_feedback_that_says_nothing_is_refused(tmp_path: Path) -> None:
    for said in ({}, {"better": "big"}, {"better": "big", "worse": "big"}):
        path = write_jsonl(tmp_path / "journal.jsonl", [*PREFERENCES[:3], {"type": "feedback", "id": "d1", **said}])
        with pytest.raises(ConfigError, match="score: expected a number from 0 to 1, or two models as `better` and"):
            imported(path)


def test_own_tables_are_merged_and_rewritten(tmp_path: Path) -> None:
    first = write_csv(tmp_path / "a.csv", [{"prompt": "1?", "model": "m", "score": "0.5", "cost_usd": ""}])
    second = write_jsonl(
        tmp_path / "b.jsonl", [{"prompt": "1?", "model": "n", "score": True, "group": "g", "split": "s"}]
    )
    report = run([first, second], tmp_path / "out.parquet", options=Options(task="all"))
    table = outcomes.read(tmp_path / "out.parquet")
    assert (report.rows, table.models, table.scores.tolist()) == (2, ("m", "n"), [[0.5, 1.0]])
    assert (table.prompts[0].task, table.cost_usd) == ("all", None)
    own = write_jsonl(tmp_path / "c.jsonl", [{"prompt": "1?", "model_a": "m", "model_b": "n", "winner": "b"}])
    assert [row["score"] for row in imported(own, scores=True)[1]] == [0, 1]


def test_each_format_tells_itself(tmp_path: Path) -> None:
    for name in importers.NAMES:
        assert importers.find(name).ABOUT
    path = write_jsonl(tmp_path / "x.jsonl", [{"question": "1?", "answer": "2"}])
    with pytest.raises(
        ConfigError, match=r"x\.jsonl: no known format has the columns 'question', 'answer'; expected one of"
    ):
        imported(path)
    with pytest.raises(ConfigError, match=r"--format: expected auto or one of journal, .*; got 'pandas'"):
        run([path], tmp_path / "out.jsonl", "pandas")
