"""Sizes by the headers of safetensors files."""

import json
from pathlib import Path

import pytest

from router.heads.weights import billions


def weights(path: Path, header: object, size: int | None = None) -> None:
    data = json.dumps(header).encode()
    path.write_bytes((len(data) if size is None else size).to_bytes(8, "little") + data)


def test_all_tensors_of_all_files_count(tmp_path: Path) -> None:
    weights(tmp_path / "a.safetensors", {"__metadata__": {"x": "y"}, "w": {"dtype": "F16", "shape": [3000, 1000]}})
    weights(tmp_path / "b.safetensors", {"b": {"dtype": "F32", "shape": [500_000], "data_offsets": [0, 1]}})
    assert billions(str(tmp_path)) == pytest.approx(0.0035)


@pytest.mark.parametrize("header", [{"w": {"shape": "x"}}, {"w": 3}, [], {}, {"w": {"shape": [10**18] * 30}}])
def test_what_cannot_be_read_is_of_no_known_size(tmp_path: Path, header: object) -> None:
    weights(tmp_path / "a.safetensors", header)
    assert billions(str(tmp_path)) is None


def test_no_folder_and_a_header_without_end_are_of_no_known_size(tmp_path: Path) -> None:
    assert billions("") is None
    assert billions("org/name") is None
    assert billions(str(tmp_path)) is None
    weights(tmp_path / "a.safetensors", {}, size=1 << 62)
    assert billions(str(tmp_path)) is None


def test_a_header_of_brackets_without_end_is_of_no_known_size(tmp_path: Path) -> None:
    data = b'{"w": ' + b"[" * 100_000
    (tmp_path / "a.safetensors").write_bytes(len(data).to_bytes(8, "little") + data)
    assert billions(str(tmp_path)) is None
