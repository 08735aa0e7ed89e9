"""Collects what one connection sends in a tick of the event loop: chunks of all streams as one frame, then the ends.

While the peer reads too slowly, chunks are kept per stream; a stream over its bound is ended, the others go on.
Knows frames, not engines.
"""

import asyncio
from collections.abc import Callable, Iterator

from router.errors import ProtocolError
from router.host.base import engine_failed
from router.ipc.channel import Channel
from router.ipc.messages import Chunks, Done, Fail, Handoff

#: Chunks are put into one frame up to so many bytes, and a longer chunk is cut: far below what a frame may have, and
#: small enough that the peer holds no more than this of a frame that is not whole.
BATCH_BYTES = 4 * 1024 * 1024
#: An item of a frame takes so many bytes at most beside its data.
_ITEM_BYTES = 16
#: And a frame so many beside its items.
_FRAME_BYTES = 16
#: And an end so many, roughly, while it waits.
_END_BYTES = 256


class Outbox:
    """Not shared between connections. Every `id`'s chunks precede its end."""

    __slots__ = ("_bound", "_channel", "_ends", "_held", "_items", "_loop", "_lost", "_writable")

    def __init__(
        self, channel: Channel, loop: asyncio.AbstractEventLoop, stream_buffer_bytes: int, lost: Callable[[int], None]
    ) -> None:
        """`lost(id)`: bytes of `id` could not be sent, which its end will say; nothing more of it is wanted."""
        self._channel = channel
        self._loop = loop
        self._bound = stream_buffer_bytes
        self._lost = lost
        self._items: list[tuple[int, bytes]] = []  #: empty while the peer is too slow
        self._ends: list[Done | Fail | Handoff] = []
        self._held: dict[int, bytearray] = {}
        self._writable = True

    def chunk(self, id: int, data: bytes) -> bool:
        """Queue `data`. False: the peer is too slow and `id` is over its bound; nothing was queued."""
        items = self._items
        if not items:
            if not self._writable:
                return self._hold(id, data)
            if not self._ends:
                self._loop.call_soon(self._flush)
        items.append((id, data))
        return True

    def end(self, message: Done | Fail | Handoff) -> None:
        if not self._items and not self._ends and self._writable:
            self._loop.call_soon(self._flush)
        self._ends.append(message)

    def forget(self, id: int) -> None:
        """Drop what is held for `id`: nobody reads it any more."""
        self._held.pop(id, None)

    def held_bytes(self) -> int:
        """Bytes that wait for a peer that reads too slowly, an end counted as a short frame."""
        return sum(map(len, self._held.values())) + _END_BYTES * len(self._ends)

    def writable(self, writable: bool) -> None:
        self._writable = writable
        if writable:
            self._items = [(id, bytes(self._held.pop(id))) for id in list(self._held)]
            self._flush()
            return
        # What this tick gathered waits before what it still gathers, whatever its size: it was taken already.
        items, self._items = self._items, []
        for id, data in items:
            self._held.setdefault(id, bytearray()).extend(data)

    def _hold(self, id: int, data: bytes) -> bool:
        held = self._held.setdefault(id, bytearray())
        # A single piece is taken whatever its size: a whole JSON body must not depend on the peer's pace.
        if held and len(held) + len(data) > self._bound:
            self.forget(id)
            return False
        held.extend(data)
        return True

    def _flush(self) -> None:
        if not self._writable:
            return
        items, self._items = self._items, []
        ends, self._ends = self._ends, []
        if items:
            try:
                self._send_items(items)
            except Exception as error:
                ends = self._without(items, ends, error)
        for message in ends:
            self._send_end(message)

    def _send_items(self, items: list[tuple[int, bytes]]) -> None:
        # Encoded at once and measured then: to add up the sizes first takes longer, of nearly every tick for nothing.
        try:
            self._channel.send(Chunks(items), BATCH_BYTES + _FRAME_BYTES)
        except ProtocolError:
            for batch in batches(items):
                self._channel.send(Chunks(batch))

    def _without(
        self, items: list[tuple[int, bytes]], ends: list[Done | Fail | Handoff], error: Exception
    ) -> list[Done | Fail | Handoff]:
        """The ends of this tick after some of `items` were not sent: none of those answers may end well."""
        self._loop.call_exception_handler({"message": "chunks could not be sent", "exception": error})
        lost = dict.fromkeys(id for id, _ in items)
        for id in lost:
            self._lost(id)
        return [end for end in ends if end.id not in lost] + [_failed(id, error) for id in lost]

    def _send_end(self, message: Done | Fail | Handoff) -> None:
        """An end always goes out: in the place of one that makes no frame (too large, not to be encoded) an error."""
        try:
            self._channel.send(message)
        except Exception as error:
            self._loop.call_exception_handler({"message": "an answer's end could not be sent", "exception": error})
            self._channel.send(_failed(message.id, error))


def batches(items: list[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    """`items`, in order, in lists that make a frame each."""
    batch: list[tuple[int, bytes]] = []
    size = 0
    for id, data in items:
        for at in range(0, len(data), BATCH_BYTES):
            piece = data[at : at + BATCH_BYTES]
            if batch and size + len(piece) > BATCH_BYTES:
                yield batch
                batch, size = [], 0
            batch.append((id, piece))
            size += len(piece) + _ITEM_BYTES
    if batch:
        yield batch


def _failed(id: int, error: Exception) -> Fail:
    why = engine_failed(f"the answer could not be sent: {error}")
    return Fail(id=id, status=why.status, body=why.body, code=why.code)
