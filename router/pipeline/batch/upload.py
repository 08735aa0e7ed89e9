"""A file that is being sent: its bytes go to the disk as they come. It becomes one of the store, or nothing is left."""

import os
import secrets
import time

from router.errors import BatchesElsewhere, ContentTooLarge, StorageFull
from router.pipeline.batch.folder import write_all
from router.pipeline.batch.objects import File, StoredFile, new_file_id
from router.pipeline.batch.results import why_not_written
from router.pipeline.batch.store import Store


class NewFile:
    """`open` and `write` are called in one thread at a time, all else on the event loop's."""

    def __init__(self, store: Store, most_bytes: int) -> None:
        self._store = store
        self._most_bytes = most_bytes
        self._name = f"upload-{secrets.token_hex(12)}"
        self._descriptor = -1
        self._counted = 0
        self.bytes = 0
        self.given_up = False  #: the folder is let go of

    def expect(self, size: int) -> None:
        """As many bytes more are on their way. Raises `StorageFull`."""
        self._store.check_room(size)
        self._store.upload_bytes += size
        self._counted += size

    def write(self, data: bytes) -> None:
        """Raises `ContentTooLarge`, `StorageFull`, `BatchesElsewhere`."""
        if self.given_up:
            self._close()
            raise BatchesElsewhere("the server is shutting down, and the file has not come in time", retry_after_s=1.0)
        self.bytes += len(data)
        if self.bytes > self._most_bytes:
            raise file_too_large(self._most_bytes)
        try:
            if self._descriptor < 0:
                self._descriptor = self._store.folder.make(self._name)
            write_all(self._descriptor, data)
        except OSError as error:
            raise StorageFull(f"the file cannot be written: {why_not_written(error)}") from error

    def end(self) -> None:
        """All is written; in the thread. Raises `StorageFull`, `BatchesElsewhere`."""
        self.write(b"")
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise StorageFull(f"the file cannot be written: {why_not_written(error)}") from error
        finally:
            self._close()

    async def keep(self, filename: str, owner: str, expiry_s: float) -> File:
        """Ended, it becomes a file. Raises `StorageFull`."""
        now = int(time.time())
        file = File(
            id=new_file_id(),
            bytes=self.bytes,
            created_at=now,
            expires_at=now + int(expiry_s),
            filename=filename,
            purpose="batch",
        )
        await self._store.add_file(StoredFile(file=file, owner=owner), self._name)
        return file

    def uncount(self) -> None:
        """It is kept, and counted as a file, or will never be."""
        self._store.upload_bytes -= self._counted
        self._counted = 0

    def discard(self) -> None:
        """What is left of it goes; where no thread works on it. Idempotent."""
        self._close()
        self._store.folder.remove(self._name)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def file_too_large(most: int) -> ContentTooLarge:
    return ContentTooLarge(f"the file is over {most} bytes (`batches.max_file_bytes`)", param="file")
