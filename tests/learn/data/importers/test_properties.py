"""Whatever bytes a file holds: rows, or one ConfigError. Nothing else, and never half a table."""

import json
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.errors import ConfigError
from router.learn.data import importers, outcomes
from router.learn.data.importers.run import run

KEYS = st.sampled_from(
    [
        "prompt",
        "model",
        "score",
        "task",
        "winner",
        "model_a",
        "model_b",
        "query",
        "model_name",
        "performance",
        "type",
        "id",
    ]
)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.lists(st.text(max_size=3), max_size=2),
    st.sampled_from(["decision", "feedback", "tie", "a", "model_a", "m", "n"]),
)  # fmt: skip
CSV = st.lists(st.lists(st.text(max_size=6), min_size=1, max_size=4), min_size=1, max_size=5)
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def refusal(path: Path, out: Path, format: str = "auto", skip: bool = False) -> str:
    """Empty where there is a table."""
    try:
        report = run([path], out, format, skip_broken=skip)
    except ConfigError as error:
        return str(error)
    assert report.rows == len(out.read_bytes().splitlines())
    assert report.kind == "battles" or outcomes.read(out).rows == report.rows
    return ""


def tried(name: str, content: bytes, format: str = "auto") -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / name, Path(folder) / "out.jsonl"
        path.write_bytes(content)
        for skip in (False, True):
            said = refusal(path, out, format, skip)
            assert out.exists() == (not said)
            if not said:
                return
            assert str(path) in said


@FEW
@given(st.sampled_from(["x.csv", "x.jsonl", "x.json", "x.parquet"]), st.binary(max_size=80))
def test_any_bytes(name: str, content: bytes) -> None:
    tried(name, content)


@FEW
@given(st.lists(st.dictionaries(KEYS, VALUES, max_size=6), min_size=1, max_size=4))
def test_any_objects(rows: list[dict[str, object]]) -> None:
    tried("x.jsonl", "\n".join(json.dumps(row) for row in rows).encode())


@FEW
@given(CSV)
def test_any_cells(rows: list[list[str]]) -> None:
    tried("x.csv", "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass"))


@FEW
@given(st.sampled_from(importers.NAMES), st.dictionaries(KEYS, VALUES, max_size=6))
def test_any_object_by_a_named_format(name: str, row: dict[str, object]) -> None:
    tried("x.jsonl", json.dumps(row).encode(), name)
