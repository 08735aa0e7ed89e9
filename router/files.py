"""Files that are written whole or not at all, and folders that are nobody else's. Knows no format."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from router.errors import ConfigError


@contextmanager
def replaced(path: Path, mode: int | None = None) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place once the block has ended well; else nothing is left of it, and what
    was there stays. `mode`: its permissions; None: those of any new file. Raises `OSError` where the disk refuses."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:32]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            os.fchmod(file.fileno(), _usual_mode() if mode is None else mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def check_own_folder(folder: Path, at: str) -> None:
    """Raises `ConfigError` if others could put a file, a link or a pipe in the place of one in it. `at`: the key of the
    config that names it. Raises `OSError` where it is not there."""
    status = folder.stat()
    if status.st_uid not in (os.getuid(), 0) or status.st_mode & 0o022:
        found = f"owner {status.st_uid}, mode {status.st_mode & 0o7777:04o}"
        why = f"others may write in it ({found}); expected one of our own (a folder that is missing is made)"
        raise ConfigError(f"{folder}: {why} - at `{at}`")


def _usual_mode() -> int:
    umask = os.umask(0)  # there is no other way to ask for it
    os.umask(umask)
    return 0o666 & ~umask
