"""Which lines of a batch have a result after a crash, by its two files of results.

What was written of a last line is cut off. A line within that cannot be read, or stands twice, is left out of the file,
which is written anew without it; those that follow it stay.
"""

import logging
import os
import secrets

import msgspec

from router.pipeline.batch.folder import Folder, write_all
from router.pipeline.batch.lines import UNREADABLE, Found, find
from router.pipeline.batch.objects import line_of
from router.pipeline.batch.pace import Pace
from router.pipeline.batch.results import WHERES, Done, Where

log = logging.getLogger("headgate.batches")

#: Longer lines are none of ours: an answer is bounded, and so is what stands around it.
_LONGEST = 1 << 30
_BLOCK_BYTES = 1 << 20
_MOST_SHOWN = 10


class _Id(msgspec.Struct):
    id: str


_decode_id = msgspec.json.Decoder(_Id).decode


def recover(folder: Folder, batch_id: str, most_lines: int, pace: Pace) -> Done:
    """Leave whole results alone in the files, and tell which lines are done. Raises `OSError`."""
    done = Done()
    for where in WHERES:
        name = f"{batch_id}.{where}"
        descriptor = folder.open_for_appending(name)
        try:
            file = _File(descriptor, done, where, most_lines)
            for found in find(descriptor, _LONGEST):
                pace.step()
                file.look_at(found)
            file.mend(folder, name, pace)
        finally:
            os.close(descriptor)
    return done


class _File:
    """One of the two, as it is read from its begin to its end."""

    def __init__(self, descriptor: int, done: Done, where: Where, most_lines: int) -> None:
        self._descriptor = descriptor
        self._done = done
        self._where: Where = where
        self._most_lines = most_lines
        self._size = os.fstat(descriptor).st_size
        self._kept: list[tuple[int, int]] = []  #: ranges of bytes; those side by side are one
        self._dropped = 0  #: lines
        self._shown: list[int] = []  #: the numbers of the first of them
        self._torn = False

    def look_at(self, found: Found) -> None:
        line = _line(found.data)
        if found.end == self._size and os.pread(self._descriptor, 1, self._size - 1) != b"\n":
            self._torn = True
        elif line is None or line > self._most_lines or line in self._done:
            self._dropped += 1
            if len(self._shown) < _MOST_SHOWN:
                self._shown.append(found.number)
        else:
            self._done.add(line, self._where)
            if self._where == "output" and found.data is not None:
                self._done.tokens.add(found.data)
            self._keep(found.start, found.end)

    def mend(self, folder: Folder, name: str, pace: Pace) -> None:
        whole = self._kept[-1][1] if self._kept else 0
        if self._torn and not self._dropped:
            log.warning("%s: the last result was torn by a crash, and is cut off", name)
        if self._dropped:
            shown = ", ".join(map(str, self._shown)) + (", ..." if self._dropped > _MOST_SHOWN else "")
            log.warning(
                "%s: %d lines of results cannot be read, or stand twice, and are left out (line %s); requests that have"
                " no other result are run again",
                name, self._dropped, shown,
            )  # fmt: skip
        if len(self._kept) > 1 or (self._kept and self._kept[0][0]):
            self._write_anew(folder, name, pace)
        elif whole != self._size:
            os.ftruncate(self._descriptor, whole)
            os.fsync(self._descriptor)

    def _keep(self, start: int, end: int) -> None:
        if self._kept and self._kept[-1][1] == start:
            start, _ = self._kept.pop()
        self._kept.append((start, end))

    def _write_anew(self, folder: Folder, name: str, pace: Pace) -> None:
        """At every moment the file is the old one or the new one."""
        new = f"new-{secrets.token_hex(8)}"
        descriptor = folder.make(new)
        try:
            try:
                for start, end in self._kept:
                    for at in range(start, end, _BLOCK_BYTES):
                        pace.step()
                        write_all(descriptor, os.pread(self._descriptor, min(_BLOCK_BYTES, end - at), at))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            folder.rename(new, name)
        except BaseException:
            folder.remove(new)
            raise


def _line(data: bytes | None) -> int | None:
    try:
        return None if data is None else line_of(_decode_id(data).id.encode())
    except UNREADABLE:
        return None
