"""A list in a cell is read as the list, refused where it is nearly one, and left alone where it is a text."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from router.errors import ConfigError
from router.learn.data.importers.base import Broken
from router.learn.data.importers.lists import listed
from router.learn.data.importers.run import Imported, run

ARENA = {"id": 1, "model_a": "big", "model_b": "tiny", "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}
BENCH = {"sample_id": "x", "eval_name": "e", "big": 1, "big|model_response": "y", "big|total_cost": 0.1}
NEARLY_JSON = {
    '["I am happy \\ud83d today"]': "I am happy \ufffd today",
    '["half \\udc00"]': "half \ufffd",
    '["whole \\ud83d\\ude00"]': "whole \U0001f600",
    '["tab\there\nand a line"]': "tab\there\nand a line",
    "['What is 1+1?']": "What is 1+1?",
    "['it\\'s', \"fine\"]": "it's",
    '[u"caf\\xe9"]': "café",
    "['\\ud83d\\ude00']": "\U0001f600",
    '"[\\"encoded twice\\"]"': "encoded twice",
    ' \ufeff["behind a mark"] ': "behind a mark",
    '[null, "second"]': "second",
    "[None, 'second']": "second",
}
BROKEN = (
    '["What is 1+1?',
    '["What is 1+1?"',
    '["a"] and more',
    "['a",
    "['a' 'b']",
    "['''a''']",
    "[b'a']",
    '[null, "a"',
    "[{'role': 'user'",
    '[["a", "b"]',
    '[\u201cWhat is 1+1?\u201d]',
    "array(['a'], dtype=object)",
    "['a', open('x')]",
    '["a", ' + "[" * 100_000,
    "['a', " + "[" * 1_000,
    "['" + "a" * (1 << 20) + "']x",
)  # fmt: skip
TEXTS = (
    "[INST] hi",
    "[1, 2, 3] sum these",
    "[1, 2, 3]",
    "[[Paris]] is a link to what?",
    "[] is what in Python?",
    "[x for x in y]",
    "[",
    'Say ["hi"]',
    '"[" is which key?',
)


def imported(tmp_path: Path, row: dict[str, Any], *, skip: bool = False) -> tuple[Imported, str]:
    path, out = tmp_path / "in.csv", tmp_path / "out.jsonl"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
        writer.writerow(row | {"prompt": "a text"})
    report = run([path], out, skip_broken=skip)
    return report, json.loads(out.read_text(encoding="utf-8").splitlines()[0])["prompt"]


@pytest.mark.parametrize("row", [ARENA, BENCH], ids=["arena", "routerbench"])
@pytest.mark.parametrize("cell", [cell for cell in NEARLY_JSON if "ull" not in cell and "None" not in cell])
def test_a_list_of_one_text_becomes_that_text(tmp_path: Path, row: dict[str, Any], cell: str) -> None:
    expected = NEARLY_JSON[cell]
    prompt = imported(tmp_path, {**row, "prompt": cell})[1]
    assert prompt.splitlines()[0] == expected.splitlines()[0]
    assert "[" not in prompt
    assert not prompt.startswith("'")


@pytest.mark.parametrize(("cell", "expected"), NEARLY_JSON.items())
def test_an_arena_cell_gives_its_first_turn(tmp_path: Path, cell: str, expected: str) -> None:
    assert imported(tmp_path, {**ARENA, "prompt": cell})[1] == expected


@pytest.mark.parametrize("row", [ARENA, BENCH], ids=["arena", "routerbench"])
@pytest.mark.parametrize("cell", BROKEN, ids=[cell[:20] for cell in BROKEN])
def test_a_broken_list_is_refused_by_line_or_counted(tmp_path: Path, row: dict[str, Any], cell: str) -> None:
    with pytest.raises(ConfigError, match=r"in\.csv:2: prompt: expected .* \(--skip-broken leaves such rows out\)$"):
        imported(tmp_path, {**row, "prompt": cell})
    report, prompt = imported(tmp_path, {**row, "prompt": cell}, skip=True)
    assert prompt == "a text"
    assert sum(one.count for one in report.left_out) == 1
    assert report.left_out[0].why.startswith("broken: prompt: expected ")
    assert report.left_out[0].first.endswith("in.csv:2")


@pytest.mark.parametrize("row", [ARENA, BENCH], ids=["arena", "routerbench"])
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_that_only_begins_with_a_bracket_stays(tmp_path: Path, row: dict[str, Any], text: str) -> None:
    assert imported(tmp_path, {**row, "prompt": text})[1] == text


def test_a_conversation_as_python_writes_it_gives_its_first_turn(tmp_path: Path) -> None:
    turns = [{"content": "What's up?", "role": "user", "n": None}, {"content": "Hi", "role": "assistant", "n": 1.5}]
    row = {"model_a": "m", "model_b": "n", "winner": "tie"}
    for cell in (str(turns), json.dumps(turns)):
        assert imported(tmp_path, {**row, "conversation_a": cell, "prompt": ""})[1] == "What's up?"
        assert imported(tmp_path, {**row, "prompt": cell})[1] == "What's up?"
    numpy_writes = str(turns).replace("}, {", "}\n {")
    with pytest.raises(ConfigError, match=r"conversation_a: expected a list as JSON or as Python writes it"):
        imported(tmp_path, {**row, "conversation_a": numpy_writes, "prompt": ""})


@pytest.mark.parametrize("value", [None, 1, ["a"], {"a": 1}, "text"])
def test_what_is_no_text_of_a_list_stays_as_it_is(value: object) -> None:
    assert listed(value, "prompt") is value


def test_what_python_writes_is_read_back() -> None:
    value = ["", "a'b\"c", "\\n\n\t\x00\x7f\xa0\u2028", "é\U0001f600", ["x", {"k": "v", "none": None, "t": True}]]
    assert listed(repr(value), "prompt") == value
    assert listed(json.dumps(value), "prompt") == value


def test_a_long_list_as_python_writes_it_is_refused_not_read() -> None:
    with pytest.raises(Broken, match=r"prompt: expected a list as JSON, got broken JSON of 2000004 characters"):
        listed("['" + "a" * 2_000_000 + "']", "prompt")
