"""A file is replaced whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from router import files


def test_a_file_takes_the_place_of_another_with_the_permissions_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"before")
    with files.replaced(path, 0o640) as file:
        file.write(b"after")
        assert path.read_bytes() == b"before"
    assert path.read_bytes() == b"after"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["out"]


def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    with files.replaced(tmp_path / "out"):
        pass
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_block_that_fails_leaves_all_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"before")
    with pytest.raises(ZeroDivisionError), files.replaced(path) as file:
        file.write(b"after")
        raise ZeroDivisionError
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["out"]


def test_a_name_as_long_as_the_system_allows_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("\u20ac" * 85)
    with files.replaced(path) as file:
        file.write(b"x")
    assert path.read_bytes() == b"x"


def test_a_folder_that_is_missing_is_said_by_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), files.replaced(tmp_path / "nowhere" / "out"):
        pass
