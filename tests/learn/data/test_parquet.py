"""Damaged Parquet files: rows or a ConfigError that names the file. Read in processes of their own, for a C++ exception
that pyarrow does not catch ends the process."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from router.errors import ConfigError
from router.learn.data import parquet, records

#: Changes one byte after the other, to three values each, and reads the file each time.
DAMAGE = """
import os
import sys
from pathlib import Path
from router.errors import ConfigError
from router.learn.data import parquet, records
path = Path(sys.argv[1])
whole = path.read_bytes()
file = os.open(path, os.O_WRONLY)
read = refused = 0
for at in range(len(whole)):
    for value in (whole[at] ^ 1, whole[at] ^ 16, whole[at] ^ 255):
        print(f"byte {at} of {len(whole)} set to {value}", file=sys.stderr)
        os.pwrite(file, bytes([value]), at)
        try:
            parquet.names(path)
            list(records.read(path))
            read += 1
        except ConfigError as error:
            assert str(path) in str(error), error
            refused += 1
    os.pwrite(file, whole[at : at + 1], at)
print(read, refused)
"""
TEXTS = pa.table({"prompt": ["a", "b"], "model": ["x", "y"], "score": [0.1, 0.9]})
NESTED = pa.table({"turns": [[{"role": "u", "n": [1, 2]}], [], None], "n": [1, None, 3]})
DELTAS = {"prompt": "DELTA_BYTE_ARRAY", "model": "DELTA_LENGTH_BYTE_ARRAY"}
WAYS: dict[str, tuple[pa.Table, dict[str, Any]]] = {
    "texts": (TEXTS, {}),
    "groups": (TEXTS, {"row_group_size": 1}),
    "nested": (NESTED, {}),
    "deltas": (TEXTS, {"use_dictionary": ["score"], "column_encoding": DELTAS}),
    "pages of version 2": (TEXTS, {"data_page_version": "2.0", "compression": "zstd"}),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_byte_anywhere_in_pages_or_footer_never_ends_the_process(tmp_path: Path, way: str) -> None:
    table, how = WAYS[way]
    path = tmp_path / "x.parquet"
    pq.write_table(table, path, store_schema=False, **how)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    program = [sys.executable, "-P", "-c", DAMAGE, str(path)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stderr[-1000:]
    read, refused = map(int, done.stdout.split())
    assert read > 100
    assert refused > 100


def test_a_row_group_with_fewer_columns_than_the_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(TEXTS, path, store_schema=False)
    whole = path.read_bytes()
    start = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    at = whole.index(b"\x19\x1c\x19\x3c", start)  # one row group, whose first field lists three columns
    footer = whole[start:at] + b"\x19\x1c\x19\x0c\x16\0\x16\4\0\0"  # none, 0 bytes, 2 rows
    path.write_bytes(whole[:start] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    assert pq.read_metadata(path).num_columns == 3
    with pytest.raises(ConfigError, match=r"x\.parquet: .*: expected 3 columns in each of 1 row groups"):
        list(parquet.batches(path, 10))


@pytest.mark.parametrize(
    "column",
    [
        pa.array([0, 10**7], pa.date32()),
        pa.array([0, 2**62], pa.timestamp("us")),
    ],
    ids=["date", "time"],
)
def test_a_date_that_python_has_not_is_a_broken_row(tmp_path: Path, column: pa.Array) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"prompt": ["a", "b"], "day": column}), path)
    first, second = records.read(path)
    assert (first.values["prompt"], first.broken) == ("a", "")
    assert second.where == f"{path}: row 1"
    assert "out of range" in second.broken


def test_a_time_with_a_zone_is_read_in_a_process_that_has_loaded_a_knn_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "asked.parquet"
    when = pa.array([0, 1], pa.timestamp("ms", "UTC"))
    pq.write_table(pa.table({"prompt": ["a", "b"], "when": when}), path)
    script = (
        "import sys; from router.learn.data import queries; from router.heads.methods.knn import usearch; usearch()\n"
        "print(len(queries.read(__import__('pathlib').Path(sys.argv[1]))))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script, path], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "2"), done.stderr
