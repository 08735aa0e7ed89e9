"""Of RouteLLM's wide tables, columns of True and False are models; row numbers and what is told of a prompt are not."""

import json
from pathlib import Path

import pytest

from router.errors import ConfigError
from router.learn.data.importers.run import Imported, run


def imported(tmp_path: Path, text: str, format: str = "routellm", name: str = "x.csv") -> tuple[Imported, list[float]]:
    path, out = tmp_path / name, tmp_path / "out.jsonl"
    path.write_text(text)
    report = run([path], out, format)
    return report, [json.loads(line)["score"] for line in out.read_text().splitlines()]


@pytest.mark.parametrize("format", ["auto", "routellm"])
@pytest.mark.parametrize(
    "column",
    [
        "Unnamed: 0",
        "Unnamed: 0.1",
        "unnamed: 12",
        "level_0",
        "",
        "id",
        "ID",
        "question_id",
        "index",
        "subject",
        "difficulty",
        "row",
    ],
)
def test_a_row_number_or_a_fact_of_the_prompt_is_no_model(tmp_path: Path, column: str, format: str) -> None:
    rows = "".join(f"{i},What is {i}+1?,True,False\n" for i in range(3))
    report, scores = imported(tmp_path, f"{column},prompt,big,tiny\n{rows}", format)
    assert report.models == ("big", "tiny")
    assert scores == [1, 0] * 3
    assert report.left_out == ()


def test_a_column_of_other_numbers_is_no_model_and_is_told(tmp_path: Path) -> None:
    rows = "".join(f"p{i},{i},True,{i % 2 == 1},{i / 4}\n" for i in range(5))
    report, scores = imported(tmp_path, f"prompt,steps,big,tiny,length\n{rows}")
    assert report.models == ("big", "tiny")
    assert scores == [1, 0, 1, 1, 1, 0, 1, 1, 1, 0]
    assert [one.why for one in report.left_out] == [
        "column 'steps' holds no True and False, so it is no model",
        "column 'length' holds no True and False, so it is no model",
    ]


@pytest.mark.parametrize("column", ["seed", "my_row_numbers", "passed_before"])
def test_a_column_of_0_and_1_is_no_model_beside_columns_of_true_and_false(tmp_path: Path, column: str) -> None:
    report, scores = imported(tmp_path, f"{column},prompt,big,tiny\n0,p,True,False\n1,q,True,True\n")
    assert report.models == ("big", "tiny")
    assert scores == [1, 0, 1, 1]
    assert [one.why for one in report.left_out] == [f"column {column!r} holds no True and False, so it is no model"]


def test_a_table_of_0_and_1_alone_is_read(tmp_path: Path) -> None:
    report, scores = imported(tmp_path, "Unnamed: 0,prompt,big,tiny\n0,p,1,0\n1,q,1.0,0.0\n")
    assert report.models == ("big", "tiny")
    assert scores == [1, 0, 1, 0]
    assert report.left_out == ()


def test_a_broken_cell_of_a_model_is_refused_not_taken_for_no_model(tmp_path: Path) -> None:
    rows = "".join(f"p{i},{'x' if i == 30 else i % 2}\n" for i in range(60))
    with pytest.raises(ConfigError, match=r"x\.csv:32: big: expected True or False, got 'x'"):
        imported(tmp_path, f"prompt,big\n{rows}")
    with pytest.raises(ConfigError, match=r"x\.csv:3: big: expected True or False, got none"):
        imported(tmp_path, "prompt,big\np,True\nq,\n")
    with pytest.raises(ConfigError, match=r"x\.csv:3: big: expected True or False, got '0.5'"):
        imported(tmp_path, "prompt,big\np,True\nq,0.5\n")


def test_a_table_without_a_model_is_refused_with_its_columns(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"x\.csv: expected a column of True and False for each model, got 'steps'"):
        imported(tmp_path, "id,prompt,steps\n0,p,4\n1,q,5\n")
    with pytest.raises(ConfigError, match=r"x\.csv: expected a column of True and False for each model, got none"):
        imported(tmp_path, "id,prompt\n0,p\n1,q\n")


def test_true_and_false_of_json_lines(tmp_path: Path) -> None:
    lines = '{"prompt": "p", "big": true, "id": 0}\n{"prompt": "q", "big": false, "id": 1}\n'
    assert imported(tmp_path, lines, name="x.jsonl")[1] == [1, 0]
