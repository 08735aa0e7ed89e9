"""The results of a batch's lines, as they are appended to its two files: one line each, in one of the two.

A line's result is its own write-ahead record: what stands in neither file has not been answered. After a crash
`recovery` tells which lines are done.
"""

import os
import time
from collections.abc import Callable
from typing import Literal

import msgspec

from router.pipeline.batch.folder import FULL, Folder, write_all
from router.pipeline.batch.objects import result_id
from router.pipeline.batch.usage import Tokens
from router.pipeline.threads import Threads

#: The file that a result goes to: answers with status 200, and all others.
Where = Literal["output", "errors"]
WHERES: tuple[Where, ...] = ("output", "errors")


class Response(msgspec.Struct, frozen=True):
    status_code: int
    request_id: str
    body: msgspec.Raw


class Failed(msgspec.Struct, frozen=True):
    """Why a line has no response."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the output, or of the errors."""

    id: str
    custom_id: str | None
    response: Response | None = None
    error: Failed | None = None


encode = msgspec.json.Encoder().encode


def failed(batch_id: str, line: int, custom_id: str | None, why: Failed) -> bytes:
    """The result of a line without a response."""
    return encode(Result(id=result_id(batch_id, line), custom_id=custom_id, error=why)) + b"\n"


class Done:
    """Which lines have a result, a bit each; and the tokens of their answers."""

    def __init__(self) -> None:
        self._bits = bytearray()
        self.counts = dict.fromkeys(WHERES, 0)
        self.tokens = Tokens()

    def __contains__(self, line: int) -> bool:
        at = line >> 3
        return at < len(self._bits) and bool(self._bits[at] >> (line & 7) & 1)

    def add(self, line: int, where: Where) -> None:
        at = line >> 3
        if at >= len(self._bits):
            self._bits.extend(bytes(max(at + 1 - len(self._bits), 4096)))
        self._bits[at] |= 1 << (line & 7)
        self.counts[where] += 1


class Appender:
    """Appends to the two files of one batch. Blocking: used in one thread at a time."""

    def __init__(self, folder: Folder, batch_id: str, fsync_s: float) -> None:
        """Raises `OSError`."""
        self._fsync_s = fsync_s
        self._synced_s = time.monotonic()
        self._files: dict[Where, int] = {}
        try:
            for where in WHERES:
                self._files[where] = folder.open_for_appending(f"{batch_id}.{where}")
            self._sizes = {where: os.fstat(file).st_size for where, file in self._files.items()}
        except BaseException:
            self.close()
            raise

    def append(self, where: Where, lines: bytes) -> None:
        """Whole lines, all or none of them. Raises `OSError`."""
        file = self._files[where]
        try:
            write_all(file, lines)
        except OSError:
            os.ftruncate(file, self._sizes[where])
            raise
        self._sizes[where] += len(lines)
        if time.monotonic() - self._synced_s >= self._fsync_s:
            self.sync()

    def truncate(self) -> None:
        for where, file in self._files.items():
            os.ftruncate(file, 0)
            self._sizes[where] = 0

    def sync(self) -> None:
        for file in self._files.values():
            os.fdatasync(file)
        self._synced_s = time.monotonic()

    def close(self) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()


class Results:
    """Results on their way to the disk: written by a thread, in the order in which they came. Called from the event
    loop's thread."""

    def __init__(
        self,
        appender: Appender,
        threads: Threads,
        written: Callable[[Where, int, int], None],
        broken: Callable[[OSError], None],
    ) -> None:
        """`written` is told of what the files have now: how many lines, how many bytes. `broken`: nothing more can be
        written."""
        self._appender = appender
        self._threads = threads
        self._written = written
        self._broken = broken
        self._waiting: list[tuple[Where, bytes]] = []
        self._writing = False
        self.unwritten_bytes = 0
        self.failed = False

    @property
    def settled(self) -> bool:
        """All that was added is written, or cannot be."""
        return not self._writing and not self._waiting

    def add(self, where: Where, line: bytes) -> None:
        if self.failed:
            return
        self._waiting.append((where, line))
        self.unwritten_bytes += len(line)
        if not self._writing:
            self._write()

    def close(self) -> None:
        """Once it is settled. What the disk has not yet is left to the system."""
        self._appender.close()

    def _write(self) -> None:
        self._writing = True
        work, self._waiting = self._waiting, []
        future = self._threads.run(self._append, work)
        future.add_done_callback(lambda done: self._told(work, done.exception()))

    def _append(self, work: list[tuple[Where, bytes]]) -> None:
        for where in WHERES:
            if lines := [line for place, line in work if place == where]:
                self._appender.append(where, b"".join(lines))

    def _told(self, work: list[tuple[Where, bytes]], error: BaseException | None) -> None:
        self._writing = False
        self.unwritten_bytes -= sum(len(line) for _, line in work)
        if error is not None:
            self._fail(error if isinstance(error, OSError) else OSError(str(error)))
            return
        for where in WHERES:
            if lines := [line for place, line in work if place == where]:
                self._written(where, len(lines), sum(map(len, lines)))
        if self._waiting:
            self._write()

    def _fail(self, error: OSError) -> None:
        self.failed, self._waiting, self.unwritten_bytes = True, [], 0
        self._broken(error)


def why_not_written(error: OSError) -> str:
    if not error.errno:
        return error.strerror or str(error)
    return "the disk is full" if error.errno in FULL else f"the disk refuses: {error.strerror or error}"
