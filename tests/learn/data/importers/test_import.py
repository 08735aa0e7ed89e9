"""An import refuses, skips and reports; it leaves a whole table or none."""

import pickle
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from router.cli.main import main
from router.errors import ConfigError
from router.learn.data.importers import sink
from router.learn.data.importers.run import run

GOOD = b'{"prompt": "1?", "model": "m", "score": 1}\n'


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        run([path], path.with_name("out.jsonl"))
    assert not path.with_name("out.jsonl").exists()
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    return str(caught.value).removeprefix(str(path))


SKIP = " (--skip-broken leaves such rows out)"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"prompt": "2?", "model": "m", "score": 1.2}', "score: expected a number from 0 to 1, got 1.2"),
        (b'{"prompt": "2?", "model": "m", "score": "good"}', "score: expected a number from 0 to 1, got 'good'"),
        (b'{"prompt": "2?", "model": "m", "score": [1]}', "score: expected a number from 0 to 1, got [1]"),
        (
            b'{"prompt": "2?", "model": "m", "score": 1%b}' % (b"0" * 400),
            "score: expected a number from 0 to 1, got 1000",
        ),
        (b'{"prompt": "2?", "model": "m"}', "score: expected a number from 0 to 1, got none"),
        (b'{"prompt": " ", "model": "m", "score": 1}', "prompt: expected text, got an empty one"),
        (b'{"prompt": "2?", "model": 7, "score": 1}', "model: expected text, got 7"),
        (b'{"prompt": "2?", "model": "m", "score": 1, "task": 7}', "task: expected text, got 7"),
        (
            b'{"prompt": "2?", "model": "m", "score": 1, "cost_usd": -1}',
            "cost_usd: expected a number of 0 or more, got -1",
        ),
        (b'{"prompt": "\\ud800", "model": "m", "score": 1}', "expected text, got half of a surrogate pair"),
        (b'{"prompt": "\xe9", "model": "m", "score": 1}', "expected UTF-8 text: byte 0xe9 at 0"),
        (b'{"prompt": "2?"', "expected a JSON object, got broken JSON: Input data was truncated"),
        (b"7", "expected a JSON object, got int"),
    ],
)
def test_broken_rows_are_refused_by_line(tmp_path: Path, line: bytes, message: str) -> None:
    said = refused(tmp_path / "x.jsonl", GOOD + line)
    assert said.startswith(f":2: {message}")
    assert said.endswith(SKIP)


def test_broken_csv_rows_are_refused_by_line(tmp_path: Path) -> None:
    content = b'prompt,a,b\r\n"two\r\nlines",True,False\r\nx,True,maybe\r\n'
    assert refused(tmp_path / "x.csv", content) == f":4: b: expected True or False, got 'maybe'{SKIP}"
    assert (
        refused(tmp_path / "x.csv", b"prompt,a,b\r\nx,True,False\r\nx,True\r\n") == f":3: expected 3 cells, got 2{SKIP}"
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"", ": expected at least one row, got an empty file"),
        ("x.csv", b"prompt,a\n", ": expected at least one row, got none"),
        ("x.json", b"[]", ": expected at least one row, got none"),
        ("x.csv", b"prompt,a,a\nx,True,True\n", ":1: expected every column once, got 'a' twice"),
        ("x.parquet", b"PAR1 and no more", ": expected a whole Parquet file: "),
        ("x.pkl", pickle.dumps([1]), ": a pickle is never read"),
        ("x.csv", pickle.dumps([1]), ": a pickle is never read"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    assert refused(tmp_path / name, content).startswith(message)


def test_what_is_skipped_is_counted_and_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"prompt": "0?", "model": "m", "score": 2}\r\n' + GOOD + b"{\n"
        b'{"prompt": "2?", "model": "m", "score": -1}\n'
    )
    report = run([path], tmp_path / "out.jsonl", skip_broken=True)
    assert report.rows == 1
    assert [(one.why, one.count, one.first) for one in report.left_out] == [
        ("broken: score: expected a number from 0 to 1", 2, f"{path}:1"),
        ("broken: expected a JSON object", 1, f"{path}:3"),
    ]
    path.write_bytes(b'{"prompt": "0?", "model": "m", "score": 2}\n')
    with pytest.raises(ConfigError, match=r"expected at least one row, got none; 1: broken: score: .*:1\)"):
        run([path], tmp_path / "none.jsonl", skip_broken=True)


def test_streams_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "BATCH", 2)
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"".join(GOOD.replace(b"1?", b"%d?" % i) for i in range(5)))
    for name in ("out.jsonl", "out.parquet"):
        assert run([path], tmp_path / name).rows == 5
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups == 3
    assert pq.read_table(tmp_path / "out.parquet")["prompt"].to_pylist() == [f"{i}?" for i in range(5)]


def test_a_failed_import_keeps_the_table_that_was_there(tmp_path: Path) -> None:
    path, out = tmp_path / "x.jsonl", tmp_path / "out.jsonl"
    path.write_bytes(GOOD)
    run([path], out)
    before = out.read_bytes()
    path.write_bytes(GOOD + b"broken")
    with pytest.raises(ConfigError, match="broken JSON"):
        run([path], out)
    assert out.read_bytes() == before


def test_two_kinds_of_table_are_not_mixed(tmp_path: Path) -> None:
    path, other = tmp_path / "x.jsonl", tmp_path / "y.jsonl"
    path.write_bytes(GOOD)
    other.write_bytes(b'{"prompt": "1?", "model_a": "m", "model_b": "n", "winner": "b"}\n')
    with pytest.raises(ConfigError, match="expected one kind of table, got outcomes and battles"):
        run([path, other], tmp_path / "out.jsonl")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "x.jsonl", tmp_path / "out.jsonl"
    path.write_bytes(GOOD[:-2] + b', "response": "long"}\n{\n')
    asked = ["data", "import", str(path), "--out", str(out)]
    assert main(asked) == 2
    assert f"{path}:2: expected a JSON object, got broken JSON" in capsys.readouterr().err
    assert main([*asked, "--skip-broken", "--no-responses"]) == 0
    said = capsys.readouterr().out
    assert f"{path}: read as headgate, 2 records" in said
    assert f"{out}: 1 outcomes, 1 prompts, 1 models (m)" in said
    assert f"left out: 1: broken: expected a JSON object (first: {path}:2)" in said
    assert b"long" not in out.read_bytes()
    assert main([*asked, "--skip-broken", "--json"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out)["rows"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "out.jsonl"], "expected FILE... --out TABLE"),
        (["{file}"], "expected FILE... --out TABLE"),
        (["{file}", "--out", "{folder}/out.csv"], "--out: expected a name in .parquet or .jsonl, got 'out.csv'"),
        (
            ["{file}", "--out", "{folder}/gone/out.jsonl"],
            "--out: expected a file in an existing folder, got {folder}/gone/out.jsonl",
        ),
        (["{folder}/gone.jsonl", "--out", "{folder}/out.jsonl"], "gone.jsonl: cannot be read: No such file"),
        (["{folder}/empty", "--out", "{folder}/out.jsonl"], "empty: expected a folder with tables"),
    ],
)
def test_the_command_refuses_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "x.jsonl").write_bytes(GOOD)
    (tmp_path / "empty").mkdir()
    names = {"file": str(tmp_path / "x.jsonl"), "folder": str(tmp_path)}
    assert main(["data", "import", *(one.format(**names) for one in arguments)]) == 2
    assert message.format(**names) in capsys.readouterr().err


def test_lists_the_formats(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["data", "import", "--list-formats"])
    assert "routerbench     RouterBench's wide tables" in capsys.readouterr().out
