"""All files and batches: in memory, and each in a file of the folder.

Called from the event loop's thread; the disk is asked in one thread, in order.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from router.config import Batches as Settings
from router.errors import RouterError, StorageFull
from router.pipeline.batch.folder import Folder
from router.pipeline.batch.objects import OVER, StoredBatch, StoredFile, is_batch_id, is_file_id
from router.pipeline.batch.results import WHERES, why_not_written
from router.pipeline.threads import Threads

log = logging.getLogger("headgate.batches")

_MOST_TOLD_BYTES = 4 << 20
_encode = msgspec.json.Encoder().encode
_decode_file = msgspec.json.Decoder(StoredFile).decode
_decode_batch = msgspec.json.Decoder(StoredBatch).decode
T = TypeVar("T")


class Found(msgspec.Struct, frozen=True):
    """What a folder holds."""

    files: list[StoredFile]
    batches: list[StoredBatch]


class Store:
    """`files` and `batches` by id, in the order in which they were made."""

    def __init__(self, folder: Folder, settings: Settings) -> None:
        self.folder = folder
        self.files: dict[str, StoredFile] = {}
        self.batches: dict[str, StoredBatch] = {}
        self.file_bytes = 0  #: of all files
        self.upload_bytes = 0  #: of files that are being sent
        self.result_bytes = 0  #: of batches that are not over
        self._settings = settings
        self._disk = Threads(1, "headgate-batch-files")

    @property
    def used_bytes(self) -> int:
        return self.file_bytes + self.upload_bytes + self.result_bytes

    @property
    def unfinished(self) -> int:
        """What the thread still has to do."""
        return self._disk.unfinished

    async def load(self) -> None:
        """What the folder holds; what is not whole is removed. Raises `OSError`."""
        found = await self._disk.run(_load, self.folder)
        self.files = {stored.file.id: stored for stored in sorted(found.files, key=lambda each: each.file.created_at)}
        self.file_bytes = sum(stored.file.bytes for stored in found.files)
        by_age = sorted(found.batches, key=lambda each: each.batch.created_at)
        self.batches = {stored.batch.id: stored for stored in by_age}

    async def add_file(self, stored: StoredFile, written: str) -> None:
        """Keep the file `written` as that of `stored`. Raises `StorageFull`."""

        def keep(folder: Folder) -> None:
            folder.rename(written, f"{stored.file.id}.data")
            folder.write(f"{stored.file.id}.json", _encode(stored))

        await self.ask(keep)
        self._have(stored)

    async def remove_file(self, id: str) -> None:
        """Raises `StorageFull` where the disk refuses."""
        stored = self.files.pop(id, None)
        if stored is not None:
            self.file_bytes -= stored.file.bytes
        await self.ask(lambda folder: _remove(folder, f"{id}.json", f"{id}.data"))

    async def save(self, stored: StoredBatch) -> None:
        """What is told of a batch. Raises `StorageFull`; it is told so all the same."""
        self.batches[stored.batch.id] = stored
        await self.ask(lambda folder: folder.write(f"{stored.batch.id}.json", _encode(stored)))

    async def remove_batch(self, id: str) -> None:
        self.batches.pop(id, None)
        await self.ask(lambda folder: _remove(folder, f"{id}.json", *(f"{id}.{where}" for where in WHERES)))

    async def publish(self, stored: StoredFile, results: str) -> None:
        """Make a file of the results `results`. Done twice it does no harm. Raises `StorageFull`."""

        def publish(folder: Folder) -> None:
            folder.write(f"{stored.file.id}.json", _encode(stored))
            folder.rename(results, f"{stored.file.id}.data")

        await self.ask(publish)
        self._have(stored)

    async def ask(self, work: Callable[[Folder], T]) -> T:
        """`work` in the thread. Raises `StorageFull` for an `OSError`."""
        try:
            return await self._disk.run(work, self.folder)
        except OSError as error:
            raise StorageFull(f"a file cannot be written: {why_not_written(error)}") from error

    async def open(self, id: str) -> int:
        """The descriptor of a file, to read it by. Raises `RouterError`."""
        try:
            return await self._disk.run(self.folder.open_for_reading, f"{id}.data")
        except OSError as error:
            raise RouterError(f"{id} cannot be read: {error.strerror}", code="file_unreadable") from error

    def later(self, work: Callable[[], None]) -> None:
        """Call `work` in the disk thread; nobody waits for it, and an `OSError` of it is ignored."""

        def do(work: Callable[[], None]) -> None:
            with contextlib.suppress(OSError):
                work()

        self._disk.run(do, work)

    def in_use(self, file_id: str) -> bool:
        """Whether a batch that is not over reads it."""
        return any(
            stored.batch.input_file_id == file_id and stored.batch.status not in OVER
            for stored in self.batches.values()
        )

    def expired(self, now: float) -> tuple[list[str], list[str]]:
        """Files and batches that are to be removed."""
        files = [
            id
            for id, stored in self.files.items()
            if stored.file.expires_at is not None and stored.file.expires_at <= now and not self.in_use(id)
        ]
        keep_s = self._settings.expiry_s
        batches = [id for id, each in self.batches.items() if _ended_at(each) and _ended_at(each) + keep_s <= now]
        return files, batches

    def check_room(self, more_bytes: int) -> None:
        """Raises `StorageFull` where as many would be more than the config allows."""
        most = self._settings.max_files_bytes
        if self.used_bytes + more_bytes > most:
            raise StorageFull(f"all files together may have {most} bytes (`batches.max_files_bytes`); delete some")

    def close(self) -> None:
        self._disk.stop()

    def _have(self, stored: StoredFile) -> None:
        self.files[stored.file.id] = stored
        self.file_bytes += stored.file.bytes


def _load(folder: Folder) -> Found:
    names = set(folder.names())
    files = [_file(folder, id) for id in _told(names, is_file_id)]
    batches = [_batch(folder, id) for id in _told(names, is_batch_id)]
    _remove_leftovers(folder, names)
    return Found([each for each in files if each is not None], [each for each in batches if each is not None])


def _told(names: Iterable[str], is_id: Callable[[str], bool]) -> list[str]:
    return [name.removesuffix(".json") for name in names if name.endswith(".json") and is_id(name[:-5])]


def _file(folder: Folder, id: str) -> StoredFile | None:
    """None: its bytes are not there, since it was never whole, or what is told of it cannot be read."""
    try:
        stored = _decode_file(folder.read(f"{id}.json", _MOST_TOLD_BYTES))
        os.close(folder.open_for_reading(f"{id}.data"))
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.warning("the file %s is left out: %s", id, error)
        return None
    return stored if stored.file.id == id else None


def _batch(folder: Folder, id: str) -> StoredBatch | None:
    try:
        stored = _decode_batch(folder.read(f"{id}.json", _MOST_TOLD_BYTES))
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.warning("the batch %s is left out: %s", id, error)
        return None
    return stored if stored.batch.id == id else None


def _remove_leftovers(folder: Folder, names: set[str]) -> None:
    """What a crash left behind: files that were never whole."""
    for name in names:
        id, _, kind = name.partition(".")
        left = name.startswith(("upload-", "new-"))
        left = left or (kind == "data" and is_file_id(id) and f"{id}.json" not in names)
        left = left or (kind == "json" and is_file_id(id) and f"{id}.data" not in names)
        left = left or (kind in WHERES and is_batch_id(id) and f"{id}.json" not in names)
        if left:
            folder.remove(name)


def _remove(folder: Folder, *names: str) -> None:
    for name in names:
        folder.remove(name)


def _ended_at(stored: StoredBatch) -> int:
    """0: it is not over."""
    batch = stored.batch
    if batch.status not in OVER:
        return 0
    return batch.completed_at or batch.failed_at or batch.expired_at or batch.cancelled_at or batch.created_at
