"""The writer of a journal's segments. Whoever hands lines over does not wait for a slow disk: beyond the queue's bound,
and while the disk refuses, they are dropped and counted.

    put --> Appender (a native thread: write) --> segment
                            ^
    keeper (a thread): opens and ends segments, syncs them, removes old ones, says what is wrong
"""

import errno
import logging
import os
import threading
import time
from collections.abc import Callable

from router.config import Journal as JournalSettings
from router.errors import ConfigError
from router.observe.appender import Appender
from router.observe.journal.folder import Folder

log = logging.getLogger("headgate.journal")

_LOOK_S = 1.0  #: how often it is made sure that the segment has not been removed
#: A tick waits so long until its lines are in the file. A disk that is slower is waited for a few times, and then once
#: in a while, so that it costs other requests two hundredths of their time.
SETTLE_S = 0.02
SETTLE_PAUSE_S = 1.0

Written = Callable[[bool], None]


class Counts:
    """Since the start."""

    def __init__(self, appender: Appender) -> None:
        self._appender = appender
        self.refused = 0  #: lines dropped because the queue was full
        self.late = 0  #: answers that did not wait any longer for their line

    @property
    def queued_bytes(self) -> int:
        """Handed over in all."""
        return self._appender.counts()[0]

    @property
    def taken_bytes(self) -> int:
        """Of them written or dropped."""
        return self._appender.counts()[1]

    @property
    def written(self) -> int:
        """Lines."""
        return self._appender.counts()[2]

    @property
    def failed(self) -> int:
        """Lines dropped because the disk refused them."""
        return self._appender.counts()[3]

    @property
    def dropped(self) -> int:
        return self.refused + self.failed


class Writer:
    """One folder's writer. `put` and `close` are called from one thread."""

    def __init__(self, settings: JournalSettings, folder: Folder) -> None:
        """Raises `ConfigError` where no segment can be begun."""
        self._settings = settings
        self._folder = folder
        self._appender = Appender(settings.segment_bytes, synced_first=settings.fsync_s == 0)
        self.counts = Counts(self._appender)
        self._fault = ""
        self._failed = 0  # lines, by then
        self._failed_s = 0.0  #: when no segment could be begun
        self._segment = -1
        self._begun_s = self._looked_s = self._synced_s = time.monotonic()
        self._synced = 0  #: the last block
        try:
            self._begin_segment()
        except OSError as error:
            raise ConfigError(f"{folder.path}: {error.strerror} - at `$.journal.path`") from error
        self._keeper = threading.Thread(target=self._run, name="headgate-journal", daemon=True)
        self._keeper.start()

    def fileno(self) -> int:
        """Readable while `done` has something to tell."""
        return self._appender.fileno()

    def put(self, data: bytes, lines: int, *, told: bool = False) -> int:
        """Hand whole lines over. The block's number, of which `done` will tell with `told`; 0: they were dropped."""
        queued, taken, *_ = self._appender.counts()
        if queued - taken + len(data) > self._settings.queue_bytes and data:
            self.counts.refused += lines
            return 0
        return self._appender.put(data, lines, told=told)

    def settle(self, most_s: float | None = None) -> bool:
        """Whether all that was handed over is in the file or dropped. Waits for that, unless the disk is slow."""
        return self._appender.settle(SETTLE_S if most_s is None else most_s, SETTLE_PAUSE_S)

    def done(self) -> list[tuple[int, bool]]:
        """Blocks put with `told`, once each: whether they are in the file; with `fsync_s: 0` on the disk."""
        return self._appender.done()

    def close(self, within_s: float) -> bool:
        """Write what was handed over and end; False where the disk is too slow for that."""
        end_s = time.monotonic() + within_s
        self._appender.end()
        drained = self._appender.drained(within_s)
        self._keeper.join(max(end_s - time.monotonic(), 0.0))
        return drained

    # On the keeper's thread

    def _run(self) -> None:
        ended = False
        while not ended:
            size, taken, error, failure, ended = self._appender.attend(self._pause_s())
            try:
                self._sync(taken)
                opened = self._look(size)
                self._tell(opened, error, failure)
            except Exception:  # a bug of ours: the thread goes on
                log.exception("%s: internal error of the journal", self._folder.path)
        self._close_segment(self._appender.refuse(errno.EBADF))
        self._folder.drop_if_empty()

    def _pause_s(self) -> float:
        every_s = self._settings.fsync_s
        return _LOOK_S if not every_s else min(_LOOK_S, every_s)

    def _look(self, size: int) -> str:
        """Begin a new segment where there is none, it is full or old, or somebody has removed it. Why one that is
        needed could not be begun."""
        now, settings = time.monotonic(), self._settings
        missing = self._segment < 0
        if not missing and now - self._looked_s >= _LOOK_S:
            self._looked_s = now
            missing = not self._folder.holds(self._segment)
        over = size >= settings.segment_bytes or (size > 0 and now - self._begun_s >= settings.segment_s)
        if not (missing or over) or now - self._failed_s < _LOOK_S:
            return self._fault if self._segment < 0 else ""
        try:
            self._begin_segment()
        except OSError as error:
            self._failed_s = now
            if not missing:
                return ""  # the one before still serves
            self._close_segment(self._appender.refuse(error.errno or errno.EIO))
            self._segment = -1
            return error.strerror or str(error)
        return ""

    def _begin_segment(self) -> None:
        fresh = self._folder.new_segment()
        before = self._appender.use(fresh)
        self._segment, self._begun_s, self._failed_s = fresh, time.monotonic(), 0.0
        self._looked_s = self._begun_s
        self._close_segment(before)
        try:
            self._folder.prune(self._settings.keep_bytes, self._settings.keep_s)
        except OSError as error:
            log.warning("%s: old segments cannot be removed: %s", self._folder.path, error.strerror)

    def _close_segment(self, segment: int) -> None:
        if segment < 0:
            return
        try:
            if self._settings.fsync_s is not None:
                os.fdatasync(segment)
            os.close(segment)
        except OSError as error:
            log.warning("%s: a segment could not be closed in order: %s", self._folder.path, error.strerror)

    def _sync(self, taken: int) -> None:
        every_s, now = self._settings.fsync_s, time.monotonic()
        if every_s is None or taken == self._synced or now - self._synced_s < every_s:
            return
        well = True
        try:
            if self._segment >= 0:
                os.fdatasync(self._segment)
        except OSError as error:
            well = False
            log.error("%s: the disk does not take what was written: %s", self._folder.path, error.strerror)
        self._synced, self._synced_s = taken, now
        self._appender.synced(taken, well)

    def _tell(self, opening: str, error: int, failure: int) -> None:
        """Once per change: `opening`, or the numbers of the last write's error and of the last one that there was."""
        failed = self.counts.failed
        unseen, self._failed = failed > self._failed, failed
        if opening or error or unseen:
            self._say(opening or os.strerror(error or failure))
        if not opening and not error:
            self._say("")

    def _say(self, fault: str) -> None:
        if fault == self._fault:
            return
        before, self._fault = self._fault, fault
        path = self._folder.path
        if fault:
            log.error("%s: the journal cannot be written: %s; requests go on, their records are dropped", path, fault)
        elif before:
            log.warning("%s: the journal is written again; %d records were dropped", path, self.counts.failed)
