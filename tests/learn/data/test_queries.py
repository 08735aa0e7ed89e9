"""Prompts from every kind of file, and what is refused by file and line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from router.errors import ConfigError
from router.learn.data import queries
from router.types import Query


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
        ("a.jsonl", '{"messages": [{"content": "x"}]}', "a.jsonl:1: messages[0].role: `messages[0].role` is missing"),
        ("a.jsonl", '{"messages": []}', "a.jsonl:1: messages: `messages` is empty; expected at least one message"),
        (
            "a.jsonl",
            '{"prompt": "x", "max_tokens": 0}',
            "a.jsonl:1: max_tokens: expected a whole number from 1 to 2147483647, got 0",
        ),
        ("a.jsonl", '{"prompt": "x", "n": "two"}', "a.jsonl:1: n: expected a whole number from 1 to 2147483647, got"),
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


def one(tmp_path: Path, name: str, text: str) -> Query:
    return queries.read(write(tmp_path, name, text))[0]


MESSAGES = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "it's"}]


@pytest.mark.parametrize("cell", ["16", " 16 ", "16.0", "1.6e1"])
@pytest.mark.parametrize("key", ["max_tokens", "max_completion_tokens", "n"])
def test_a_number_in_a_cell_of_text_is_a_number(tmp_path: Path, key: str, cell: str) -> None:
    found = one(tmp_path, "a.csv", f"prompt,{key}\nhi,{cell}\n")
    assert (found.choices if key == "n" else found.max_tokens) == 16


@pytest.mark.parametrize("cell", ["", " ", "nan", "NaN"])
def test_an_empty_number_in_a_cell_of_text_is_none(tmp_path: Path, cell: str) -> None:
    found = one(tmp_path, "a.csv", f"prompt,max_tokens,n\nhi,{cell},{cell}\n")
    assert (found.max_tokens, found.choices) == (None, 1)


@pytest.mark.parametrize("wrote", [json.dumps, str], ids=["json", "python"])
def test_messages_in_a_cell_of_text_are_messages(tmp_path: Path, wrote: Callable[[object], str]) -> None:
    cell = wrote(MESSAGES).replace('"', '""')
    found = one(tmp_path, "a.csv", f'messages\n"{cell}"\n')
    assert [(turn.role, turn.text) for turn in found.turns] == [("system", "be brief"), ("user", "it's")]


def test_a_row_without_messages_has_its_prompt(tmp_path: Path) -> None:
    assert one(tmp_path, "a.csv", "messages,prompt\n,hi\n").turns[0].text == "hi"


@pytest.mark.parametrize(
    ("column", "cell", "needs"),
    [
        ("tools", "[]", set()),
        ("tools", "", set()),
        ("tools", "null", set()),
        ("tools", '[{""type"": ""function""}]', {"tools"}),
        ("functions", "[{'name': 'f'}]", {"tools"}),
        ("response_format", '{""type"": ""text""}', set()),
        ("response_format", '{""type"": ""json_object""}', {"structured"}),
        ("response_format", "{'type': 'json_object'}", {"structured"}),
        ("structured_outputs", "{}", set()),
        ("logprobs", "False", set()),
        ("logprobs", "true", {"logprobs"}),
        ("logprobs", "0", set()),
        ("logprobs", "3", {"logprobs"}),
    ],
)
def test_what_a_request_needs_is_read_from_a_cell_of_text(
    tmp_path: Path, column: str, cell: str, needs: set[str]
) -> None:
    assert one(tmp_path, "a.csv", f'prompt,{column}\nhi,"{cell}"\n').needs == needs | {"chat"}


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("max_tokens", "many", "a.csv:2: max_tokens: expected a whole number from 1 to 2147483647, got 'many'"),
        ("max_tokens", "16.5", "max_tokens: expected a whole number from 1 to 2147483647, got '16.5'"),
        ("max_tokens", "0", "max_tokens: expected a whole number from 1 to 2147483647, got '0'"),
        ("max_tokens", "-3", "max_tokens: expected a whole number from 1 to 2147483647, got '-3'"),
        ("n", "1e400", "n: expected a whole number from 1 to 2147483647, got '1e400'"),
        ("messages", "hi", "a.csv:2: messages: expected a list, or that as JSON; got 'hi'"),
        ("messages", '[{""role"": ""user""', "messages: expected a list, or that as JSON; got '[{"),
        ("messages", "5", "messages: expected a list, or that as JSON; got '5'"),
        ("messages", '[{""role"": ""user"", ""content"": 5}]', "messages[0].content: expected text or a list of parts"),
        ("messages", '[{""role"": ""user"", ""content"": [5]}]', "messages[0].content: expected text or a list of par"),
        ("messages", "[{}]", "a.csv:2: messages[0].role: `messages[0].role` is missing"),
        ("tools", "yes", "tools: expected a list, or that as JSON; got 'yes'"),
        ("response_format", "[]", "response_format: expected an object, or that as JSON; got '[]'"),
        ("response_format", "json", "response_format: expected an object, or that as JSON; got 'json'"),
        ("logprobs", "some", "logprobs: expected true, false or a number, or that as JSON; got 'some'"),
    ],
)
def test_refuses_what_a_cell_of_text_cannot_mean(tmp_path: Path, column: str, cell: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        one(tmp_path, "a.csv", f'prompt,{column}\nhi,"{cell}"\n')
    assert message in str(error.value)


@pytest.mark.parametrize("value", [True, "x", 2**31, -1, [1]])
def test_refuses_counts_that_are_none_in_json(tmp_path: Path, value: object) -> None:
    with pytest.raises(ConfigError, match="n: expected a whole number from 1 to 2147483647, got "):
        one(tmp_path, "a.jsonl", json.dumps({"prompt": "hi", "n": value}))


def test_whole_numbers_that_pandas_made_floats_are_whole_numbers(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    nan = float("nan")
    columns = {
        "prompt": ["a", "b"],
        "max_tokens": [16.0, nan],
        "n": [nan, 2.0],
        "tools": [nan, nan],
        "messages": [None, json.dumps(MESSAGES)],
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    first, second = queries.read(tmp_path / "a.parquet")
    assert (first.max_tokens, first.choices, first.needs) == (16, 1, {"chat"})
    assert (second.max_tokens, second.choices) == (None, 2)
    assert [turn.text for turn in second.turns] == ["be brief", "it's"]
