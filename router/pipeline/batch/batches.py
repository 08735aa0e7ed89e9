"""What `/v1/files` and `/v1/batches` ask: files and batches of whoever asks, and the life of the folder.

Another process may still have the folder (a server that is being replaced): then it is waited for, and whoever asks is
told so. Called from the event loop's thread.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from router.config import Batches as Settings
from router.config import Config, Limits
from router.dialects.batches import NewBatch
from router.errors import BadRequest, BatchesElsewhere, NotFound, Overloaded, RouterError, StorageFull
from router.observe.batch_families import BatchFigures
from router.observe.metrics import Metrics
from router.pipeline.batch.folder import Folder
from router.pipeline.batch.job import Job, Tools
from router.pipeline.batch.lane import Desk, Lane
from router.pipeline.batch.objects import OVER, Batch, File, StoredBatch, new_batch_id, new_file_id
from router.pipeline.batch.store import Store
from router.pipeline.batch.upload import NewFile
from router.types import API_PATHS, MEMBER_ROUTES, Kind

log = logging.getLogger("headgate.batches")

_GENERATING: Final[tuple[Kind, ...]] = ("chat", "completions", "responses", "messages")
#: What a line may ask for, by its `url`: what generates text, and what pooling models answer.
ENDPOINTS: Final[Mapping[str, Kind]] = {
    **{API_PATHS[kind]: kind for kind in _GENERATING},
    **{
        path: kind
        for kind, route in MEMBER_ROUTES.items()
        if route.body == "json" and not route.generates
        for path in route.paths
    },
}
#: Files that are being sent at once.
_MOST_UPLOADS = 8
#: How often a folder that another process has is asked for, and what has expired is looked for.
_AGAIN_S = 0.5
_SWEEP_S = 1.0
#: At the end, threads are waited for this long.
_END_S = 10.0

T = TypeVar("T", File, Batch)


class Page(msgspec.Struct, frozen=True, tag_field="object", tag="list"):
    """Of a list. `first_id` and `last_id`: None where it is empty."""

    data: tuple[File, ...] | tuple[Batch, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Batches:
    """The files and batches of one server."""

    def __init__(self, desk: Desk, settings: Settings, limits: Limits) -> None:
        """Raises `ConfigError` where the folder cannot be had."""
        self.settings = settings
        self._folder = Folder(Path(settings.path))
        self._store = Store(self._folder, settings)
        self._lane = Lane(desk, settings, limits.pending_bytes)
        self._tools = Tools(self._store, self._lane, settings, limits.answer_bytes)
        self._jobs: dict[str, Job] = {}
        self._uploads: set[NewFile] = set()
        self._drain_s = limits.drain_s
        self._ready = False
        self._at_once = asyncio.Event()  #: do not wait for uploads
        self._life: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin: once the folder is ours, go on with what a process before us has left."""
        self._life = asyncio.get_running_loop().create_task(self._live())

    def withdraw(self) -> None:
        """The server ends: lines that run are put back, none is begun. Once what is being sent has come, or
        `limits.drain_s` is over, the folder is let go of, so that the next server can go on. Idempotent."""
        if self._leaving is None:
            self._tools.closed = True
            self._lane.withdraw()
            self._leaving = asyncio.get_running_loop().create_task(self._leave())

    async def close(self) -> None:
        """Leave all as it is, to be resumed. Idempotent."""
        self.withdraw()
        self._at_once.set()
        if self._leaving is not None:
            await self._leaving

    # Files

    def files(self, owner: str, *, purpose: str | None, order: str, after: str | None, limit: int) -> Page:
        """Raises `RouterError`."""
        self._check()
        mine = [each.file for each in self._store.files.values() if each.owner == owner]
        return _page([file for file in mine if purpose in (None, file.purpose)], order, after, limit)

    def file(self, owner: str, id: str) -> File:
        """Raises `NotFound`."""
        self._check()
        stored = self._store.files.get(id)
        if stored is None or stored.owner != owner:
            raise NotFound(f"no file {id[:64]!r}", param="file_id", code="file_not_found")
        return stored.file

    async def open_file(self, owner: str, id: str) -> tuple[File, int]:
        """And a descriptor to read it by, which is the caller's to close. Raises `RouterError`."""
        file = self.file(owner, id)
        return file, await self._store.open(id)

    async def delete_file(self, owner: str, id: str) -> None:
        """Raises `RouterError`."""
        self.file(owner, id)
        if self._store.in_use(id):
            raise BadRequest(f"{id} is read by a batch that is not over", param="file_id", code="file_in_use")
        await self._store.remove_file(id)

    def new_file(self) -> NewFile:
        """For a file that is about to be sent. Raises `RouterError`."""
        self._check()
        if len(self._uploads) >= _MOST_UPLOADS:
            raise Overloaded(f"{_MOST_UPLOADS} files are being sent, the most allowed", retry_after_s=1.0)
        if len(self._store.files) >= self.settings.max_files:
            raise StorageFull(f"there are {self.settings.max_files} files, the most allowed (`batches.max_files`)")
        upload = NewFile(self._store, self.settings.max_file_bytes)
        self._uploads.add(upload)
        return upload

    def drop(self, upload: NewFile) -> None:
        """It is kept, or will never be. Idempotent."""
        if upload in self._uploads:
            self._uploads.discard(upload)
            upload.uncount()
            self._store.later(upload.discard)

    # Batches

    async def create(self, owner: str, new: NewBatch) -> Batch:
        """Raises `RouterError`."""
        file, window_s = self.file(owner, new.input_file_id), new.window_s
        if file.purpose != "batch":
            raise BadRequest(f"{file.id} was not sent with the purpose `batch`", param="input_file_id")
        if new.endpoint not in ENDPOINTS:
            allowed = ", ".join(ENDPOINTS)
            raise BadRequest(f"`endpoint`: expected one of {allowed}, got {new.endpoint[:80]!r}", param="endpoint")
        if len(self._store.batches) >= self.settings.max_files:
            raise StorageFull(f"there are {self.settings.max_files} batches, the most allowed (`batches.max_files`)")
        self._check_open()
        now = int(time.time())
        batch = Batch(
            id=new_batch_id(),
            endpoint=new.endpoint,
            input_file_id=file.id,
            completion_window=new.completion_window,
            created_at=now,
            expires_at=now + window_s,
            metadata=new.metadata,
        )
        after = new.output_expires_after
        stored = StoredBatch(
            batch=batch, owner=owner, output_id=new_file_id(), error_id=new_file_id(),
            results_s=None if after is None else after.seconds,
        )  # fmt: skip
        try:
            await self._store.save(stored)
        except BaseException:
            self._store.batches.pop(batch.id, None)
            raise
        self._begin(stored)
        return batch

    def batches(self, owner: str, *, after: str | None, limit: int) -> Page:
        """The newest first. Raises `RouterError`."""
        self._check()
        mine = [self._shown(each) for each in self._store.batches.values() if each.owner == owner]
        return _page(mine, "desc", after, limit)

    def batch(self, owner: str, id: str) -> Batch:
        """Raises `NotFound`."""
        self._check()
        stored = self._store.batches.get(id)
        if stored is None or stored.owner != owner:
            raise NotFound(f"no batch {id[:64]!r}", param="batch_id", code="batch_not_found")
        return self._shown(stored)

    async def cancel(self, owner: str, id: str) -> Batch:
        """Raises `RouterError`: where it is over too."""
        batch = self.batch(owner, id)
        job = self._jobs.get(id)
        if batch.status in OVER or job is None:
            raise BadRequest(f"{id} is {batch.status}: it cannot be cancelled", param="batch_id", code="batch_over")
        self._check_open()
        await job.cancel()
        return self.batch(owner, id)

    # For the metrics

    def figures(self) -> BatchFigures:
        store, lane, counted = self._store, self._lane, self._tools.counted
        return BatchFigures(
            batches=Counter(stored.batch.status for stored in store.batches.values()),
            completed=counted["output"],
            failed=counted["errors"],
            put_back=lane.put_back,
            running=lane.running,
            files=len(store.files),
            used_bytes=store.used_bytes,
        )

    # Within

    async def _live(self) -> None:
        try:
            await self._take_folder()
            await self._store.load()
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("%s cannot be read: there are no batches", self.settings.path)
            return
        self._ready = True
        for stored in tuple(self._store.batches.values()):
            if stored.batch.status not in OVER:
                log.info("%s is resumed: %s", stored.batch.id, stored.batch.status)
                self._begin(stored)
        while True:
            await self._sweep()
            await asyncio.sleep(_SWEEP_S)

    async def _take_folder(self) -> None:
        told = False
        while not self._folder.take():
            if not told:
                log.warning("%s: another process has it; batches begin when it ends", self.settings.path)
            told = True
            await asyncio.sleep(_AGAIN_S)

    def _begin(self, stored: StoredBatch) -> None:
        id, kind = stored.batch.id, ENDPOINTS.get(stored.batch.endpoint)
        if kind is None:
            log.error("%s: %s is no endpoint of this release; it is left as it is", id, stored.batch.endpoint)
            return
        if not self._tools.closed:
            self._jobs[id] = Job(stored, kind, self._tools, self._over)

    def _over(self, job: Job) -> None:
        del self._jobs[job.id]

    async def _sweep(self) -> None:
        now = time.time()
        for job in tuple(self._jobs.values()):
            job.look_at_clock(now)
        files, batches = self._store.expired(now)
        try:
            for id in files:
                await self._store.remove_file(id)
            for id in batches:
                await self._store.remove_batch(id)
        except RouterError as error:
            log.error("what has expired cannot be removed: %s", error)

    @property
    def _unfinished(self) -> int:
        return self._tools.checks.unfinished + self._tools.lines.unfinished + self._store.unfinished

    async def _leave(self) -> None:
        give_up = time.monotonic() + self._drain_s
        while self._uploads and not self._at_once.is_set() and time.monotonic() < give_up:  # noqa: ASYNC110 - one by one
            await asyncio.sleep(_AGAIN_S / 10)
        self._ready = False
        if self._life is not None:
            self._life.cancel()
        tasks = [job.leave() for job in self._jobs.values()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_END_S)
            for task in late:
                log.error("a batch could not be left in order")
                task.cancel()
        for upload in self._uploads:  # a thread may still write to it: what is left goes at the next start
            upload.uncount()
            upload.given_up = True
        self._uploads.clear()
        await self._threads_ended()
        self._store.close()
        self._tools.checks.stop()
        self._tools.lines.stop()
        self._folder.close()

    async def _threads_ended(self) -> None:
        give_up = time.monotonic() + _END_S
        while self._unfinished and time.monotonic() < give_up:  # noqa: ASYNC110 - threads set no event
            await asyncio.sleep(0.005)

    def _shown(self, stored: StoredBatch) -> Batch:
        job = self._jobs.get(stored.batch.id)
        return stored.batch if job is None else msgspec.structs.replace(stored.batch, request_counts=job.counts)

    def _check(self) -> None:
        if not self._ready:
            raise BatchesElsewhere(
                "files and batches are not ready: their folder is being read, or another process has it",
                retry_after_s=1.0,
            )

    def _check_open(self) -> None:
        if self._tools.closed:
            raise BatchesElsewhere("the server is shutting down", retry_after_s=5.0)


def batches_of(desk: Desk, config: Config, metrics: Metrics) -> Batches | None:
    """Begun. None where the config names no folder. Raises `ConfigError`."""
    if not config.batches.path:
        return None
    batches = Batches(desk, config.batches, config.server.limits)
    metrics.watch_batches(batches.figures)
    batches.open()
    return batches


def _page(found: "list[T]", order: str, after: str | None, limit: int) -> Page:
    """`found`: the oldest first. Raises `BadRequest` where `after` is none of them."""
    if order == "desc":
        found = found[::-1]
    if after is not None:
        at = next((i for i, each in enumerate(found) if each.id == after), None)
        if at is None:
            raise BadRequest(f"`after`: {after[:64]!r} is none of the list", param="after")
        found = found[at + 1 :]
    shown = found[:limit]
    ids = [each.id for each in shown]
    return Page(
        data=tuple(shown),
        first_id=ids[0] if ids else None,
        last_id=ids[-1] if ids else None,
        has_more=len(found) > limit,
    )
