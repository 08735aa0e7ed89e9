"""`POST /v1/files`: the body goes from the socket to the disk as it comes; a thread reads the form and writes."""

import asyncio

import msgspec

from router.dialects.batches import expiry_s
from router.errors import BadRequest, RouterError
from router.frontend.exchange import Exchange
from router.frontend.form import Form
from router.frontend.later import Later
from router.frontend.routes import refuse_page
from router.pipeline.batch.batches import Batches
from router.pipeline.batch.upload import file_too_large
from router.pipeline.threads import Threads

_encode = msgspec.json.Encoder().encode
#: Of one file that is being sent, what waits for the disk; above, its connection is not read.
_MOST_WAITING_BYTES = 1 << 20
_PURPOSE = "batch"


class Upload:
    """The body of one request, and its answer. An `exchange.Incoming`."""

    def __init__(self, exchange: Exchange, batches: Batches, threads: Threads) -> None:
        """Raises `RouterError`."""
        refuse_page(exchange)
        if int(exchange.headers.get(b"content-length", 0)) > batches.settings.max_file_bytes + (1 << 16):
            raise file_too_large(batches.settings.max_file_bytes)
        self._connection = exchange.connection
        self._owner = exchange.key_id
        self._batches = batches
        self._threads = threads
        self._file = batches.new_file()
        try:
            self._form = Form(exchange.headers.get(b"content-type", b""), self._file.write)
        except BaseException:
            batches.drop(self._file)
            raise
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0  #: and of what the thread has
        self._busy = False
        self._over = False
        self._error: BaseException | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    # Incoming

    @property
    def full(self) -> bool:
        return self._waiting_bytes > _MOST_WAITING_BYTES and self._error is None

    def feed(self, data: bytes) -> None:
        if isinstance(self._error, RouterError):
            raise self._error
        self._file.expect(len(data))
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if not self._busy:
            self._write()

    def abandon(self) -> None:
        if not self._over:
            self._over = True
            if not self._busy:
                self._batches.drop(self._file)

    # The route's

    def answer(self, exchange: Exchange) -> None:
        """All of the body has come."""
        Later(exchange, asyncio.ensure_future(self._finish()))

    # Within

    def _write(self) -> None:
        self._busy = True
        self._idle.clear()
        data, self._waiting = b"".join(self._waiting), []
        self._threads.run(self._form.feed, data).add_done_callback(lambda done: self._written(len(data), done))

    def _written(self, size: int, future: "asyncio.Future[None]") -> None:
        was_full, self._busy = self.full, False
        self._waiting_bytes -= size
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._error, self._waiting = error.with_traceback(None), []
        if self._over:
            self._batches.drop(self._file)
        elif self._waiting:
            self._write()
        else:
            self._idle.set()
        if was_full and not self.full:
            self._connection.body_taken()

    async def _finish(self) -> bytes:
        """Raises `RouterError`."""
        try:
            await self._idle.wait()
            if self._error is not None:
                raise self._error
            await self._threads.run(Upload._end, self)
            keep_s = self._expiry_s()
            file = await self._file.keep(self._form.filename or "upload", self._owner, keep_s)
            return _encode(file)
        finally:
            self._over = True
            self._batches.drop(self._file)

    def _end(self) -> None:
        self._form.end()
        self._file.end()

    def _expiry_s(self) -> float:
        """What the fields say. Raises `BadRequest`."""
        fields = self._form.fields
        if (purpose := fields.get("purpose")) != _PURPOSE:
            got = "it is missing" if purpose is None else f"got {purpose[:40]!r}"
            raise BadRequest(f"`purpose`: expected `{_PURPOSE}`, {got}", param="purpose")
        anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
        if anchor is None and seconds is None:
            return self._batches.settings.expiry_s
        try:
            given = int(seconds or "")
        except ValueError:
            what = "`expires_after[seconds]`: expected a number of seconds"
            raise BadRequest(what, param="expires_after.seconds") from None
        return expiry_s(anchor or "", given, "expires_after")
