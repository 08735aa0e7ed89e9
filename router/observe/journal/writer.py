"""The thread that writes lines to segments. Whoever hands lines over never waits: beyond the queue's bound, and while
the disk refuses, they are dropped and counted.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

import msgspec

from router.config import Journal as Settings
from router.observe.journal.folder import Folder

log = logging.getLogger("headgate.journal")

_MOST_AT_ONCE_BYTES = 1 << 20
_LOOK_S = 1.0  #: how often it is made sure that the segment has not been removed

Written = Callable[[bool], None]


class Counts(msgspec.Struct):
    """Since the start. Each is written by one thread only."""

    queued_bytes: int = 0  #: handed over in all
    taken_bytes: int = 0  #: of them written or dropped
    written: int = 0  #: lines
    refused: int = 0  #: lines dropped because the queue was full
    failed: int = 0  #: lines dropped because the disk refused them
    late: int = 0  #: answers that did not wait any longer for their line

    @property
    def dropped(self) -> int:
        return self.refused + self.failed


class _Item(msgspec.Struct, frozen=True):
    data: bytes  #: whole lines
    lines: int
    written: Written | None = None  #: called on the writer's thread


class Writer:
    """One folder's writer. `put` and `close` are called from one thread."""

    def __init__(self, settings: Settings, folder: Folder, counts: Counts) -> None:
        self._settings = settings
        self._folder = folder
        self._counts = counts
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._segment = -1
        self._begun_s = self._looked_s = self._synced_s = 0.0
        self._size = 0
        self._torn = False
        self._fault = ""
        self._thread = threading.Thread(target=self._run, name="headgate-journal", daemon=True)
        self._thread.start()

    def put(self, data: bytes, lines: int, written: Written | None = None) -> bool:
        """Hand whole lines over; False where they were dropped. `written` is called, with whether they are in the file,
        once nothing more will happen to them."""
        counts = self._counts
        if counts.queued_bytes - counts.taken_bytes + len(data) > self._settings.queue_bytes and data:
            counts.refused += lines
            return False
        counts.queued_bytes += len(data)
        self._queue.put(_Item(data, lines, written))
        return True

    def close(self, within_s: float) -> bool:
        """Write what was handed over and end; False where the disk is too slow for that."""
        self._queue.put(None)
        self._thread.join(within_s)
        return not self._thread.is_alive()

    # On its own thread

    def _run(self) -> None:
        going = True
        while going:
            items, going = self._next()
            self._write_all(items)
        self._end_segment()

    def _next(self) -> tuple[list[_Item], bool]:
        """What waits, up to a bound; waits for the first."""
        items: list[_Item] = []
        size = 0
        try:
            item = self._queue.get()
            while item is not None:
                items.append(item)
                size += len(item.data)
                if size > _MOST_AT_ONCE_BYTES:
                    return items, True
                item = self._queue.get_nowait()
        except Empty:
            return items, True
        return items, False

    def _write_all(self, items: list[_Item]) -> None:
        data = b"".join([item.data for item in items])
        lines = sum(item.lines for item in items)
        done = self._write(data) if data else 0
        whole = lines if done == len(data) else data.count(b"\n", 0, done)
        counts = self._counts
        counts.written += whole
        counts.failed += lines - whole
        counts.taken_bytes += len(data)
        self._sync()  # before anybody is told
        at = 0
        for item in items:
            at += len(item.data)
            if item.written is not None:
                item.written(at <= done)

    def _write(self, data: bytes) -> int:
        """How many of the bytes are in a segment."""
        done = 0
        try:
            segment = self._current()
            if self._torn:  # what broke off is a line by itself, which readers pass over
                self._torn = os.write(segment, b"\n") != 1
            while done < len(data):
                done += os.write(segment, data[done:] if done else data)
        except OSError as error:
            self._torn = self._torn or (done > 0 and data[done - 1] != 0x0A)
            self._tell(error.strerror or str(error))
        except Exception as error:  # a bug of ours: the thread goes on, and the records count as dropped
            self._tell(f"internal error: {type(error).__name__}: {error}")
        else:
            self._tell("")
        self._size += done
        return done

    def _current(self) -> int:
        """The segment to write to: a new one where there is none, it is full or old, or somebody has removed it."""
        now = time.monotonic()
        settings = self._settings
        if self._segment >= 0 and now - self._looked_s >= _LOOK_S:
            self._looked_s = now
            if not self._folder.holds(self._segment):
                self._end_segment()
        if self._segment >= 0 and self._size < settings.segment_bytes and now - self._begun_s < settings.segment_s:
            return self._segment
        fresh = self._folder.new_segment()
        self._end_segment()
        self._segment, self._size, self._begun_s, self._looked_s, self._torn = fresh, 0, now, now, False
        try:
            self._folder.prune(settings.keep_bytes, settings.keep_s)
        except OSError as error:
            log.warning("%s: old segments cannot be removed: %s", self._folder.path, error.strerror)
        return fresh

    def _sync(self) -> None:
        every_s, now = self._settings.fsync_s, time.monotonic()
        if every_s is None or self._segment < 0 or now - self._synced_s < every_s:
            return
        try:
            os.fdatasync(self._segment)
        except OSError as error:
            self._tell(error.strerror or str(error))
        self._synced_s = now

    def _end_segment(self) -> None:
        segment, self._segment = self._segment, -1
        if segment < 0:
            return
        try:
            if self._settings.fsync_s is not None:
                os.fdatasync(segment)
            os.close(segment)
        except OSError as error:
            self._tell(error.strerror or str(error))

    def _tell(self, fault: str) -> None:
        """Once per change."""
        if fault == self._fault:
            return
        self._fault = fault
        path = self._folder.path
        if fault:
            log.error("%s: the journal cannot be written: %s; requests go on, their records are dropped", path, fault)
        else:
            log.warning("%s: the journal is written again; %d records were dropped", path, self._counts.failed)
