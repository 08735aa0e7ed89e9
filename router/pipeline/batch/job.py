"""One batch from the check of its input to its files. What it has come to is on disk before the next step begins.

    validating --> in_progress --> finalizing --> completed
        |              |   |            |
        |              |   +-cancelling-+-------> cancelled
        |              +------------------------> expired
        +---------------------------------------> failed (nothing can be run, or the disk refuses)

Resumed after a crash: `validating` begins anew, `in_progress` and `cancelling` where the results end, `finalizing`
makes the files that are not there yet.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec

from router.config import Batches as Settings
from router.errors import DeadlineExceeded, RouterError, StorageFull, Withdrawn
from router.pipeline.batch.check import Check, Checked, TooManyLines
from router.pipeline.batch.folder import Folder
from router.pipeline.batch.lane import Lane
from router.pipeline.batch.objects import Batch, Counts, Ending, Fault, Faults, File, StoredBatch, StoredFile, at_end
from router.pipeline.batch.pace import Pace, Stopped
from router.pipeline.batch.recovery import recover
from router.pipeline.batch.results import WHERES, Appender, Done, Where, why_not_written
from router.pipeline.batch.run import Run
from router.pipeline.batch.store import Store
from router.pipeline.threads import Threads
from router.types import Kind

log = logging.getLogger("headgate.batches")
_T = TypeVar("_T")

#: Batches whose lines run at once; the next ones wait.
MOST_RUNNING = 4
_LEFT: dict[str, tuple[str, str]] = {
    "expired": ("batch_expired", "the request was not answered within the batch's completion window"),
    "cancelled": ("batch_cancelled", "the batch was cancelled before the request was answered"),
}


class Tools:
    """What all jobs share."""

    def __init__(self, store: Store, lane: Lane, settings: Settings, most_answer_bytes: int) -> None:
        self.store = store
        self.lane = lane
        self.settings = settings
        self.most_answer_bytes = most_answer_bytes
        self.closed = False
        self.checks = Threads(2, "headgate-batch-checks")
        self.lines = Threads(2, "headgate-batch-lines")
        self.checking = asyncio.Semaphore(1)
        self.answering = asyncio.Semaphore(MOST_RUNNING)
        self.counted: dict[str, int] = dict.fromkeys(WHERES, 0)  #: results written since the start


class Job:
    """Called from the event loop's thread. `over` is called at its end."""

    def __init__(self, stored: StoredBatch, kind: Kind, tools: Tools, over: "Callable[[Job], None]") -> None:
        self.id = stored.batch.id
        self._kind: Kind = kind
        self._tools = tools
        self._store = tools.store
        self._over = over
        self._ending: Ending | None = stored.ending
        if stored.batch.status == "cancelling":
            self._ending = "cancelled"
        self._check: Check | None = None
        self._run: Run | None = None
        self._stopped = asyncio.Event()  #: it is ending, or left
        if self._ending is not None:
            self._stopped.set()
        self._task = asyncio.get_running_loop().create_task(self._work())

    @property
    def stored(self) -> StoredBatch:
        return self._store.batches[self.id]

    @property
    def counts(self) -> Counts:
        """As of now."""
        if self._run is not None:
            written = self._run.written
            total = self.stored.batch.request_counts.total
            return Counts(total=total, completed=written["output"], failed=written["errors"])
        if self._check is not None and self.stored.batch.status == "validating":
            return Counts(total=self._check.seen)
        return self.stored.batch.request_counts

    async def cancel(self) -> None:
        """Raises `StorageFull`, and is cancelled all the same."""
        try:
            if self._ending is None:
                await self._save(status="cancelling", cancelling_at=int(time.time()))
        finally:
            self._stop("cancelled")

    def look_at_clock(self, now: float) -> None:
        if self._ending is None and now >= self.stored.batch.expires_at:
            self._stop("expired")

    def leave(self) -> "asyncio.Task[None]":
        """Leave it as it is, to be resumed, once the tools are closed. The task: when it is done nothing is written."""
        self._stopped.set()
        if self._run is not None:
            self._run.leave()
        return self._task

    # Within

    def _stop(self, ending: Ending) -> None:
        if self._ending is None:
            self._ending = ending
        self._stopped.set()
        if self._run is not None:
            expired = self._ending == "expired"
            why = DeadlineExceeded("the batch is over") if expired else Withdrawn("the batch is over")
            self._run.stop(self._ending, why)

    async def _work(self) -> None:
        try:
            await self._live()
        except Stopped:  # the server ends
            return
        except StorageFull as error:
            await self._fail(Fault(code=error.code or "storage_full", message=error.message))
        except Exception as error:
            log.exception("%s cannot go on", self.id)
            why = str(error) if isinstance(error, RouterError) else "internal error; the server's log says more"
            await self._fail(Fault(code="internal_error", message=why))
        self._over(self)

    async def _live(self) -> None:
        if self.stored.batch.status == "cancelling" and self.stored.batch.in_progress_at is None:
            await self._end()
            return
        if self.stored.batch.status == "validating":
            async with self._place(self._tools.checking):
                checked = None if self._ending else await self._checked()
            if checked is None:
                await self._end()
                return
            if not await self._begun(checked):
                return
        if self.stored.batch.status != "finalizing":
            async with self._place(self._tools.answering):
                await self._answered()
        await self._end()

    @asynccontextmanager
    async def _place(self, places: asyncio.Semaphore) -> AsyncIterator[None]:
        """Hold one of `places`: for checks, or for batches that run. A batch that is cancelled or expires does not wait
        for it: it has little left to do."""
        taking = asyncio.ensure_future(places.acquire())
        stopping = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait((taking, stopping), return_when=asyncio.FIRST_COMPLETED)
            yield
        finally:
            stopping.cancel()
            if not taking.cancel() and not taking.cancelled():
                places.release()

    async def _checked(self) -> Checked | None:
        """What the check of the input found; None where the batch is over already."""
        batch, settings = self.stored.batch, self._tools.settings
        self._check_open()
        check = self._check = Check(
            self.id, batch.endpoint, most_lines=settings.max_lines, most_line_bytes=settings.max_line_bytes
        )

        def work(folder: Folder) -> Checked:
            descriptor = folder.open_for_reading(f"{batch.input_file_id}.data")
            try:
                appender = Appender(folder, self.id, settings.fsync_s)
                try:
                    appender.truncate()
                    return check.run(descriptor, appender, Pace(self._is_wanted))
                finally:
                    appender.close()
            finally:
                os.close(descriptor)

        try:
            return await self._long(work)
        except Stopped:
            if self._tools.closed:
                raise
            return None

    async def _begun(self, checked: Checked) -> bool:
        """Whether there is anything to run."""
        shown = Faults(data=checked.faults) if checked.faults else None
        if checked.counts.total > checked.counts.failed:
            now = int(time.time())
            counts = checked.counts
            model = checked.model
            await self._save(status="in_progress", in_progress_at=now, request_counts=counts, errors=shown, model=model)
            return True
        if not checked.counts.total:
            shown = Faults(data=(Fault(code="empty_file", message="the input file has no line"),))
        await self._save(request_counts=checked.counts, errors=shown)
        self._ending = "failed"
        await self._end()
        return False

    async def _answered(self) -> None:
        """Until every line has its result on disk, of a batch that ends early too."""
        tools, store = self._tools, self._store
        self._check_open()
        done = await self._long(lambda folder: recover(folder, self.id, 1 << 40, Pace(self._is_open)))
        self._check_open()
        run = self._run = self._new_run(done)
        try:
            tools.lane.add(run)
            if self._ending is not None:
                self._stop(self._ending)
            try:
                await run.over.wait()
            finally:
                tools.lane.remove(run)
            self._check_open()
            if run.broken is not None:
                raise StorageFull(f"a result cannot be written: {why_not_written(run.broken)}")
            self._ending = self._ending or "completed"
            await self._close_out(run)
            run.written["errors"] = done.counts["errors"]  # those that were closed out too
            await self._save(
                status="finalizing", finalizing_at=int(time.time()), request_counts=self.counts, ending=self._ending,
                usage=done.tokens.shown(),
            )  # fmt: skip
        finally:
            store.result_bytes -= run.written_bytes
            counted = msgspec.structs.replace(self.stored.batch, request_counts=self.counts)
            store.batches[self.id] = msgspec.structs.replace(self.stored, batch=counted)
            self._run = None
            run.close()

    def _new_run(self, done: Done) -> Run:
        tools = self._tools
        try:
            return Run(
                self.stored, self._kind, tools.settings, self._store, done, tools.lines,
                most_answer_bytes=tools.most_answer_bytes, stir=tools.lane.stir, counted=tools.counted,
            )  # fmt: skip
        except OSError as error:
            raise StorageFull(f"the input file cannot be read: {error.strerror}") from error

    async def _close_out(self, run: Run) -> None:
        left = _LEFT.get(self._ending or "")

        def work(folder: Folder) -> None:
            if left is not None:
                run.close_out(*left, Pace(self._is_open))
            run.sync()

        await self._long(work)

    async def _end(self) -> None:
        """Make its files of its results, and say that it is over."""
        stored, ending = self.stored, self._ending or "completed"
        now = int(time.time())
        keep_s = self._tools.settings.expiry_s if stored.results_s is None else stored.results_s
        ids = {"output": stored.output_id, "errors": stored.error_id}
        made: dict[str, str | None] = {}
        for where in WHERES:
            file = File(
                id=ids[where],
                bytes=await self._size(where),
                created_at=now,
                expires_at=now + int(keep_s),
                filename=f"{self.id}_{where}.jsonl",
                purpose="batch_output",
            )
            if file.bytes:
                await self._store.publish(StoredFile(file=file, owner=stored.owner), f"{self.id}.{where}")
            made[where] = file.id if file.id in self._store.files else None
        batch = msgspec.structs.replace(
            at_end(self.stored.batch, ending, now), output_file_id=made["output"], error_file_id=made["errors"]
        )
        await self._store.save(msgspec.structs.replace(self.stored, batch=batch, ending=ending))

    async def _size(self, where: Where) -> int:
        return await self._store.ask(lambda folder: folder.size(f"{self.id}.{where}"))

    async def _fail(self, fault: Fault) -> None:
        """Over, whatever the disk says; what it does not take is done again at the next start."""
        log.error("%s failed: %s", self.id, fault.message)
        self._ending = "failed"
        batch = self.stored.batch
        found = (fault, *(batch.errors.data if batch.errors is not None else ()))
        now = int(time.time())
        try:
            await self._save(status="finalizing", finalizing_at=now, errors=Faults(data=found), ending="failed")
            await self._end()
        except Exception as error:
            log.error("%s: its end cannot be written: %s", self.id, error)
            over = at_end(self.stored.batch, "failed", now)
            self._store.batches[self.id] = msgspec.structs.replace(self.stored, batch=over)

    async def _save(self, *, ending: Ending | None = None, **changes: object) -> None:
        batch: Batch = msgspec.structs.replace(self.stored.batch, **changes)
        await self._store.save(msgspec.structs.replace(self.stored, batch=batch, ending=ending))

    async def _long(self, work: Callable[[Folder], _T]) -> _T:
        """`work` in the thread for what takes long. Raises `StorageFull` for an `OSError`."""
        try:
            return await self._tools.checks.run(work, self._store.folder)
        except TooManyLines:
            raise StorageFull(
                f"the input has more than {self._tools.settings.max_lines} lines (`batches.max_lines`)",
                code="too_many_lines",
            ) from None
        except OSError as error:
            raise StorageFull(f"its files cannot be read or written: {why_not_written(error)}") from error

    def _check_open(self) -> None:
        """Raises `Stopped` where the server ends."""
        if self._tools.closed:
            raise Stopped

    def _is_open(self) -> bool:
        return not self._tools.closed

    def _is_wanted(self) -> bool:
        return self._ending is None and not self._tools.closed
