"""What a killed router left behind is removed by the next one, and nothing else; which log folders are taken."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from router.errors import ConfigError
from router.pool.folder import RuntimeFolder, folders, log_folder_of, remove_abandoned

HOLDER = (
    "import sys; from pathlib import Path; from router.pool.folder import RuntimeFolder\n"
    "folder = RuntimeFolder('', Path(sys.argv[1])); print(folder.path, flush=True); sys.stdin.read()"
)


@pytest.fixture
def place(folder: Path) -> Path:
    """Runtime folders are made in it."""
    return folder


class Holder:
    """Another router's process, with a runtime folder of its own."""

    def __init__(self, root: Path) -> None:
        command = [sys.executable, "-c", HOLDER, str(root)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.path = Path(self.process.stdout.readline().strip())
        (self.path / "m-1.log").write_text("its last words\n")
        (self.path / "m-1.sock").touch()
        (self.path / "admin.token").touch()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def abandoned(root: Path) -> Path:
    holder = Holder(root)
    holder.kill()
    assert {file.name for file in holder.path.iterdir()} == {"m-1.log", "m-1.sock", "admin.token", "owner"}
    return holder.path


def test_the_folder_of_a_killed_router_is_removed_by_the_next_and_that_of_a_living_one_stays(place: Path) -> None:
    left, living = abandoned(place), Holder(place)
    try:
        folder = RuntimeFolder("", place)
        assert not left.exists()
        assert (living.path / "m-1.log").read_text() == "its last words\n"
        folder.remove()
        assert list(place.iterdir()) == [living.path]
    finally:
        living.kill()


def test_logs_that_were_kept_for_reading_stay(place: Path) -> None:
    folder = RuntimeFolder("", place)
    (folder.path / "m-1.log").touch()
    folder.remove(keep_logs=True)
    RuntimeFolder("", place).remove()
    assert [file.name for file in folder.path.iterdir()] == ["m-1.log"]


def another_name(folder: Path) -> Path:
    return folder.rename(folder.with_name("headgate-12345678-backup"))


def shared(folder: Path) -> Path:
    folder.chmod(0o770)
    return folder


def unmarked(folder: Path) -> Path:
    (folder / "owner").unlink()
    return folder


def with_a_strangers_file(folder: Path) -> Path:
    (folder / "thesis.tex").touch()
    return folder


def with_a_folder(folder: Path) -> Path:
    (folder / "m.log").mkdir()
    return folder


def by_a_link(folder: Path) -> Path:
    moved = folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(moved)
    return moved


@pytest.mark.parametrize(
    "change",
    [another_name, shared, unmarked, with_a_strangers_file, with_a_folder, by_a_link],
    ids=lambda f: f.__name__,
)
def test_a_folder_that_may_not_be_ours_is_left_alone(place: Path, change: Callable[[Path], Path]) -> None:
    folder = change(abandoned(place))
    RuntimeFolder("", place).remove()
    assert folder.is_dir()


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_folder_of_another_user_is_left_alone(place: Path) -> None:
    folder = abandoned(place)
    os.chown(folder, 65534, 65534)
    RuntimeFolder("", place).remove()
    assert (folder / "m-1.log").exists()


def test_a_folder_that_a_cleaner_removed_is_removed_without_a_word(place: Path) -> None:
    folder = RuntimeFolder("", place)
    (folder.path / "owner").unlink()
    folder.path.rmdir()
    folder.remove()
    folder.remove()
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757, 0o1777, 0o720])
def test_a_log_folder_that_others_may_write_is_refused_by_its_key(place: Path, mode: int) -> None:
    folder = place / "logs"
    folder.mkdir()
    folder.chmod(mode)
    found = rf"others may write in it \(owner {os.getuid()}, mode {mode:04o}\)"
    why = rf"{re.escape(str(folder))}: {found}; expected one of our own .* - at `\$\.supervision\.log_dir`"
    with pytest.raises(ConfigError, match=why):
        log_folder_of(str(folder))
    assert log_folder_of(str(folder / "ours")).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755])
def test_a_log_folder_that_others_may_read_is_taken(place: Path, mode: int) -> None:
    folder = place / "logs"
    folder.mkdir()
    folder.chmod(mode)
    assert log_folder_of(str(folder)) == folder


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_log_folder_of_another_user_is_refused(place: Path) -> None:
    os.chown(place, 65534, 65534)
    with pytest.raises(ConfigError, match=r"others may write in it \(owner 65534"):
        log_folder_of(str(place))


def test_a_folder_that_is_taken_over_is_never_unlocked_and_goes_with_who_owns_it_last(place: Path) -> None:
    old = RuntimeFolder("", place)
    new = RuntimeFolder.adopt(old.path, made=old.made, lock=os.dup(old.lock))
    new.own(True)
    old.own(False)
    old.remove()
    remove_abandoned(place)
    assert old.path.exists()
    assert (old.path / "owner").read_text() == f"{os.getpid()}\n"
    new.remove()
    assert not old.path.exists()


def test_a_folder_that_was_not_taken_over_in_the_end_stays(place: Path) -> None:
    old = RuntimeFolder("", place)
    new = RuntimeFolder.adopt(old.path, made=old.made, lock=os.dup(old.lock))
    new.remove()
    remove_abandoned(place)
    assert old.path.exists()
    old.remove()
    assert not old.path.exists()


def test_where_servers_may_be_are_private_folders_of_ours_of_the_right_name(place: Path) -> None:
    ours = RuntimeFolder("", place)
    for name, mode in (("headgate-abcdefgh", 0o755), ("other-abcdefgh", 0o700)):
        (place / name).mkdir()
        (place / name).chmod(mode)
    assert folders("", place) == [ours.path]
    assert folders(str(place), Path("/none")) == [place.resolve()]
    assert folders("", place / "none") == []
    ours.remove()
