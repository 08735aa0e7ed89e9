"""What one connection is about to send: all chunks of one event-loop tick leave as one frame, ends right after them.

While the peer reads too slowly, chunks are held per stream, and a stream over its bound loses its own answer only.
Knows frames, not engines.
"""

import asyncio

from router.ipc.channel import Channel
from router.ipc.messages import Chunks, Done, Fail, Handoff


class Outbox:
    """Not shared between connections. Every `id`'s chunks precede its end."""

    __slots__ = ("_bound", "_channel", "_ends", "_held", "_held_bytes", "_items", "_loop", "_writable")

    def __init__(self, channel: Channel, loop: asyncio.AbstractEventLoop, stream_buffer_bytes: int) -> None:
        self._channel = channel
        self._loop = loop
        self._bound = stream_buffer_bytes
        self._items: list[tuple[int, bytes]] = []
        self._ends: list[Done | Fail | Handoff] = []
        self._held: dict[int, list[bytes]] = {}
        self._held_bytes: dict[int, int] = {}
        self._writable = True

    def chunk(self, id: int, data: bytes) -> bool:
        """Queue `data`. False: the peer is too slow and `id` is over its bound; nothing was queued."""
        if not self._writable:
            return self._hold(id, data)
        if not self._items and not self._ends:
            self._loop.call_soon(self._flush)
        self._items.append((id, data))
        return True

    def end(self, message: Done | Fail | Handoff) -> None:
        if not self._items and not self._ends and self._writable:
            self._loop.call_soon(self._flush)
        self._ends.append(message)

    def forget(self, id: int) -> None:
        """Drop what is held for `id`: nobody reads it any more."""
        self._held.pop(id, None)
        self._held_bytes.pop(id, None)

    def writable(self, writable: bool) -> None:
        self._writable = writable
        if writable:
            self._items += [(id, b"".join(pieces)) for id, pieces in self._held.items()]
            self._held.clear()
            self._held_bytes.clear()
            self._flush()

    def _hold(self, id: int, data: bytes) -> bool:
        # A single piece is taken whatever its size: a whole JSON body must not depend on the peer's pace.
        size = self._held_bytes.get(id, 0)
        if size and size + len(data) > self._bound:
            self.forget(id)
            return False
        self._held.setdefault(id, []).append(data)
        self._held_bytes[id] = size + len(data)
        return True

    def _flush(self) -> None:
        if not self._writable:
            # Became unwritable since: what this tick gathered waits with the rest, unbounded only by one tick.
            for id, data in self._items:
                self._hold_always(id, data)
            self._items = []
            return
        items, self._items = self._items, []
        ends, self._ends = self._ends, []
        if items:
            self._channel.send(Chunks(items))
        for message in ends:
            self._channel.send(message)

    def _hold_always(self, id: int, data: bytes) -> None:
        self._held.setdefault(id, []).append(data)
        self._held_bytes[id] = self._held_bytes.get(id, 0) + len(data)
