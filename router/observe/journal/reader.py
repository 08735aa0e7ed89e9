"""Lines of a journal, of a folder or one segment, the oldest first. What is not whole is passed over, counted, logged.

A last line without its end was being written as its process was killed; one in the middle, as the disk was full.
"""

import io
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from router.errors import ConfigError
from router.observe.journal.folder import segments
from router.observe.journal.lines import Line, Unknown, migrate
from router.observe.record import SCHEMA_VERSION, Record

log = logging.getLogger("headgate.journal")

_MOST_LINE_BYTES = 64 << 20
_decode = msgspec.json.Decoder(Line).decode
_decode_any = msgspec.json.Decoder(dict).decode


class Reader:
    """Iterate once. `torn`: lines that are not whole; `unknown`: whole ones of another kind or a later version."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.torn = 0
        self.unknown = 0
        self.read_bytes = 0  #: so far

    def total_bytes(self) -> int:
        """Of all its files, as they are now. Raises `ConfigError`."""
        try:
            return sum(_size(path) for path in self._files())
        except OSError as error:
            raise ConfigError(f"{self._path}: cannot be read: {error.strerror}") from error

    def __iter__(self) -> Iterator[Line]:
        for path in self._files():
            with self._opened(path) as file:
                yield from self._lines(path, file, last=True)

    def follow(self, pause_s: float = 0.2) -> Iterator[Line | None]:
        """As they are written, for ever; None: nothing new for now."""
        at: dict[Path, int] = {}
        while True:
            files, found = self._files(), False
            for i, path in enumerate(files):
                with self._opened(path) as file:
                    file.seek(at.get(path, 0))
                    for line in self._lines(path, file, last=i + 1 < len(files) and path not in at):
                        found = True
                        yield line
                    at[path] = file.tell()
            if not found:
                yield None
                time.sleep(pause_s)

    def _files(self) -> list[Path]:
        try:
            return segments(self._path) if self._path.is_dir() else [self._path]
        except OSError as error:
            raise ConfigError(f"{self._path}: cannot be read: {error.strerror}") from error

    def _opened(self, path: Path) -> BinaryIO:
        """Nothing where a segment was removed, as too old, since it was listed."""
        try:
            return path.open("rb")
        except FileNotFoundError as error:
            if path != self._path:
                return io.BytesIO()
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error

    def _lines(self, path: Path, file: BinaryIO, *, last: bool) -> Iterator[Line]:
        """`last`: nothing more will be written after a line without its end; else it is left for the next time."""
        while data := file.readline(_MOST_LINE_BYTES):
            if not data.endswith(b"\n"):
                if not last and len(data) < _MOST_LINE_BYTES:
                    file.seek(-len(data), 1)
                    return
                self._pass_over(path, "its end is missing")
                continue
            self.read_bytes += len(data)
            line = self._line(path, data)
            if line is not None:
                yield line

    def _line(self, path: Path, data: bytes) -> Line | None:
        try:
            line: Line = _decode(data)
            if not isinstance(line, Record) or line.version == SCHEMA_VERSION:
                return line
        except msgspec.DecodeError:
            pass
        try:
            return migrate(_decode_any(data)) if data.strip() else None
        except Unknown as error:
            self.unknown += 1
            log.warning("%s: a line is passed over: %s", path, error)
        except (msgspec.DecodeError, RecursionError) as error:
            self._pass_over(path, str(error))
        return None

    def _pass_over(self, path: Path, why: str) -> None:
        self.torn += 1
        log.warning("%s: a line that is not whole is passed over: %s", path, why)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # removed since it was listed
        return 0
