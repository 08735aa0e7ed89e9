"""An engine's log: what was planted in its place is refused at once; its tail is read whatever became of the file."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from router.pool import logfile
from router.pool.logfile import LogFile


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "m-1.log"


def write(log: LogFile, text: bytes) -> None:
    os.write(log.fd, text)


def a_link(path: Path) -> None:
    (path.parent / "victim").write_text("precious")
    path.symlink_to("victim")


def a_second_name(path: Path) -> None:
    (path.parent / "victim").write_text("precious")
    path.hardlink_to(path.parent / "victim")


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.mkdir()


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def a_file_of_another_user(path: Path) -> None:
    path.touch()
    os.chown(path, 65534, 65534)


@pytest.mark.parametrize(
    "plant",
    [
        a_link,
        a_second_name,
        a_pipe,
        a_folder,
        a_socket,
        pytest.param(
            a_file_of_another_user, marks=pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
        ),
    ],
    ids=lambda plant: plant.__name__,
)
@pytest.mark.timeout(60)
def test_what_was_planted_in_the_logs_place_is_refused_and_untouched(path: Path, plant: Callable[[Path], None]) -> None:
    plant(path)
    with pytest.raises(OSError, match=r"m-1\.log"):
        LogFile(path)
    victim = path.parent / "victim"
    assert not victim.exists() or victim.read_text() == "precious"


def test_a_folder_that_others_may_write_since_is_refused(path: Path) -> None:
    path.parent.chmod(0o777)
    with pytest.raises(PermissionError, match=r"others may write in it .*mode 0777"):
        LogFile(path)


def test_the_tail_is_what_was_written_since_the_log_was_opened(path: Path) -> None:
    path.write_text("of an earlier run\n")
    path.chmod(0o600)
    log = LogFile(path)
    assert log.tail() == ""
    write(log, b"hello\n")
    assert log.tail() == "hello\n"
    log.close()
    log.close()
    assert log.tail() == "hello\n"
    assert path.read_text() == "of an earlier run\nhello\n"


def removed(path: Path) -> None:
    path.unlink()


def replaced_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def with_its_folder(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()


@pytest.mark.parametrize("fate", [removed, replaced_by_a_pipe, with_its_folder], ids=lambda fate: fate.__name__)
@pytest.mark.timeout(60)
def test_the_tail_of_a_log_that_is_gone_can_still_be_read(folder: Path, fate: Callable[[Path], None]) -> None:
    path = folder / "logs" / "m-1.log"
    log = LogFile(path)
    write(log, b"ValueError: last words\n")
    fate(path)
    assert log.tail() == "ValueError: last words\n"
    log.close()
    assert log.tail() == "ValueError: last words\n"


def test_a_log_that_was_cut_is_read_from_its_start(path: Path) -> None:
    path.write_bytes(bytes(1000))
    log = LogFile(path)
    os.truncate(path, 0)
    write(log, b"new\n")
    assert log.tail() == "new\n"
    log.close()


def test_a_missing_folder_is_made_for_us_alone(folder: Path) -> None:
    log = LogFile(folder / "a" / "m-1.log")
    log.close()
    assert (folder / "a").stat().st_mode & 0o777 == 0o700
    assert (folder / "a" / "m-1.log").stat().st_mode & 0o777 == 0o600


def test_a_large_log_is_set_aside_over_whatever_has_that_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfile, "_LOG_BYTES", 100)
    path.write_bytes(bytes(101))
    victim = path.parent / "victim"
    victim.write_text("precious")
    (path.parent / "m-1.1.log").symlink_to(victim)
    LogFile(path).close()
    assert path.stat().st_size == 0
    assert not (path.parent / "m-1.1.log").is_symlink()
    assert (path.parent / "m-1.1.log").stat().st_size == 101
    assert victim.read_text() == "precious"


def test_a_large_log_that_cannot_be_set_aside_is_written_on_and_that_is_said(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logfile, "_LOG_BYTES", 100)
    path.write_bytes(bytes(101))
    (path.parent / "m-1.1.log").mkdir()
    log = LogFile(path)
    write(log, b"on\n")
    assert log.tail() == "on\n"
    log.close()
    assert path.stat().st_size == 104
    assert "could not be set aside" in caplog.text
