"""The folder of a journal: whose it is, who writes in it now, its segments, and which of them are too many."""

import contextlib
import fcntl
import os
import re
import stat
import time
from pathlib import Path

from router.errors import ConfigError
from router.files import check_own_folder

NAME = re.compile(r"headgate-\d{8}T\d{6}-\d{6}\.jsonl")
_LOCK = "lock"
_AT = "$.journal.path"


def check_folder(folder: Path, at: str = _AT) -> None:
    """Raises `ConfigError` where nothing could be written in `folder`, which the config names `at`. Makes nothing."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise ConfigError(f"{folder}: expected a folder; {there} is none - at `{at}`")
    if there == folder:
        check_own_folder(folder, at)
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder}: {there} cannot be written in - at `{at}`")


class Folder:
    """Locked for one process: two would each remove the other's segments."""

    def __init__(self, path: Path, shared: int = -1) -> None:
        """`shared`: the lock of a process that is about to end, and writes in its own segment until then, or in another
        folder; ours to close. Raises `ConfigError`."""
        self.with_last = self.with_next = False  #: another process writes here: nothing is removed, as it may be its
        self._number = 0
        self._last: Path | None = None
        check_folder(path)
        self.path = path
        if shared >= 0:
            if _same_file(shared, path / _LOCK):
                self.lock, self.with_last = shared, True
                return
            os.close(shared)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.lock = os.open(path / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror} - at `{_AT}`") from error
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self.lock)
            why = "another process writes its journal here; expected a folder for each"
            raise ConfigError(f"{path}: {why} - at `{_AT}`") from error

    def close(self) -> None:
        os.close(self.lock)

    def new_segment(self) -> int:
        """The descriptor of a new segment, 0600. Raises `OSError`."""
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        while True:
            self._number += 1
            path = self.path / f"headgate-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{self._number:06d}.jsonl"
            try:
                segment = os.open(path, flags, 0o600)
            except FileExistsError:  # of a process before us, in this very second
                continue
            self._last = path
            return segment

    def drop_if_empty(self) -> None:
        """The last segment, where nothing was written to it."""
        with contextlib.suppress(OSError):
            if self._last is not None and not self._last.stat().st_size:
                self._last.unlink()

    def holds(self, segment: int) -> bool:
        """Whether `segment` still has a name: what is written to a removed file is lost."""
        return os.fstat(segment).st_nlink > 0

    def prune(self, keep_bytes: int, keep_s: float) -> None:
        """Remove the oldest segments until what is left is within both bounds; never the last. Raises `OSError`."""
        if self.with_last or self.with_next:
            return
        found = [(path, path.stat()) for path in segments(self.path)]
        total, oldest = sum(status.st_size for _, status in found), time.time() - keep_s
        for path, status in found[:-1]:
            if total <= keep_bytes and status.st_mtime >= oldest:
                return
            path.unlink(missing_ok=True)
            total -= status.st_size


def segments(path: Path) -> list[Path]:
    """Those of a folder, the oldest first."""
    return sorted(one for one in path.iterdir() if NAME.fullmatch(one.name) and _is_regular(one))


def _same_file(fd: int, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(fd), path.stat())
    return False


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:  # removed since it was listed: it was old
        return False
