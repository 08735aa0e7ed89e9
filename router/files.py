"""Files that are written whole or not at all. Knows no format."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


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


def _usual_mode() -> int:
    umask = os.umask(0)  # there is no other way to ask for it
    os.umask(umask)
    return 0o666 & ~umask
