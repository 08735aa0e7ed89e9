"""Rows of files of any kind: read one at a time, or named with what is wrong with them."""

import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from router.errors import ConfigError
from router.learn.data import records

HEADER = b"prompt,model\n"


def read(path: Path, content: bytes) -> list[tuple[str, object]]:
    """Of each row: its place within the file, and its values or what is wrong."""
    path.write_bytes(content)
    return [(record.where.removeprefix(str(path)), record.broken or record.values) for record in records.read(path)]


def refused(path: Path, content: bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        read(path, content)
    return str(caught.value).removeprefix(str(path))


def test_jsonl_with_bom_crlf_and_blank_lines(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"a": "\xc3\xa9\\ud83d\\ude00"}\r\n[1]\n{"a"'
    assert read(tmp_path / "x.jsonl", content) == [
        (":1", {"a": 1}),
        (":3", {"a": "é😀"}),
        (":4", "expected a JSON object, got list"),
        (":5", "expected a JSON object, got broken JSON: Input data was truncated"),
    ]


@pytest.mark.parametrize(
    ("line", "broken"),
    [
        (b'{"a": "\xe9t\xe9"}', "expected UTF-8 text: byte 0xe9 at 0"),
        (b'{"a": "x \\ud800"}', "expected text, got half of a surrogate pair"),
        (b'{"a": "x \\udc00"}', "expected text, got half of a surrogate pair"),
        (b"[" * 100_000, "expected a JSON object, got one nested too deeply"),
        (b'{"a": NaN}', "expected a JSON object, got broken JSON: JSON is malformed: invalid character (byte 6)"),
    ],
)
def test_a_broken_line_does_not_end_the_file(tmp_path: Path, line: bytes, broken: str) -> None:
    assert read(tmp_path / "x.jsonl", line + b'\n{"a": 1}') == [(":1", broken), (":2", {"a": 1})]


def test_csv_rows_are_named_by_the_line_they_begin_on(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbfprompt,model\r\n"two\r\nlines ""quoted""",m\r\n\r\nlast,m\r\nshort\r\nv\xe9lo,m\r\n'
    assert read(tmp_path / "x.csv", content) == [
        (":2", {"prompt": 'two\r\nlines "quoted"', "model": "m"}),
        (":5", {"prompt": "last", "model": "m"}),
        (":6", "expected 2 cells, got 1"),
        (":7", "expected UTF-8 text"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"prompt,model,prompt\na,b,c\n", ":1: expected every column once, got 'prompt' twice"),
        (HEADER + b'a,b\n"open,m\nmore', ":3: expected CSV: unexpected end of data"),
        (HEADER + b'"a"b,m\n', ":2: expected CSV: ',' expected after '\"'"),
        (b"pr\xffompt,model\n", ":1: expected UTF-8 text"),
        (b"prompt,model\ra,m\r", ":1: expected CSV: new-line character seen in unquoted field"),
        (b"", ": expected at least one row, got an empty file"),
        (b"\xef\xbb\xbf \n", ": expected at least one row, got an empty file"),
        ("prompt,model\n".encode("utf-16"), ": expected UTF-8 text, got UTF-16"),
        (b"\x1f\x8b\x08\x00", ": expected a table, got a compressed file: unpack it first"),
    ],
)
def test_csv_that_cannot_be_read_on(tmp_path: Path, content: bytes, message: str) -> None:
    assert refused(tmp_path / "x.csv", content).startswith(message)


def test_a_line_without_end_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_LINE", 100)
    said = refused(tmp_path / "x.jsonl", b'{"a": 1}\n{"a": "' + b"x" * 200 + b'"}')
    assert said == ":2: expected a line of at most 100 bytes, got a longer one"


@pytest.mark.parametrize("name", ["routerbench_0shot.pkl", "table.csv", "embeddings.pt"])
def test_no_pickle_is_read_under_any_name(tmp_path: Path, name: str) -> None:
    said = refused(tmp_path / name, pickle.dumps({"prompt": ["a"]}))
    assert said.startswith(": a pickle is never read, for it may run code. Where you trust it, export it with pandas: ")


def test_json_lists_and_records(tmp_path: Path) -> None:
    assert read(tmp_path / "x.json", b'[{"a": 1}, 2]') == [
        (": $[0]", {"a": 1}),
        (": $[1]", "expected a JSON object, got int"),
    ]
    found = read(tmp_path / "x.json", b'{"model": "m", "records": [{"a": 1}]}')
    assert found == [(": $.records[0]", {"/model": "m", "a": 1})]
    assert read(tmp_path / "x.json", b'{"a": 1}\n{"a": 2}\n') == [(":1", {"a": 1}), (":2", {"a": 2})]
    assert ": expected a list of objects, or an object with `records`; got dict" in refused(tmp_path / "x.json", b"{}")
    assert ": expected JSON, got broken JSON" in refused(tmp_path / "x.json", b'[{"a": 1}')


def test_parquet_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "BATCH", 2)
    path = tmp_path / "x.parquet"
    texts = pa.array([b"a", b"b", b"\xff", b"d"], pa.binary())
    pq.write_table(pa.table({"t": texts.view(pa.string())}), path)
    assert [
        (record.where.removeprefix(str(path)), record.broken or record.values) for record in records.read(path)
    ] == [
        (": row 0", {"t": "a"}),
        (": row 1", {"t": "b"}),
        (": row 2", "expected UTF-8 text"),
        (": row 3", {"t": "d"}),
    ]


def test_truncated_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"t": ["a", "b"]}), path)
    whole = path.read_bytes()
    assert ": expected a whole Parquet file: " in refused(path, whole[: len(whole) // 2])


def test_other_names_and_missing_files(tmp_path: Path) -> None:
    assert ": expected one of .parquet, .csv, .jsonl, .ndjson, .json; got '.xml'" in refused(
        tmp_path / "x.xml", b"<a/>"
    )
    with pytest.raises(ConfigError, match=r"gone\.csv: cannot be read: No such file"):
        records.kind_of(tmp_path / "gone.csv")
