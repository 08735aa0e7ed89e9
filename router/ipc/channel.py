"""One framed connection between a frontend and an engine host: bytes in, messages out, and back.

Writes are gathered and leave once per event-loop tick. Knows nothing of what the messages mean.
"""

import asyncio
from collections.abc import Callable
from socket import SO_PEERCRED, SOL_SOCKET
from struct import Struct
from typing import Protocol, cast

from router.errors import ProtocolError
from router.ipc.frames import FrameDecoder, encode_content, encode_frame, prefix_of
from router.ipc.messages import MAX_FRAME_BYTES, Message

__all__ = ["Channel", "FrameDecoder", "Handler", "encode_frame"]

#: Gathered frames up to this size are joined to one buffer; larger ones are handed over one by one, uncopied.
_JOIN_BYTES = 256 * 1024
_credentials = Struct("3i")  # process, user, group


class Handler(Protocol):
    """Who listens on a channel. All calls come from the event loop's thread."""

    def connected(self, channel: "Channel") -> None: ...

    def received(self, message: Message) -> None: ...

    def lost(self, error: Exception | None) -> None:
        """The connection is gone; called once. `error` is None after an orderly end."""
        ...

    def writable(self, writable: bool) -> None:
        """The peer reads too slowly (False) or has caught up (True)."""
        ...


class Channel(asyncio.Protocol):
    """`asyncio` protocol of either end. Use with `loop.create_unix_connection` or `create_unix_server`."""

    __slots__ = ("_closed", "_decoder", "_handler", "_loop", "_out", "_out_bytes", "_transport", "shortcut")

    def __init__(self, handler: Handler, loop: asyncio.AbstractEventLoop) -> None:
        self._handler = handler
        self._loop = loop
        self._decoder = FrameDecoder()
        #: is given what was read and says how many bytes, in whole frames, it has taken from the start of it
        self.shortcut: Callable[[bytes], int] | None = None
        self._out: list[bytes | bytearray] = []
        self._out_bytes = 0
        self._closed = False
        self._transport: asyncio.Transport | None = None

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def peer_pid(self) -> int:
        """The process at the other end as the system tells, 0 where it does not."""
        socket = None if self._transport is None else self._transport.get_extra_info("socket")
        if socket is None:
            return 0
        credentials = socket.getsockopt(SOL_SOCKET, SO_PEERCRED, _credentials.size)
        return int(_credentials.unpack(credentials)[0])

    def send(self, message: Message, most_bytes: int = MAX_FRAME_BYTES) -> None:
        """Queue `message` for this tick's write. On a lost connection it goes nowhere: `lost` has said so.

        Raises `ProtocolError`, and queues nothing, when the frame would be larger than `most_bytes`, by default what
        any peer accepts.
        """
        if self._closed:
            return
        content = encode_content(message, most_bytes)
        prefix = prefix_of(len(content))
        if len(content) <= _JOIN_BYTES:
            self.send_frame(prefix + content)
        else:  # not copied
            self.send_frame(prefix)
            self.send_frame(content)

    def send_frame(self, frame: bytes | bytearray) -> None:
        """Queue what is already encoded: a frame with its length prefix, or the parts of one."""
        if self._closed:
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frame)
        self._out_bytes += len(frame)

    def close(self) -> None:
        """Write what is queued, then close."""
        self._flush()
        self._closed = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now; what is queued is dropped. `lost` follows."""
        self._closed = True
        self._out.clear()
        self._out_bytes = 0
        if self._transport is not None:
            self._transport.abort()

    def buffered_bytes(self) -> int:
        """Bytes queued here and not yet taken by the system."""
        return self._out_bytes + (0 if self._transport is None else self._transport.get_write_buffer_size())

    def _flush(self) -> None:
        out, self._out = self._out, []
        size, self._out_bytes = self._out_bytes, 0
        if not out or not self.open:
            return
        assert self._transport is not None
        if len(out) == 1:
            self._transport.write(out[0])
        elif size <= _JOIN_BYTES:
            self._transport.write(b"".join(out))
        else:
            for frame in out:
                self._transport.write(frame)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes, so there is nothing to assert.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=4 * 1024 * 1024)
        self._handler.connected(self)

    def data_received(self, data: bytes) -> None:
        try:
            if self.shortcut is not None and self._decoder.between_frames:
                taken = self.shortcut(data)
                if taken == len(data):
                    return
                data = data[taken:]
            for message in self._decoder.feed(data):
                self._handler.received(message)  # looked up anew: a handler may change it after its greeting
            if self._decoder.error is not None:
                raise self._decoder.error
        except ProtocolError as error:
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        if self._transport is not None:
            self._transport = None
            self._handler.lost(exc)

    def pause_writing(self) -> None:
        self._handler.writable(False)

    def resume_writing(self) -> None:
        self._handler.writable(True)

    def _fail(self, error: ProtocolError) -> None:
        self._closed = True
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
            self._handler.lost(error)
