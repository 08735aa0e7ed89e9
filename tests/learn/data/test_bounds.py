"""What a file claims and what it unfolds to is bounded: a clear error with its place, in little time and memory."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from router.errors import ConfigError
from router.learn.data import battles, outcomes, parquet, queries, records
from router.learn.data.importers.run import run

MIB = 1 << 20
LIMITED = """
import sys
from pathlib import Path
from router.errors import ConfigError
from router.learn.data import battles, outcomes, queries, records
from router.learn.data.importers import run
try:
    got = {call}
    print("read", got)
except ConfigError as error:
    print(error)
told = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(told["VmHWM"].split()[0]) // 1024, file=sys.stderr)
"""


def within(call: str, path: Path, mib: int = 1500, seconds: int = 60) -> str:
    """What is said, by a process of its own that stays below so much memory and time."""
    code = LIMITED.format(call=call.format(path=f"Path({str(path)!r})"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=seconds, env=environment, check=True
    )
    assert int(done.stderr.splitlines()[-1]) < mib
    return done.stdout.strip().removeprefix(str(path))


def same_text(path: Path, rows: int, size: int) -> Path:
    """`rows` cells of one text of `size` bytes: a few kilobytes."""
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["a" * size]))
    ones = pa.array(np.ones(rows))
    pq.write_table(pa.table({"prompt": text, "model": text, "score": ones}), path, compression="zstd")
    assert path.stat().st_size < 100_000
    return path


@pytest.mark.parametrize(
    "call",
    [
        "outcomes.read({path})",
        "sum(1 for _ in records.read({path}))",
        "len(queries.read({path}))",
        "battles.is_battles({path}) or battles.read({path})",
        "run.run([{path}], {path}.with_name('out.jsonl'))",
    ],
)
def test_a_terabyte_in_a_few_kilobytes_of_parquet_is_refused(tmp_path: Path, call: str) -> None:
    said = within(call, same_text(tmp_path / "x.parquet", 10**6, 10**6))
    assert "expected" in said
    assert "row" in said
    assert not (tmp_path / "out.jsonl").exists()


def test_what_unfolds_is_counted_by_row(tmp_path: Path) -> None:
    path = same_text(tmp_path / "x.parquet", 10**6, 10**5)
    with pytest.raises(ConfigError, match=r"x\.parquet: row \d+: expected a file that unfolds to at most 1000 times"):
        list(records.read(path))


def test_a_row_of_more_than_64_mib_is_refused(tmp_path: Path) -> None:
    path = same_text(tmp_path / "x.parquet", 3, 40 * MIB)
    with pytest.raises(ConfigError, match=r"x\.parquet: row 0: expected a row of at most 67108864 bytes, got 838861"):
        list(records.read(path))


@pytest.mark.parametrize(
    "column",
    [
        pa.array(np.zeros(4 * 10**7, np.int8)),
        pa.nulls(4 * 10**7, pa.string()),
        pa.ListArray.from_arrays(pa.array([0, 4 * 10**7], pa.int32()), pa.array(np.zeros(4 * 10**7, np.int8))),
    ],
    ids=["numbers", "nothing", "a list"],
)
def test_equal_numbers_without_end_are_refused_before_they_are_read(tmp_path: Path, column: pa.Array) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"x": column}), path, compression="zstd", row_group_size=10**9)
    assert path.stat().st_size < MIB
    with pytest.raises(ConfigError, match=r"x\.parquet: .*expected (at most 67108864 rows|a file that unfolds to)"):
        next(records.read(path))


def test_nested_texts_are_counted_too(tmp_path: Path) -> None:
    rows = [{"x": [{"t": "a" * 10**5}] * 4}] * 1000
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet", compression="zstd")
    with pytest.raises(ConfigError, match=r"x\.parquet: row \d+: expected a file that unfolds to"):
        list(records.read(tmp_path / "x.parquet"))


def test_every_kind_of_column_is_read_as_before(tmp_path: Path) -> None:
    rows = [
        {"t": "a", "l": ["x", "y"], "s": {"k": "v", "n": [1, 2]}, "m": [("k", "v")], "b": b"\x00", "n": 1.5, "d": None},
        {"t": None, "l": [], "s": {"k": None, "n": None}, "m": [], "b": None, "n": None, "d": None},
        {"t": "", "l": None, "s": None, "m": None, "b": b"", "n": 0.0, "d": None},
    ] * 700
    schema = pa.schema(
        {
            "t": pa.large_string(), "l": pa.list_(pa.string()), "m": pa.map_(pa.string(), pa.string()),
            "b": pa.binary(), "s": pa.struct({"k": pa.string(), "n": pa.list_(pa.int64())}), "n": pa.float32(),
            "d": pa.null(),
        }
    )  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "x.parquet")
    assert [record.values for record in records.read(tmp_path / "x.parquet")] == [
        {key: row[key] for key in schema.names} for row in rows
    ]
    for encoding in ("PLAIN", "DELTA_BYTE_ARRAY"):
        path = tmp_path / f"{encoding}.parquet"
        pq.write_table(pa.table({"t": ["a", "ab", None]}), path, use_dictionary=False, column_encoding={"t": encoding})
        assert [record.values["t"] for record in records.read(path)] == ["a", "ab", None]


def test_texts_told_by_their_beginnings_do_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    texts = pa.array(["a" * 10**5 + str(i) for i in range(3000)])
    pq.write_table(pa.table({"t": texts}), path, use_dictionary=False, column_encoding={"t": "DELTA_BYTE_ARRAY"})
    assert path.stat().st_size < 2 * MIB
    said = within("sum(1 for _ in records.read({path}))", path)
    assert "read 3000" in said or "expected a file that unfolds" in said


def test_more_columns_than_a_table_has_are_refused(tmp_path: Path) -> None:
    names = ",".join(f"c{i}" for i in range(100_000))
    (tmp_path / "x.csv").write_text(f"{names}\n")
    said = within("list(records.read({path}))", tmp_path / "x.csv", seconds=30)
    assert said == ":1: expected at most 4096 columns, got 100000"
    wide = pa.table({f"c{i}": [1] for i in range(4097)})
    pq.write_table(wide, tmp_path / "x.parquet")
    with pytest.raises(ConfigError, match=r"x\.parquet: expected at most 4096 columns, got 4097"):
        list(records.read(tmp_path / "x.parquet"))


def test_a_row_over_many_lines_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_LINE", 1000)
    path = tmp_path / "x.csv"
    path.write_text("a,b\nshort,row\n" * 200 + '"' + "line\n" * 300 + '",x\n')
    with pytest.raises(ConfigError, match=r"x\.csv:60\d: expected a row of at most 1000 bytes, got a longer one"):
        list(records.read(path))
    path.write_text("a,b\n" + "x\n" * 10 + '"y\ny",z\n' * 400)
    assert len(list(records.read(path))) == 410


def test_a_json_file_that_is_read_whole_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_JSON", 100)
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{"a": "b" * 100}]))
    with pytest.raises(
        ConfigError, match=r"x\.json: expected a JSON file of at most 100 bytes, got 111: write it as JS"
    ):
        list(records.read(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "a,b\n1,2\n".encode("utf-16-le"), ": expected UTF-8 text, got a NUL byte: is it UTF-16?"),
        ("x.jsonl", '{"a": 1}'.encode("utf-16-be"), ": expected UTF-8 text, got a NUL byte: is it UTF-16?"),
        ("x.csv", b"prompt;model;score\na;b;1\n", ":1: expected columns separated by commas, got ';' in the one colum"),
        ("x.csv", b"prompt\tmodel\tscore\na\tb\t1\n", r":1: expected columns separated by commas, got '\t' in the one"),
        ("x.csv", b"a" * 500 + b",b," + b"a" * 500 + b"\n", ":1: expected every column once, got 'aaaaaaaa"),
    ],
)
def test_texts_of_another_kind_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        list(records.read(path))
    assert str(error.value).removeprefix(str(path)).startswith(message)
    assert len(str(error.value)) < 400


def test_a_nul_in_a_row_is_a_broken_row(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 2000 + b"1,x\0y\n3,4\n")
    found = list(records.read(path))
    assert [record.broken for record in found if record.broken] == ["expected text, got a NUL byte"]
    assert found[-2].where == f"{path}:2002"
    (tmp_path / "x.txt").write_bytes("one\ntwo\n".encode("utf-16-le"))
    with pytest.raises(ConfigError, match=r"x\.txt:1: expected UTF-8 text, got a NUL byte: is it UTF-16\?"):
        queries.read(tmp_path / "x.txt")


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    for name in ("x.csv", "x.jsonl", "x.parquet", "x.txt"):
        os.mkfifo(tmp_path / name)
    readers: dict[str, list[Callable[[Path], object]]] = {
        "x.csv": [records.kind_of, lambda path: run([path], path.with_name("out.jsonl"))],
        "x.jsonl": [outcomes.read, battles.read, queries.read],
        "x.parquet": [outcomes.read],
        "x.txt": [queries.read],
    }
    for name, each in readers.items():
        for read in each:
            with pytest.raises(ConfigError, match=rf"{name}: expected a plain file, got a pipe or a device"):
                read(tmp_path / name)


def test_more_models_than_a_table_has_are_refused_by_row(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("".join(f'{{"prompt": "p", "model": "m{i}", "score": 1}}\n' for i in range(5000)))
    with pytest.raises(ConfigError, match=r"x\.jsonl:4097: model: expected at most 4096 names, got one more"):
        outcomes.read(path)
    path.write_text(
        "".join(f'{{"prompt": "p", "model_a": "m{i}", "model_b": "n", "winner": "a"}}\n' for i in range(5000))
    )
    with pytest.raises(ConfigError, match=r"x\.jsonl:4096: expected at most 4096 models, got one more"):
        battles.read(path)


def test_prompts_times_models_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "MOST_CELLS", 99)
    path = tmp_path / "x.jsonl"
    path.write_text("".join(f'{{"prompt": "p{i}", "model": "m{i}", "score": 1}}\n' for i in range(10)))
    with pytest.raises(ConfigError, match=r"x\.jsonl: expected at most 99 cells, got 10 prompts of 10 models each"):
        outcomes.read(path)


def test_a_long_value_is_shown_short(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for value in ("x" * 10**6, ["x" * 10**6], 10**4400):
        path.write_text(json.dumps({"prompt": "p", "model": "m"})[:-1] + ', "score": ' + _written(value) + "}\n")
        for read in (outcomes.read, lambda path: run([path], path.with_name("out.jsonl"))):
            with pytest.raises(ConfigError) as error:
                read(path)
            assert len(str(error.value)) < 600


def _written(value: object) -> str:
    return "1" + "0" * 4400 if isinstance(value, int) else json.dumps(value)


def test_infinities_and_nan_are_no_scores(tmp_path: Path) -> None:
    path, table = tmp_path / "x.jsonl", tmp_path / "x.parquet"
    for value in ("NaN", "Infinity", "1e400"):
        path.write_text(f'{{"prompt": "p", "model": "m", "score": {value}}}\n')
        with pytest.raises(ConfigError, match=r"x\.jsonl:1: "):
            outcomes.read(path)
    for number in (float("nan"), float("inf")):
        pq.write_table(pa.table({"prompt": ["p"], "model": ["m"], "score": [number]}), table)
        with pytest.raises(
            ConfigError, match=r"x\.parquet: row 0: score: expected a number from 0 to 1, got (nan|inf)"
        ):
            outcomes.read(table)


def test_what_unfolds_by_hand() -> None:
    words = pa.array(["abc", None, "abc"]).dictionary_encode()
    assert parquet.unfolded(words) == 3 * 8 + 6
    assert parquet.unfolded(pa.array(["abc", None])) == 2 * 8 + 3
    assert parquet.unfolded(pa.array([["abc"], [], ["d", "e"]])) == 3 * 8 + 3 * 8 + 5
    assert parquet.unfolded(pa.array([[("k", "v")]], pa.map_(pa.string(), pa.string())).slice(0, 1)) > 16
    assert parquet.unfolded(pa.array([1, 2], pa.int8())) == 16
    batch = pa.record_batch({"a": [1, 2], "b": ["x", "yz"]})
    assert parquet.unfolded(batch.slice(1)) == 8 + 8 + 2


def test_a_column_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"prompt": ["p"], "mandel": ["m"], "score": [1.0]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"mandel", b"man\xffel"))
    for read in (outcomes.read, battles.read, queries.read, lambda path: run([path], path.with_name("out.jsonl"))):
        with pytest.raises(ConfigError, match=r"x\.parquet: expected "):
            read(path)
