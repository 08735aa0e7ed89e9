"""Outcome tables are read, or refused by file, row and key."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from router.errors import ConfigError
from router.learn.data import outcomes

GOOD = '{"prompt": "1 + 1?", "model": "Tiny", "score": 1}\n'


def refused(path: Path, content: str) -> str:
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        outcomes.read(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "a", "model": "m"}', "score: expected a value, got none"),
        ('{"prompt": null, "model": "m", "score": 1}', "prompt: expected a value, got none"),
        ('{"prompt": "a", "model": "m", "score": 1.5}', "score: expected a number from 0 to 1, got 1.5"),
        ('{"prompt": "a", "model": "m", "score": "right"}', "score: expected a number from 0 to 1, got 'right'"),
        ('{"prompt": 7, "model": "m", "score": 1}', "prompt: expected text, got 7"),
        ('{"prompt": "a", "model": " ", "score": 1}', "model: expected a name, got an empty one"),
        ('{"prompt": "a", "model": "m", "score": 1, "task": 3}', "task: expected text, got 3"),
        ("[1]", "expected a JSON object, got list"),
        ('{"prompt": "a"', "expected a JSON object, got broken JSON"),
    ],
)
def test_broken_lines_are_refused_by_number(tmp_path: Path, line: str, message: str) -> None:
    said = refused(tmp_path / "log.jsonl", GOOD + "\n" + line + "\n")
    assert said.startswith(f"{tmp_path}/log.jsonl:3: ")
    assert message in said


def test_two_prompts_of_one_id_are_refused(tmp_path: Path) -> None:
    line = '{"prompt_id": "x", "prompt": "%s", "model": "m", "score": 1}\n'
    said = refused(tmp_path / "log.jsonl", line % "a" + line % "b")
    assert "log.jsonl:2: prompt_id: 'x' stands for another prompt above" in said


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    assert "expected a .parquet or .jsonl file, got '.csv'" in refused(tmp_path / "log.csv", "a,b")
    assert "expected at least one outcome, got none" in refused(tmp_path / "log.jsonl", "\n")
    assert "expected a whole Parquet file" in refused(tmp_path / "log.parquet", "no parquet")
    with pytest.raises(ConfigError, match=r"gone\.jsonl: cannot be read: No such file"):
        outcomes.read(tmp_path / "gone.jsonl")


def test_parquet_rows_and_columns_are_named(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"prompt": ["a", "b"], "score": [1.0, 0.0]}), path)
    with pytest.raises(ConfigError, match="expected columns prompt, model, score; 'model' is missing"):
        outcomes.read(path)
    pq.write_table(pa.table({"prompt": ["a", "b"], "model": ["m", "m"], "score": [1.0, float("nan")]}), path)
    with pytest.raises(ConfigError, match="row 1: score: expected a number from 0 to 1, got nan"):
        outcomes.read(path)


def test_reads_scores_by_prompt_and_model(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(
        GOOD + '{"prompt": "2?", "model": "org/Big", "score": 0.5}\n{"prompt": "1 + 1?", "model": "tiny", "score": 0}\n'
    )
    table = outcomes.read(path)
    assert table.models == ("tiny", "big")
    assert [prompt.text for prompt in table.prompts] == ["1 + 1?", "2?"]
    np.testing.assert_array_equal(table.scores, np.array([[0.5, np.nan], [np.nan, 0.5]], np.float32))
    assert table.prompts[0].id == outcomes.prompt_id("1 + 1?")
    assert table.rows == 3


def test_one_spelling_a_model() -> None:
    assert outcomes.model_name("meta-llama-3_1-8b-instruct") == "llama-3.1-8b-instruct"
    assert outcomes.model_name("Qwen/Qwen3-0.6B") == "qwen3-0.6b"


def test_tables_at_hand(shared_data: Path) -> None:
    table = outcomes.read(shared_data / "routellm_pairs.parquet")
    assert (len(table.prompts), table.models) == (15256, ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1"))
    assert float(table.scores[:, 0].mean()) == pytest.approx(0.8102, abs=1e-4)


def test_measures_and_splits_of_answers(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    line = '{"prompt": "%s", "model": "m", "score": %s, "split": "%s", "cost_usd": %s, "output_chars": null}\n'
    path.write_text(line % ("a", 1, "train", 0.5) + line % ("a", 0, "test", 0.25) + line % ("b", 1, "train", "null"))
    table = outcomes.read(path)
    assert table.splits == (("train", "test"), ("train",))
    assert table.cost_usd is not None
    np.testing.assert_array_equal(table.cost_usd, [[0.375], [np.nan]])
    assert table.output_chars is None
    assert table.output_tokens is None
    assert table.answers is not None
    assert (table.answers.tolist(), table.contradictions) == ([[2], [1]], 1)


@pytest.mark.parametrize("value", ["-1", '"cheap"', "true", "1" + "0" * 400])
def test_measures_are_checked(tmp_path: Path, value: str) -> None:
    said = refused(tmp_path / "log.jsonl", f'{{"prompt": "a", "model": "m", "score": 1, "cost_usd": {value}}}\n')
    assert "log.jsonl:1: cost_usd: expected a number of 0 or more, got" in said


def test_parquet_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    prompts = pa.array([b"a", b"\xff"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"prompt": prompts, "model": ["m", "m"], "score": [1.0, 0.0]}), path)
    with pytest.raises(ConfigError, match=r"log\.parquet: row 1: expected UTF-8 text"):
        outcomes.read(path)


def test_a_question_keeps_its_group_under_other_options() -> None:
    group = outcomes.question_group("Which organ pumps blood?\nA. Heart\nB. Liver\nAnswer:")
    assert group == outcomes.question_group("Which organ pumps blood\n(A) Lung\n(B) Heart")
    assert group != outcomes.question_group("Which organ cleans blood?\nA. Heart\nB. Liver\nAnswer:")
    assert outcomes.question_group("???") != outcomes.question_group("!!!")


def test_groups_are_those_of_the_tables_at_hand(shared_data: Path) -> None:
    prompts = outcomes.read(shared_data / "routellm_pairs.parquet").prompts
    same = [outcomes.question_group(prompt.text) == prompt.group for prompt in prompts]
    assert sum(same) / len(same) > 0.99
