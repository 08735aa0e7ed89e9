"""The private folder of one running router: its sockets (0600) and, unless configured otherwise, its engines' logs.

A router locks its folder while it runs. A folder without a lock holder was left by a router that was killed; the next
router removes it. The lock also keeps cleaners of temporary folders away.
"""

import contextlib
import fcntl
import logging
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path

from router.errors import ConfigError
from router.files import check_own_folder
from router.pool.mps_control import end_left_behind

log = logging.getLogger("headgate.pool")

#: A Unix socket's path holds 107 bytes; this much of it is our own file names.
_OWN_BYTES = 40
_MAX_PATH_BYTES = 107
_PREFIX = "headgate-"
_NAME = re.compile(_PREFIX + r"[a-z0-9_]{8}")  #: as `mkdtemp` makes them
#: In a folder that may be removed once nobody locks it. Made after the lock was taken: a folder without it is new, or
#: keeps logs that somebody is to read.
_MARK = "owner"
#: In it, the directories of the MPS control daemon.
MPS_FOLDER = "mps"
_OURS = frozenset({_MARK, MPS_FOLDER})


class RuntimeFolder:
    """`path` is 0700. `remove` keeps logs if asked to: they say why an engine died."""

    def __init__(self, configured: str, root: Path) -> None:
        self._lock = -1
        self._ours = True
        if configured:
            self.path = private_folder(Path(configured))
            self._made = False
        else:
            root = _short(root)
            remove_abandoned(root)
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
            self._made = True
            self._mark()
        if len(os.fsencode(self.path)) + _OWN_BYTES > _MAX_PATH_BYTES:
            raise ConfigError(f"{self.path}: too long for a Unix socket - at `$.supervision.runtime_dir`")

    @classmethod
    def adopt(cls, path: Path, *, made: bool, lock: int) -> "RuntimeFolder":
        """That of a running router, whose `lock` (-1: it has none) we hold too. It is not ours yet."""
        folder = cls.__new__(cls)
        folder.path, folder._made, folder._lock, folder._ours = path, made, lock, False
        return folder

    @property
    def lock(self) -> int:
        """Its descriptor, -1: there is none."""
        return self._lock

    @property
    def made(self) -> bool:
        """By a router, and removed at its end."""
        return self._made

    def own(self, ours: bool) -> None:
        """Whether it is ours to remove from now on, or another router's."""
        self._ours = ours
        if ours and self._lock >= 0:
            with contextlib.suppress(OSError):
                (self.path / _MARK).write_text(f"{os.getpid()}\n")

    def remove(self, *, keep_logs: bool = False) -> None:
        """Delete what was made here. A cleaner may have done so before."""
        if self._ours:
            self._remove(keep_logs)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _remove(self, keep_logs: bool) -> None:
        with contextlib.suppress(FileNotFoundError):
            for file in self.path.iterdir():
                if file.is_dir():
                    continue  # of the MPS control daemon, which removes it
                if file.suffix in (".sock", ".token") or (self._made and (not keep_logs or file.name == _MARK)):
                    file.unlink(missing_ok=True)
        if self._made:
            with contextlib.suppress(OSError):  # logs were kept
                self.path.rmdir()

    def _mark(self) -> None:
        with contextlib.suppress(OSError):  # a file system without locks: nobody removes it for us
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (self.path / _MARK).write_text(f"{os.getpid()}\n")


def folders(configured: str, root: Path) -> list[Path]:
    """Where a running router of this user may have its sockets, by its config's `runtime_dir`."""
    if configured:
        return [Path(configured).resolve()]
    found = []
    with contextlib.suppress(OSError):
        found = [entry for entry in _short(root).iterdir() if _NAME.fullmatch(entry.name)]
    return sorted(folder for folder in found if _is_private(folder))


def _is_private(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        status = folder.lstat()
        return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
    return False


def _short(root: Path) -> Path:
    """`root`, if a socket's path in it is short enough."""
    if len(os.fsencode(root)) + _OWN_BYTES + len("/headgate-12345678") > _MAX_PATH_BYTES:
        return Path("/tmp")
    return root


def remove_abandoned(root: Path) -> None:
    """Remove the folders in `root` that routers of this user made and that none of them holds any more."""
    with contextlib.suppress(OSError):
        for name in os.listdir(root):
            if _NAME.fullmatch(name):
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(root / name)


def _remove_if_abandoned(folder: Path) -> None:
    """Everything by the descriptor of the folder that was looked at: what its name stands for may change."""
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status, names = os.fstat(at), os.listdir(at)
        if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) != 0o700:
            return
        if _MARK not in names or any(
            name not in _OURS and not name.endswith((".sock", ".token", ".log")) for name in names
        ):
            return  # new, kept, or of somebody who puts other things there
        fcntl.flock(at, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises BlockingIOError while its router lives
        if MPS_FOLDER in names:
            end_left_behind(folder / MPS_FOLDER / "pipe")
            shutil.rmtree(MPS_FOLDER, dir_fd=at)
            names.remove(MPS_FOLDER)
        for name in names:
            os.unlink(name, dir_fd=at)
        folder.rmdir()
        log.info("%s was left behind by a router that was killed: removed", folder)
    finally:
        os.close(at)


def log_folder_of(configured: str) -> Path:
    """The folder for engine logs, made if missing. Raises `ConfigError`, also if others could write in it."""
    folder = Path(configured)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_log_folder(folder)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror} - at `$.supervision.log_dir`") from error
    return folder.resolve()


def check_log_folder(folder: Path) -> None:
    """Raises `ConfigError` if others could put something in the place of a log."""
    check_own_folder(folder, "$.supervision.log_dir")


def private_folder(folder: Path) -> Path:
    """`folder`, made if missing. Raises `ConfigError` if others could reach the sockets in it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror} - at `$.supervision.runtime_dir`") from error
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise ConfigError(f"{folder}: expected a folder of mode 0700 of our own - at `$.supervision.runtime_dir`")
    return folder.resolve()
