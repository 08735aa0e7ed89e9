"""A file as an answer: piece by piece, no faster than its client reads."""

import asyncio
import os

from router.errors import RouterError
from router.frontend.exchange import Exchange
from router.frontend.later import Waiting
from router.pipeline.threads import Threads

_PIECE_BYTES = 256 * 1024
#: What may wait in the connection; above, no piece is read.
_MOST_UNSENT_BYTES = 1 << 20
_LOOK_S = 0.01
_TYPE = "application/octet-stream"


class Download(Waiting):
    """The `Stream` of an exchange until the file is out. Closes `descriptor`."""

    def __init__(self, exchange: Exchange, descriptor: int, size: int, threads: Threads) -> None:
        super().__init__(exchange)
        self._descriptor = descriptor
        self._size = size
        self._threads = threads

    async def send(self) -> None:
        """All of it, or up to where its client leaves."""
        try:
            await self._send()
        except Exception as error:
            if self._exchange is not None:
                self._exchange.connection.broke(error)
        finally:
            os.close(self._descriptor)

    # Stream

    def cut(self, error: RouterError) -> None:
        """An answer of a known length cannot end in an error: its connection does."""
        if (exchange := self._taken()) is not None:
            exchange.connection.abort()

    # Within

    async def _send(self) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        exchange.begin_body(200, self._size, _TYPE)
        at = 0 if exchange.method != b"HEAD" else self._size
        while at < self._size and self._exchange is not None:
            piece = await self._threads.run(self._read, at)
            if not piece:
                raise EOFError(f"a file ended at {at} of {self._size} bytes")
            if self._exchange is not None:
                exchange.connection.write(piece)
                at += len(piece)
                await self._drained(exchange)
        if self._exchange is not None:
            exchange.finish(200)

    def _read(self, at: int) -> bytes:
        return os.pread(self._descriptor, min(_PIECE_BYTES, self._size - at), at)

    async def _drained(self, exchange: Exchange) -> None:
        connection = exchange.connection
        while self._exchange is not None and connection.unsent_bytes() > _MOST_UNSENT_BYTES:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
