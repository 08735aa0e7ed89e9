"""Files that are written whole or not at all, and refused before the work whose result they are."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from router.errors import ConfigError

PICTURES = (".png", ".svg", ".pdf")


def check(flag: str, path: Path, inputs: Iterable[Path] = ()) -> None:
    """Raises ConfigError where the path cannot be written, or is one of the files that are read."""
    if path.is_dir():
        raise ConfigError(f"{flag}: expected the name of a file, got the folder {path}")
    if not path.parent.is_dir():
        raise ConfigError(f"{flag}: expected a file in an existing folder, got {path}")
    if path.exists() and not path.is_file():
        raise ConfigError(f"{flag}: expected the name of a plain file, got {path}")
    for one in inputs:
        if path.exists() and one.exists() and path.samefile(one):
            raise ConfigError(f"{flag}: expected another file than those that are read, got {path}")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _unwritable(flag, path, error) from error


def check_picture(flag: str, path: Path, inputs: Iterable[Path] = ()) -> None:
    """The same, of a picture."""
    if path.suffix not in PICTURES:
        raise ConfigError(f"{flag}: expected a name in {', '.join(PICTURES)}, got {path.name!r}")
    check(flag, path, inputs)


@contextmanager
def replaced(flag: str, path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place once the block has ended well; else nothing is left of it, and what
    was there stays. Raises ConfigError where the disk refuses."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
    except OSError as error:
        raise _unwritable(flag, path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            umask = os.umask(0)
            os.umask(umask)
            os.fchmod(file.fileno(), 0o666 & ~umask)
        os.replace(name, path)
    except OSError as error:
        os.unlink(name)
        raise _unwritable(flag, path, error) from error
    except BaseException:
        os.unlink(name)
        raise


def _unwritable(flag: str, path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{flag}: {path}: cannot be written: {error.strerror or error}")
