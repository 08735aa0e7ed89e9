"""Files of every format with anything changed in them: rows, a refusal or a count, soon; never a traceback."""

import csv
import io
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.errors import ConfigError
from router.learn import battles, importers, outcomes, queries
from router.learn.importers.run import run

FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SECONDS = 60  #: bounds what would not end; a file takes milliseconds
#: A row or two of every format, as text files have them.
ROWS: dict[str, list[dict[str, Any]]] = {
    "headgate": [
        {"prompt": "1?", "model": m, "score": s, "cost_usd": 0.1, "split": "a"} for m, s in (("m", 1), ("n", 0))
    ],
    "battles": [{"prompt": "1?", "model_a": "m", "model_b": "n", "winner": w} for w in ("a", "tie")],
    "arena": [
        {
            "id": i, "model_a": "m", "model_b": "n", "prompt": '["one", "two"]', "winner_model_a": 1,
            "winner_model_b": 0, "winner_tie": 0,
        }
        for i in range(2)
    ],
    "conversations": [
        {
            "model_a": "m", "model_b": "n", "winner": "model_a",
            "conversation_a": "[{'role': 'user', 'content': 'hi'}]", "conversation_b": "[]",
        }
    ],
    "routellm": [{"prompt": "1?", "big": True, "tiny": False, "big_response": "x"} for _ in range(2)],
    "routerbench": [
        {"sample_id": "s", "prompt": "['a', 'b']", "eval_name": "e", "m": 0.5, "m|model_response": "x",
         "m|total_cost": 1}
    ],
    "llmrouter": [{"task_name": "t", "query": "1?", "model_name": "m", "performance": 1, "cost": 0}],
    "llmrouterbench": [{"origin_query": "q", "prompt": "p", "prediction": "x", "score": 1, "model": "m"}],
    "journal": [
        {"type": "decision", "id": "d1", "prompt": "1?", "model": "m", "completion_tokens": 7},
        {"type": "feedback", "id": "d1", "score": 1},
    ],
    "requests": [{"messages": [{"role": "user", "content": "hi"}], "max_tokens": 16, "n": 1, "tools": []}],
}  # fmt: skip
ODD: list[Any] = [
    "", " ", "nan", "inf", "-1", "1e400", "9" * 5000, "true", "None", "[", '["', "['a' 'b']", '["\\ud83d"]', "[" * 5000,
    '[{"role": 1}]', "{", "\x00", "\ud83d", "\ufeff", "a,b", 'a"b', "a\nb", "\r", "x" * 70_000, "#REF!", "=1+1", "1_0",
    None, True, -1, 0, 2, 0.5, 10**30, -(10**400), float("nan"), float("inf"), 1e-320, [], [[]], [None], {},
    [{"role": "user", "content": [{"type": "text", "text": 5}]}], [{"role": "user", "content": {"a": 1}}],
    [1, "a", None], {"a": {"b": 1}},
]  # fmt: skip


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    file = io.StringIO()
    keys = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(file, keys)
    writer.writeheader()
    writer.writerows(
        {k: json.dumps(v, default=str) if isinstance(v, list | dict) else _short(v) for k, v in row.items()}
        for row in rows
    )
    return file.getvalue().encode("utf-8", "surrogatepass")


def _short(value: Any) -> Any:
    return "1" + "0" * 400 if isinstance(value, int) and abs(value) > 10**300 else value


def as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_json(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps({"model": "m", "records": rows}).encode()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    """Each column of the narrowest type that takes it, else of text."""
    columns: dict[str, Any] = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [None if row.get(key) == {} else row.get(key) for row in rows]  # which Parquet cannot hold
        try:
            columns[key] = pa.array(values)
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):
            columns[key] = pa.array([ascii(_short(value)) for value in values])
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


WRITERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    ".csv": as_csv, ".jsonl": as_jsonl, ".json": as_json, ".parquet": as_parquet,
}  # fmt: skip


def said(read: Callable[[], object]) -> str:
    """What refuses; empty where nothing does. Anything but ConfigError is a failure."""
    begun = time.monotonic()
    try:
        read()
    except ConfigError as error:
        return str(error)
    finally:
        assert time.monotonic() - begun < SECONDS
    return ""


def tried(folder: Path, suffix: str, content: bytes, format: str) -> None:
    path = folder / f"x{suffix}"
    path.write_bytes(content)
    for out in (folder / "out.jsonl", folder / "out.parquet"):
        for name in ("auto", format) if format in importers.NAMES else ("auto",):
            for skip in (False, True):
                out.write_bytes(b"before")
                refused = said(lambda out=out, name=name, skip=skip: run([path], out, name, skip_broken=skip))  # type: ignore[misc]
                assert (out.read_bytes() == b"before") == bool(refused)
                assert len(refused) < 3000
                assert not refused or str(path) in refused
                if not refused:
                    read = battles.read if battles.is_battles(out) else outcomes.read
                    assert "Parquet" not in said(lambda read=read, out=out: read(out))  # type: ignore[misc]
    for read in (outcomes.read, battles.read, queries.read):
        refused = said(lambda read=read: read(path))  # type: ignore[misc]
        assert len(refused) < 3000
        assert not refused or str(path) in refused
    assert {one.name for one in folder.iterdir()} == {path.name, "out.jsonl", "out.parquet"}


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("format", ROWS)
def test_every_odd_value_in_every_column(tmp_path: Path, format: str, suffix: str) -> None:
    rng = random.Random(f"{format}{suffix}")
    for value in rng.sample(ODD, 7):
        rows = json.loads(json.dumps(ROWS[format]))
        row = rng.choice(rows)
        row[rng.choice(list(row))] = value
        tried(tmp_path, suffix, WRITERS[suffix](rows), format)


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("format", ROWS)
def test_columns_left_out_added_and_renamed(tmp_path: Path, format: str, suffix: str) -> None:
    rng = random.Random(f"{suffix}{format}")
    keys = [*ROWS[format][0], "Unnamed: 0", "id", "", "prompt", "model", "winner", "score", "m|total_cost", "a" * 9999]
    for key in rng.sample(keys, 2):
        for change in ("left out", "renamed", "added"):
            rows = json.loads(json.dumps(ROWS[format]))
            for row in rows:
                value = row.get(key, 1) if change == "added" else row.pop(key, 1)
                if change != "left out":
                    row[key if change == "added" else key.upper() + " "] = value
            if all(rows):
                tried(tmp_path, suffix, WRITERS[suffix](rows), format)


@pytest.mark.parametrize("suffix", WRITERS)
@FEW
@given(st.data())
def test_bytes_changed_anywhere(suffix: str, data: st.DataObject) -> None:
    format = data.draw(st.sampled_from(list(ROWS)))
    content = bytearray(WRITERS[suffix](ROWS[format] * 3))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["set", "cut", "insert", "double"]))
        if kind == "set":
            content[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del content[at : at + data.draw(st.integers(1, 40))]
        elif kind == "insert":
            content[at:at] = data.draw(st.binary(min_size=1, max_size=12))
        else:
            content[at:at] = content[at : at + 200]
        if not content:
            content = bytearray(b"x")
    with tempfile.TemporaryDirectory() as folder:
        tried(Path(folder), suffix, bytes(content), format)
