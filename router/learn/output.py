"""Files that are written whole or not at all, and refused before the work whose result they are."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from router import files
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
    """`files.replaced` for the path of a flag. Raises ConfigError where the disk refuses."""
    try:
        with files.replaced(path) as file:
            yield file
    except OSError as error:
        raise _unwritable(flag, path, error) from error


def written(flag: str, folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Each of `files`, by name, whole into the folder of a flag, which is made where it is missing. Raises ConfigError
    where the disk refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(flag, folder, error) from error
    for name, content in files.items():
        with replaced(flag, folder / name) as file:
            file.write(content)
    return [folder / name for name in files]


def _unwritable(flag: str, path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{flag}: {path}: cannot be written: {error.strerror or error}")
