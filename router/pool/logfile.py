"""One engine's log file: opened without following links, read while the host runs and after it ended.

It is read through the descriptor that the host writes to, because the file may have been removed or replaced since.
Knows no process.
"""

import contextlib
import logging
import os
import stat
from pathlib import Path
from typing import Final

from router.errors import ConfigError
from router.pool.folder import check_log_folder

log = logging.getLogger("headgate.pool")

_TAIL_BYTES = 64 * 1024
_LOG_BYTES = 16 * 1024 * 1024  #: a log above this is set aside when its engine starts again
#: No link is followed, and a pipe without a reader does not block.
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LogFile:
    """Open for as long as its host lives; then `close`, which keeps the tail."""

    def __init__(self, path: Path) -> None:
        """Opens `path` to append to; its folder is made if missing, one that has grown large is set aside. Raises
        `OSError`, also on what is no file of ours."""
        _make_folder(path.parent)
        self.fd, self.start, self._tail = _open(path), 0, ""  #: `start`: in bytes, where the host's own words begin
        self._read_to = 0
        try:
            self.start = self._read_to = os.fstat(self.fd).st_size
            if self.start > _LOG_BYTES and _set_aside(path):
                os.close(self.fd)
                self.fd = -1
                self.fd = _open(path)
                self.start = self._read_to = os.fstat(self.fd).st_size
        except BaseException:
            self.close()
            raise

    @classmethod
    def adopt(cls, fd: int, start: int) -> "LogFile":
        """One that another process opened, ours to close. `start`: where its host's own words begin, in bytes."""
        file = cls.__new__(cls)
        file.fd, file.start, file._tail = fd, start, ""
        file._read_to = os.fstat(fd).st_size
        return file

    def tail(self) -> str:
        """The end of what was written since the file was opened."""
        if self.fd < 0:
            return self._tail
        with contextlib.suppress(OSError):
            size = os.fstat(self.fd).st_size
            start = self.start if self.start <= size else 0  # else it was cut
            at = max(start, size - _TAIL_BYTES)
            return os.pread(self.fd, size - at, at).decode("utf-8", "replace")
        return ""

    def news(self) -> str:
        """What was written since the last call; of more than 64 KiB the end."""
        if self.fd < 0:
            return ""
        with contextlib.suppress(OSError):
            size = os.fstat(self.fd).st_size
            at = max(self._read_to if self._read_to <= size else 0, size - _TAIL_BYTES)
            self._read_to = size
            return os.pread(self.fd, size - at, at).decode("utf-8", "replace")
        return ""

    def close(self) -> None:
        """Idempotent."""
        if self.fd >= 0:
            self._tail = self.tail()
            fd, self.fd = self.fd, -1
            os.close(fd)


def _make_folder(folder: Path) -> None:
    """A cleaner may have removed it. Raises `OSError` on one that others may write."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        check_log_folder(folder)
    except ConfigError as error:
        raise PermissionError(str(error)) from error


def _open(path: Path) -> int:
    fd = os.open(path, _FLAGS, 0o600)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or status.st_nlink > 1:
        os.close(fd)
        raise PermissionError(f"{path}: expected a regular file of our own, with one name")
    os.set_blocking(fd, True)
    return fd


def _set_aside(path: Path) -> bool:
    try:
        path.replace(path.with_suffix(".1.log"))
    except OSError as error:
        log.warning("%s: a log of more than %d MB could not be set aside: %s", path, _LOG_BYTES >> 20, error)
        return False
    return True
