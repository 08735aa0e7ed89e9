"""Prompts from every kind of file, and what is refused by file and line."""

from pathlib import Path

import pytest

from router.errors import ConfigError
from router.learn import queries


def write(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def texts(path: Path) -> list[str]:
    return [query.turns[-1].text for query in queries.read(path)]


def test_a_prompt_a_line(tmp_path: Path) -> None:
    assert texts(write(tmp_path, "asked.txt", "What is 2 + 2?\n\n  indented\r\nlast")) == [
        "What is 2 + 2?",
        "  indented",
        "last",
    ]


def test_prompts_and_requests_as_json_lines(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "log.jsonl",
        '{"prompt": "one"}\n\n'
        '{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "two"}], "max_tokens": 7,'
        ' "n": 3, "tools": [{}], "model": "gpt-4"}\n',
    )
    assert texts(path) == ["one", "two"]
    first, second = queries.read(path)
    assert first.model == second.model == "auto"
    assert (first.max_tokens, first.choices, first.needs) == (None, 1, {"chat"})
    assert (second.max_tokens, second.choices, second.needs) == (7, 3, {"chat", "tools"})
    assert [turn.role for turn in second.turns] == ["system", "user"]


def test_an_outcomes_table_counts_a_prompt_once(table: Path, tmp_path: Path) -> None:
    rows = table.read_text().splitlines()
    assert len(queries.read(table)) == len({row.split('"model"')[0] for row in rows})


def test_prompts_of_other_tables_count_as_often_as_they_stand(tmp_path: Path) -> None:
    assert texts(write(tmp_path, "a.csv", 'id,prompt\n1,"one\ntwo"\n2,three\n3,three\n')) == [
        "one\ntwo",
        "three",
        "three",
    ]
    assert texts(write(tmp_path, "a.json", '[{"prompt": "x"}, {"prompt": "x"}]')) == ["x", "x"]
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    told = pa.table({"messages": [[{"role": "user", "content": "hi"}], None], "prompt": [None, "ho"]})
    pq.write_table(told, tmp_path / "log.parquet")
    assert texts(tmp_path / "log.parquet") == ["hi", "ho"]


def test_the_shared_tables_are_read(shared_data: Path) -> None:
    assert len(queries.read(shared_data / "llmrouter_9models.parquet")) == 5989


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"prompt": "x"}\n{"prompt": 3}', "a.jsonl:2: expected `prompt` (text) or `messages` (a list)"),
        ("a.jsonl", '{"text": "x"}', "a.jsonl:1: expected `prompt` (text) or `messages` (a list), got text"),
        ("a.jsonl", "{}", "got nothing"),
        ("a.jsonl", '{"prompt": "x"}\n{"prompt"', "a.jsonl:2: expected a JSON object, got broken JSON"),
        ("a.jsonl", "[1]", "a.jsonl:1: expected a JSON object, got list"),
        ("a.jsonl", '{"messages": [{"content": "x"}]}', "a.jsonl:1: messages[0]: expected a message"),
        ("a.jsonl", '{"messages": []}', "a.jsonl:1: messages: `messages`: expected at least one message"),
        (
            "a.jsonl",
            '{"prompt": "x", "max_tokens": 0}',
            "a.jsonl:1: max_tokens: expected a whole number above 0, got 0",
        ),
        ("a.jsonl", '{"prompt": "x", "n": "2"}', "a.jsonl:1: n: expected a whole number above 0, got '2'"),
        ("a.txt", "\n \n", "a.txt: expected at least one prompt, got none"),
        ("a.parquet", "no", "a.parquet: expected a whole Parquet file"),
        ("a.csv", "text\nx\n", "a.csv:2: expected `prompt` (text) or `messages` (a list), got text"),
        ("a.csv", "prompt\nx,y\n", "a.csv:2: expected 1 cells, got 2"),
        ("a.pkl", "x", "a.pkl: a pickle is never read"),
        ("a.word", "x", "a.word: expected one of .parquet, .csv"),
    ],
)
def test_refuses_by_file_and_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        queries.read(write(tmp_path, name, text))
    assert message in str(error.value)


def test_refuses_what_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.txt: cannot be read: No such file"):
        queries.read(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes("gut\ngrün".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin.txt:2: expected UTF-8"):
        queries.read(tmp_path / "latin.txt")
