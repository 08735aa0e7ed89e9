"""The private folder of one running router: its sockets (0600) and, unless told otherwise, its engines' logs."""

import contextlib
import os
import tempfile
from pathlib import Path

from router.errors import ConfigError

#: A Unix socket's path holds 107 bytes; this much of it is our own file names.
_OWN_BYTES = 40
_MAX_PATH_BYTES = 107


class RuntimeFolder:
    """`path` is 0700. `remove` keeps logs if asked to: they say why an engine died."""

    def __init__(self, configured: str, root: Path) -> None:
        if configured:
            self.path = _private(Path(configured))
            self._made = False
        else:
            if len(os.fsencode(root)) + _OWN_BYTES + len("/headgate-12345678") > _MAX_PATH_BYTES:
                root = Path("/tmp")
            self.path = Path(tempfile.mkdtemp(prefix="headgate-", dir=root))
            self._made = True
        if len(os.fsencode(self.path)) + _OWN_BYTES > _MAX_PATH_BYTES:
            raise ConfigError(f"{self.path}: too long for a Unix socket - at `$.supervision.runtime_dir`")

    def remove(self, *, keep_logs: bool = False) -> None:
        """Delete what was made here."""
        for file in self.path.iterdir():
            if file.suffix == ".sock" or (self._made and not keep_logs):
                file.unlink(missing_ok=True)
        if self._made:
            with contextlib.suppress(OSError):  # logs were kept
                self.path.rmdir()


def log_folder_of(configured: str) -> Path:
    """The folder for engine logs, made if missing. Raises `ConfigError`."""
    folder = Path(configured)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror} - at `$.supervision.log_dir`") from error
    return folder.resolve()


def _private(folder: Path) -> Path:
    """`folder`, made if missing. Raises `ConfigError` if others could reach the sockets in it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror} - at `$.supervision.runtime_dir`") from error
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise ConfigError(f"{folder}: expected a folder of mode 0700 of our own - at `$.supervision.runtime_dir`")
    return folder.resolve()
