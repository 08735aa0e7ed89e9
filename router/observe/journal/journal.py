"""The ledger's subscriber that keeps its records: encodes each tick's, hands them to the writer, and, where the config
asks for it, holds the last byte of an answer until its record is in the file.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from router.config import Journal as JournalSettings
from router.observe.journal.folder import Folder
from router.observe.journal.writer import SETTLE_PAUSE_S, Writer
from router.observe.ledger import Ledger, release
from router.observe.record import Record
from router.observe.tick import Tick

log = logging.getLogger("headgate.journal")

#: An answer waits no longer than this for its record: a disk that hangs must not hold clients for ever.
LONGEST_WAIT_S = 5.0
_CLOSE_S = 5.0
#: With `sync: record` what one read from an engine brings waits so long for its records, for all clients. Where that
#: was in vain, ends wait each by itself for a while.
_LEAVE_S = 0.25
#: Blocks of which somebody waits to be told, each some hundred bytes beside its data; a disk that hangs leaves no more.
MOST_TOLD = 4096

Act = Callable[[], None]


class Ends(Protocol):
    """Of the requests that end natively."""

    keeps_pace: bool  #: they may, for `Journal.pace`'s call comes before their last bytes leave


class Journal:
    """Called from the event loop's thread, which is running. Writes until `close`."""

    def __init__(self, settings: JournalSettings, ledger: Ledger, lock: int = -1) -> None:
        """`lock`: that of a process from which we take over (`Folder`). Raises `ConfigError` where the folder cannot be
        written, or another process writes there."""
        self._folder = Folder(Path(settings.path), lock)
        self._writer = Writer(settings, self._folder)
        self.counts = self._writer.counts
        self._encode = msgspec.json.Encoder().encode_lines
        self._loop = asyncio.get_running_loop()
        self._told: dict[int, Callable[[bool], None]] = {}  # whom to tell of a block
        self._loop.add_reader(self._writer.fileno(), self._tell)
        self._waiting: set[_Held] = set()
        self._on_disk = settings.fsync_s == 0
        self._ends: Ends | None = None
        self._leaving = False  #: bytes are about to leave whose records are being told
        self._resuming: asyncio.TimerHandle | None = None
        self._ledger = ledger
        self._end = ledger.subscribe(self._records)
        if settings.sync == "record":
            ledger.keeper = self._keep

    def put(self, line: msgspec.Struct, written: Callable[[bool], None] | None = None) -> None:
        """A line that is no record. `written` is called from the event loop: whether the line is in the file."""
        if written is not None and len(self._told) >= MOST_TOLD // 2:  # the other half is for the ends of answers
            self.counts.refused += 1
            self._loop.call_soon(written, False)
        else:
            self._put(self._encode([line]), 1, written)

    def pace(self, ends: Ends) -> Act | None:
        """With `sync: record`: to be called before what native code has gathered leaves: what has ended is written down
        first. As long as the disk is fast `ends` are told that they may rely on it. None: they may not."""
        if self._ledger.keeper is None or self._on_disk:
            return None
        self._ends, ends.keeps_pace = ends, True
        return self._before_leaving

    @property
    def path(self) -> Path:
        """Its folder."""
        return self._folder.path

    @property
    def lock(self) -> int:
        """The descriptor by which the folder is ours: whoever has it too may write there."""
        return self._folder.lock

    def share(self) -> None:
        """Another process writes in the folder from now on."""
        self._folder.with_next = True

    def alone(self) -> None:
        """The process whose lock we were given has ended."""
        self._folder.with_last = False

    async def close(self) -> None:
        """Write what the ledger has told so far. What a disk cannot take in time is lost, and said so."""
        if self._ends is not None:
            self._ends.keeps_pace = False
        if self._resuming is not None:
            self._resuming.cancel()
        self._end()
        self._ledger.keeper = None
        if not await asyncio.to_thread(self._writer.close, _CLOSE_S):
            left = self.counts.queued_bytes - self.counts.taken_bytes
            log.error("%s: the disk did not take the last %d bytes within %g s", self._folder.path, left, _CLOSE_S)
        self._loop.remove_reader(self._writer.fileno())
        self._tell()
        for held in tuple(self._waiting):
            held.release()
        self._folder.close()

    def _put(self, data: bytes, lines: int, written: Callable[[bool], None] | None = None) -> None:
        block = self._writer.put(data, lines, told=written is not None)
        if written is None:
            return
        if block:
            self._told[block] = written
        else:
            self._loop.call_soon(written, False)

    def _tell(self) -> None:
        for block, written in self._writer.done():
            try:
                self._told.pop(block)(written)
            except Exception:  # the others are told too
                log.exception("what waited for a line of the journal failed")

    def _records(self, told: Tick) -> None:
        """Within this very tick they are in the file, unless the disk is slow."""
        data = told.lines(self._lines)
        count = data.count(b"\n")
        self._put(data, count)
        if not self._leaving:
            self._writer.settle()
        elif not self._writer.settle(_LEAVE_S):
            self.counts.late += count
            self._fall_behind()

    def _before_leaving(self) -> None:
        if not self._ledger.due:
            return
        self._leaving = True
        try:
            self._ledger.tell()
        except Exception:  # what leaves must not be held up for ever
            log.exception("what has ended could not be told before its last bytes left")
        self._leaving = False

    def _fall_behind(self) -> None:
        """From now on ends wait each by itself, until the disk has caught up."""
        if self._ends is not None and self._ends.keeps_pace:
            self._ends.keeps_pace = False
            self._resuming = self._loop.call_later(SETTLE_PAUSE_S, self._catch_up)

    def _catch_up(self) -> None:
        if self._ends is not None and self._writer.settle():
            self._ends.keeps_pace = True
        else:
            self._resuming = self._loop.call_later(SETTLE_PAUSE_S, self._catch_up)

    def _lines(self, records: Sequence[Record]) -> bytes:
        try:
            return self._encode(records)
        except Exception:  # one that is no JSON must not take the others along
            return b"".join([self._one(record) for record in records])

    def _one(self, record: Record) -> bytes:
        try:
            return self._encode([record])
        except Exception:
            self.counts.refused += 1
            log.exception("the record of request %s makes no line, and is dropped", record.request_id)
            return b""

    def _keep(self, acts: list[Act]) -> None:
        """The records that `acts` wait for were put just before: what is put now comes after them."""
        if not self._on_disk and self._writer.settle():
            release(acts)
            return
        held = _Held(acts, self)
        self._waiting.add(held)
        held.timer = self._loop.call_later(LONGEST_WAIT_S, held.late)
        if len(self._told) < MOST_TOLD:  # else the time that they may wait is all that ends it
            self._put(b"", 0, lambda written: held.release())

    def released(self, held: "_Held") -> None:
        self._waiting.discard(held)


class _Held:
    """The ends of answers that wait for one write."""

    def __init__(self, acts: list[Act], journal: Journal) -> None:
        self._acts = acts
        self._journal = journal
        self.timer: asyncio.TimerHandle | None = None

    def late(self) -> None:
        self._journal.counts.late += len(self._acts)
        self.release()

    def release(self) -> None:
        acts, self._acts = self._acts, []
        if self.timer is not None:
            self.timer.cancel()
        self._journal.released(self)
        release(acts)
