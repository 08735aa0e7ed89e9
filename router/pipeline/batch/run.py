"""One batch in progress: its lines as they are read ahead, those that run, and its results.

input --a thread reads ahead--> ready --lane--> running --> results
                                  ^                |
                                  +--- put back ---+
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from router.config import Batches as Settings
from router.dialects.decode import read
from router.errors import BadRequest, RouterError, StorageFull
from router.observe.metrics import BATCH
from router.pipeline.batch import lines
from router.pipeline.batch.line import Line, error_body, response_line
from router.pipeline.batch.lines import Found, LineFault
from router.pipeline.batch.objects import Ending, StoredBatch, result_id
from router.pipeline.batch.pace import Pace
from router.pipeline.batch.results import Appender, Done, Failed, Results, Where, failed
from router.pipeline.batch.store import Store
from router.pipeline.threads import Threads
from router.types import Kind, Query

log = logging.getLogger("headgate.batches")

#: Read ahead, and held in memory: lines, and bytes of a reading.
MOST_READY = 128
_LINES_AT_ONCE = 64
_BYTES_AT_ONCE = 1 << 20
_MOST_READY_BYTES = 4 << 20
#: Results that wait for the disk; above, no line starts.
MOST_UNWRITTEN_BYTES = 16 << 20
#: Later than any request that a client waits for, in engines that schedule by priority.
PRIORITY = 1_000

#: A line, or the number and result of one that is refused as it is read.
_Read = Line | tuple[int, bytes]


class Run:
    """Called from the event loop's thread. `over` is set once all lines have their results on disk, or `ending` is
    known and nothing of it runs any more."""

    def __init__(
        self,
        stored: StoredBatch,
        kind: Kind,
        settings: Settings,
        store: Store,
        done: Done,
        threads: Threads,
        *,
        most_answer_bytes: int,
        stir: Callable[[], None],
        counted: dict[str, int],
    ) -> None:
        """`stir` is called when lines have been read; `counted` counts all results written.
        Raises `OSError` where its files cannot be opened."""
        self.id = stored.batch.id
        self.done = done
        self.ready: deque[Line] = deque()
        self.running: set[Line] = set()
        self.written = dict(done.counts)  #: results in the files
        self.ending: Ending | None = None
        self.left = False  #: to be resumed by the next process
        self.broken: OSError | None = None
        self.over = asyncio.Event()
        self._stored = stored
        self._kind: Kind = kind
        self._settings = settings
        self._threads = threads
        self._most_answer_bytes = most_answer_bytes
        self._stir = stir
        self._store = store
        self._counted = counted
        self.written_bytes = 0  #: of results
        self._reading = False
        self._exhausted = False
        self._input = store.folder.open_for_reading(f"{stored.batch.input_file_id}.data")
        try:
            self._appender = Appender(store.folder, self.id, settings.fsync_s)
        except BaseException:
            os.close(self._input)
            raise
        self._found: Iterator[Found] = lines.find(self._input, settings.max_line_bytes)
        self.results = Results(self._appender, threads, self._written, self._cannot_write)

    # The lane's

    @property
    def startable(self) -> bool:
        return self.ending is None and bool(self.ready) and self.results.unwritten_bytes <= MOST_UNWRITTEN_BYTES

    def read_ahead(self) -> None:
        """Have more lines read, where few are left."""
        no_more = self._exhausted or self.left or self.ending is not None
        if self._reading or no_more or len(self.ready) > MOST_READY - _LINES_AT_ONCE:
            return
        if sum(len(line.body) for line in self.ready) > _MOST_READY_BYTES:
            return
        self._reading = True
        self._threads.run(Run._read, self).add_done_callback(self._have_read)

    def put_back(self, line: Line) -> None:
        self.running.discard(line)
        self.ready.appendleft(line)
        self.look_whether_over()

    def finished(self, line: Line, where: Where, result: bytes) -> None:
        self.running.discard(line)
        self._add(line.number, where, result)
        self.look_whether_over()

    def look_whether_over(self) -> None:
        idle = not self.running and not self._reading and self.results.settled
        if idle and (self.left or self.ending is not None or (self._exhausted and not self.ready)):
            self.over.set()

    def stop(self, ending: Ending, why: RouterError) -> None:
        """Abort what runs, begin no more."""
        if self.ending is None:
            self.ending = ending
        for line in tuple(self.running):
            line.stop(why)
        self.running.clear()
        self.ready.clear()
        self.look_whether_over()

    def leave(self) -> None:
        """Over as soon as nothing is read or written. Nothing of it runs any more."""
        self.left = True
        self.look_whether_over()

    # After its end, in a thread

    def close_out(self, code: str, message: str, pace: Pace) -> int:
        """Write of each line without a result that it has none; how many there were. Raises `OSError`."""
        block, wrote = [], 0
        for found in lines.find(self._input, self._settings.max_line_bytes):
            pace.step()
            if found.number not in self.done:
                self.done.add(found.number, "errors")
                block.append(failed(self.id, found.number, self._name(found), Failed(code, message, found.number)))
            if len(block) >= _LINES_AT_ONCE:
                self._appender.append("errors", b"".join(block))
                wrote, block = wrote + len(block), []
        if block:
            self._appender.append("errors", b"".join(block))
        return wrote + len(block)

    def sync(self) -> None:
        self._appender.sync()

    def close(self) -> None:
        """Idempotent."""
        if self._input >= 0:
            os.close(self._input)
            self._input = -1
            self.results.close()

    # Within

    def _add(self, line: int, where: Where, result: bytes) -> None:
        self.done.add(line, where)
        if where == "output":
            self.done.tokens.add(result)
        self.results.add(where, result)

    def _written(self, where: Where, count: int, size: int) -> None:
        self.written[where] += count
        self._counted[where] += count
        self.written_bytes += size
        self._store.result_bytes += size
        try:
            self._store.check_room(0)
        except StorageFull as error:
            self._cannot_write(OSError(0, error.message))
        self._stir()
        self.look_whether_over()

    def _cannot_write(self, error: OSError) -> None:
        self.broken = error
        log.error("%s: a result cannot be written: %s; the batch ends", self.id, error)
        self.stop("failed", RouterError("the batch's results cannot be written"))

    def _have_read(self, future: "asyncio.Future[list[_Read] | None]") -> None:
        self._reading = False
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._cannot_write(error if isinstance(error, OSError) else OSError(f"its input: {error}"))
            return
        found = future.result()
        self._exhausted = found is None
        if self.ending is None:
            for each in found or ():
                if isinstance(each, Line):
                    self.ready.append(each)
                else:
                    self._add(each[0], "errors", each[1])
        self.look_whether_over()
        self._stir()

    def _read(self) -> "list[_Read] | None":
        """The next lines without a result, in a thread; None: there are no more. Raises `OSError`."""
        made: list[_Read] = []
        size, pace = 0, Pace()
        for found in self._found:
            pace.step()
            if found.number in self.done:
                continue
            made.append(self._line(found))
            size += found.end - found.start
            if len(made) >= _LINES_AT_ONCE or size >= _BYTES_AT_ONCE:
                return made
        return made or None

    def _line(self, found: Found) -> _Read:
        id = result_id(self.id, found.number)
        try:
            asked = lines.read(found, self._stored.batch.endpoint, self._settings.max_line_bytes)
        except LineFault as fault:  # the file is another one than was checked
            why = Failed(fault.code, fault.message, found.number, fault.param)
            return found.number, failed(self.id, found.number, fault.custom_id, why)
        try:
            query, body = read(self._kind, bytes(asked.body), id, self._stored.owner)
            if query.stream:
                raise BadRequest("`stream`: the lines of a batch are answered whole", param="stream")
            if query.background:
                raise BadRequest("`background`: a batch waits for the answers to its lines", param="background")
        except RouterError as error:
            body = error_body(error, Query(kind=self._kind, model="", turns=()))
            return found.number, response_line(id, asked.custom_id, error.status, body)
        query = msgspec.structs.replace(query, priority=PRIORITY, task=BATCH)
        return Line(self, found.number, asked.custom_id, query, body, self._most_answer_bytes)

    def _name(self, found: Found) -> str | None:
        try:
            return lines.read(found, self._stored.batch.endpoint, self._settings.max_line_bytes).custom_id
        except LineFault as fault:
            return fault.custom_id
