"""One framed connection between a frontend and an engine host: bytes in, messages out, and back.

Writes are gathered and leave once per event-loop tick. Knows nothing of what the messages mean.
"""

import asyncio
from typing import Protocol

import msgspec

from router.errors import ProtocolError
from router.ipc.messages import MAX_FRAME_BYTES, Message

_HEADER_BYTES = 4
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_encoder = msgspec.msgpack.Encoder()


def encode_frame(message: Message) -> bytes:
    """`message` as one frame, length prefix included."""
    frame = bytearray(_HEADER_BYTES)
    _encoder.encode_into(message, frame, _HEADER_BYTES)
    frame[:_HEADER_BYTES] = (len(frame) - _HEADER_BYTES).to_bytes(_HEADER_BYTES, "little")
    return bytes(frame)


class FrameDecoder:
    """Splits a byte stream into messages. Keeps at most one unfinished frame, of a bounded size."""

    __slots__ = ("_buffer", "_max_frame_bytes")

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._max_frame_bytes = max_frame_bytes

    def feed(self, data: bytes) -> list[Message]:
        """Messages completed by `data`, in order. Raises `ProtocolError` on a frame that is too large or malformed."""
        # Most reads hold whole frames: decode those straight from `data`, without touching the buffer.
        if self._buffer:
            self._buffer += data
            data = bytes(self._buffer)
        messages: list[Message] = []
        at, size = 0, len(data)
        while size - at >= _HEADER_BYTES:
            length = int.from_bytes(data[at : at + _HEADER_BYTES], "little")
            if length > self._max_frame_bytes:
                raise ProtocolError(f"frame of {length} bytes; at most {self._max_frame_bytes} are accepted")
            end = at + _HEADER_BYTES + length
            if end > size:
                break
            messages.append(self._decode(memoryview(data)[at + _HEADER_BYTES : end]))
            at = end
        self._buffer = bytearray(data[at:])
        return messages

    @staticmethod
    def _decode(frame: memoryview) -> Message:
        try:
            return _decoder.decode(frame)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise ProtocolError(f"malformed frame: {error}") from error


class Handler(Protocol):
    """Who listens on a channel. All calls come from the event loop's thread."""

    def connected(self, channel: "Channel") -> None: ...

    def received(self, message: Message) -> None: ...

    def lost(self, error: Exception | None) -> None: ...

    def writable(self, writable: bool) -> None:
        """The peer reads too slowly (False) or has caught up (True)."""
        ...


class Channel(asyncio.Protocol):
    """`asyncio` protocol of either end. Use with `loop.create_unix_connection` or `create_unix_server`."""

    __slots__ = ("_decoder", "_handler", "_loop", "_out", "_transport")

    def __init__(self, handler: Handler, loop: asyncio.AbstractEventLoop) -> None:
        self._handler = handler
        self._loop = loop
        self._decoder = FrameDecoder()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, message: Message) -> None:
        """Queue `message` for this tick's write. On a lost connection it goes nowhere: `lost` has said so."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(encode_frame(message))

    def close(self) -> None:
        """Write what is queued, then close."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def buffered_bytes(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=4 * 1024 * 1024)
        self._transport = transport
        self._handler.connected(self)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._decoder.feed(data)
        except ProtocolError as error:
            self._fail(error)
            return
        for message in messages:
            self._handler.received(message)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._transport = None
            self._handler.lost(exc)

    def pause_writing(self) -> None:
        self._handler.writable(False)

    def resume_writing(self) -> None:
        self._handler.writable(True)

    def _fail(self, error: ProtocolError) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
            self._handler.lost(error)
