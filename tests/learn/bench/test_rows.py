"""A run's folder: goes on where it was stopped, refuses another run, tells a disk that is full."""

import json
import os

import pytest

from router.errors import ConfigError, HeadgateError
from router.learn.bench.rows import Cell, CellKey, Folder, Label, Row

RUN = b'{"seed":0,"rounds":3}'


def cell(policy="a", **fields):
    return Cell(round=0, level=0, policy=policy, wall_s=2.0, from_s=0.0, to_s=2.0, **fields)


def row(number=0, policy="a"):
    return Row(round=0, level=0, policy=policy, number=number, item=0, at_s=0.5, gaps_us=[1, 2], text="x")


def test_whole_cells_are_kept_and_a_cut_one_is_measured_again(tmp_path):
    folder = Folder(tmp_path / "run", RUN)
    folder.end_cell([row(0), row(1)], cell())
    folder.end_cell([row(0, "b")], cell("b", cut=True))
    assert len(folder.rows()) == 3
    folder.add_label(Label(item=0, win_rate=0.5, weak=0.0, strong=1.0))
    folder.close()
    again = Folder(tmp_path / "run", RUN)
    assert list(again.cells) == [CellKey(0, 0, "a")]
    assert [(one.number, one.gaps_us) for one in again.rows()] == [(0, [1, 2]), (1, [1, 2])]
    assert len(again.labels) == 1
    again.close()
    assert len((tmp_path / "run" / "requests.jsonl").read_text().splitlines()) == 2


def test_a_row_that_was_cut_in_the_writing_is_dropped(tmp_path):
    folder = Folder(tmp_path, RUN)
    folder.end_cell([row(0)], cell())
    folder.close()
    for name in ("requests.jsonl", "cells.jsonl"):
        with (tmp_path / name).open("ab") as file:
            file.write(b'{"round":0,"lev')
    again = Folder(tmp_path, RUN)
    again.end_cell([row(0, "b")], cell("b"))
    assert [one.policy for one in again.rows()] == ["a", "b"]
    again.close()


def test_another_run_is_refused_with_what_differs_unless_it_is_begun_anew(tmp_path):
    Folder(tmp_path, RUN).close()
    other = json.dumps({"seed": 1, "rounds": 3}).encode()
    with pytest.raises(ConfigError, match=r"a run of other settings \(seed: 0 there, 1 here\); choose another folder"):
        Folder(tmp_path, other)
    Folder(tmp_path, other, anew=True).close()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(ConfigError, match=r"--out: .*file: cannot be written"):
        Folder(path, RUN)


def test_rows_that_are_none_are_refused(tmp_path):
    Folder(tmp_path, RUN).close()
    (tmp_path / "cells.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(ConfigError, match=r"cells\.jsonl: expected rows of a bench"):
        Folder(tmp_path, RUN)


def test_a_full_disk_ends_the_run_with_its_reason_and_keeps_what_was_written(tmp_path):
    folder = Folder(tmp_path, RUN)
    folder.end_cell([row(0)], cell())
    full = open("/dev/full", "ab")  # noqa: SIM115
    os.dup2(full.fileno(), folder._requests.fileno())
    with pytest.raises(HeadgateError, match="No space left on device; what was written before stays"):
        folder.end_cell([row(0, "b")], cell("b"))
    folder.close()
    full.close()
    again = Folder(tmp_path, RUN)
    assert list(again.cells) == [CellKey(0, 0, "a")]
    again.close()
