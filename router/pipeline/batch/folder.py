"""The folder of files and batches: 0700, everything in it 0600, reached by its descriptor, links refused.

    file-ID.json, file-ID.data                      a file: what is told of it, and its bytes
    batch_ID.json, batch_ID.output, batch_ID.errors   a batch, and its results until it is over
    upload-..., new-...                             not whole yet: removed at the next start
    lock                                            held by the process that uses the folder

Names come from ids that are checked (`objects`), never from clients. Blocking: for a thread, but `open_for_reading`.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from pathlib import Path

from router.errors import ConfigError
from router.observe.journal import check_folder

_AT = "$.batches.path"
_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
#: What `write` says where there is no room.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Folder:
    """Made where it is missing."""

    def __init__(self, path: Path) -> None:
        """Raises `ConfigError`."""
        self.path = path
        try:
            check_folder(path, _AT)
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._at = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror} - at `{_AT}`") from error
        self._lock = -1

    def take(self) -> bool:
        """Whether it is ours now: no other process has it. Raises `OSError`."""
        if self._lock >= 0:
            return True
        flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open("lock", flags, 0o600, dir_fd=self._at)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock
        return True

    def close(self) -> None:
        """Let go of it. Idempotent."""
        for descriptor in (self._lock, self._at):
            if descriptor >= 0:
                os.close(descriptor)
        self._lock = self._at = -1

    def names(self) -> list[str]:
        return os.listdir(self._at)

    def make(self, name: str) -> int:
        """The descriptor of a new file."""
        return os.open(name, _NEW, 0o600, dir_fd=self._at)

    def open_for_appending(self, name: str) -> int:
        """For reading too; made where it is missing."""
        flags = os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        return self._regular(os.open(name, flags, 0o600, dir_fd=self._at), name)

    def open_for_reading(self, name: str) -> int:
        """Raises `OSError`, also where it is a link or no file."""
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        return self._regular(os.open(name, flags, dir_fd=self._at), name)

    def read(self, name: str, most_bytes: int) -> bytes:
        with os.fdopen(self.open_for_reading(name), "rb") as file:
            return file.read(most_bytes)

    def size(self, name: str) -> int:
        """0 where it is missing."""
        try:
            return os.stat(name, dir_fd=self._at, follow_symlinks=False).st_size
        except FileNotFoundError:
            return 0

    def write(self, name: str, data: bytes) -> None:
        """Whole or not at all, and on the disk."""
        new = f"new-{secrets.token_hex(8)}"
        descriptor = self.make(new)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self.rename(new, name)
        except BaseException:
            self.remove(new)
            raise

    def rename(self, name: str, to: str) -> None:
        os.rename(name, to, src_dir_fd=self._at, dst_dir_fd=self._at)
        os.fsync(self._at)

    def remove(self, name: str) -> None:
        """Harmless where it is missing."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._at)

    def _regular(self, descriptor: int, name: str) -> int:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is no regular file", name)
        return descriptor


def write_all(descriptor: int, data: bytes) -> None:
    """Raises `OSError`; part of `data` may be written then."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
