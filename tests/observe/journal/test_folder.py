"""A journal's folder that one process leaves to the next: its lock is never free, and no segment is removed while both
write."""

import os
from pathlib import Path

import pytest

from router.errors import ConfigError
from router.observe.journal.folder import Folder, segments


def filled(folder: Folder, size: int = 100) -> None:
    segment = folder.new_segment()
    os.write(segment, b"x" * size)
    os.close(segment)


def test_a_process_that_is_given_the_lock_writes_beside_the_other_and_keeps_a_third_out(tmp_path: Path) -> None:
    old = Folder(tmp_path)
    new = Folder(tmp_path, os.dup(old.lock))
    for folder in (old, new):
        filled(folder)
    assert len(segments(tmp_path)) == 2
    old.close()
    with pytest.raises(ConfigError, match="another process writes its journal here"):
        Folder(tmp_path)
    new.close()
    Folder(tmp_path).close()


def test_nothing_is_removed_until_the_old_process_has_ended(tmp_path: Path) -> None:
    old = Folder(tmp_path)
    filled(old)
    new = Folder(tmp_path, os.dup(old.lock))
    old.with_next = True
    filled(new)
    for folder in (old, new):
        folder.prune(keep_bytes=50, keep_s=3600.0)
    assert len(segments(tmp_path)) == 2
    old.close()
    new.with_last = False
    new.prune(keep_bytes=50, keep_s=3600.0)
    assert len(segments(tmp_path)) == 1
    new.close()


def test_the_lock_of_another_folder_is_closed_and_that_of_ours_is_taken(tmp_path: Path) -> None:
    old, ours = Folder(tmp_path / "old"), tmp_path / "new"
    new = Folder(ours, os.dup(old.lock))
    assert os.path.samestat(os.fstat(new.lock), (ours / "lock").stat())
    assert not new.with_last
    with pytest.raises(ConfigError, match="another process writes its journal here"):
        Folder(ours)
    old.close()
    new.close()
