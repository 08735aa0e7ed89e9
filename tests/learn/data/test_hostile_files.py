"""Files of every format with anything changed in them: rows, a refusal or a count, soon; never a traceback, and never
the end of the process. Each is read by `hostile_reader`, so what ends a process fails one test."""

import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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


class Reader:
    """Runs `hostile_reader`, again where a file has ended it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __call__(self, folder: Path, suffix: str, content: bytes, format: str) -> None:
        """Fails with what went wrong when the file of these bytes was read."""
        path = folder / f"x{suffix}"
        path.write_bytes(content)
        self._process = process = self._process or self._started()
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps({"path": str(path), "format": format}) + "\n")
        process.stdin.flush()
        if not (answer := process.stdout.readline()):
            rc = self.close()
            name = signal.Signals(-rc).name if rc < 0 else f"exit status {rc}"
            pytest.fail(f"reading {path.name} ended the process: {name} (its standard error tells more)")
        assert not json.loads(answer), json.loads(answer)

    def close(self) -> int:
        if self._process is None:
            return 0
        with self._process as process:  # closes its pipes and waits for it
            self._process = None
        return process.returncode

    def _started(self) -> subprocess.Popen[str]:
        program = [sys.executable, "-P", "-W", "error", str(Path(__file__).with_name("hostile_reader.py"))]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        return subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.fixture(scope="module")
def tried() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    assert reader.close() == 0


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("format", ROWS)
def test_every_odd_value_in_every_column(tmp_path: Path, tried: Reader, format: str, suffix: str) -> None:
    rng = random.Random(f"{format}{suffix}")
    for value in rng.sample(ODD, 7):
        rows = json.loads(json.dumps(ROWS[format]))
        row = rng.choice(rows)
        row[rng.choice(list(row))] = value
        tried(tmp_path, suffix, WRITERS[suffix](rows), format)


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("format", ROWS)
def test_columns_left_out_added_and_renamed(tmp_path: Path, tried: Reader, format: str, suffix: str) -> None:
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
def test_bytes_changed_anywhere(tried: Reader, suffix: str, data: st.DataObject) -> None:
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
