"""Messages to frames and back: the length prefix, msgpack, and the bounds on both. Knows no connection."""

from struct import Struct

import msgspec

from router.errors import ProtocolError
from router.ipc.messages import MAX_FRAME_BYTES, Message

HEADER_BYTES = 4
_length = Struct("<I")
_decode = msgspec.msgpack.Decoder[Message](Message).decode
_encoder = msgspec.msgpack.Encoder()


def encode_frame(message: Message) -> bytearray:
    """`message` as one frame, length prefix included. Raises `ProtocolError` when it is larger than peers accept."""
    frame = bytearray(HEADER_BYTES)
    _encoder.encode_into(message, frame, HEADER_BYTES)
    length = len(frame) - HEADER_BYTES
    if length > MAX_FRAME_BYTES:
        raise ProtocolError(f"frame of {length} bytes; at most {MAX_FRAME_BYTES} are accepted")
    _length.pack_into(frame, 0, length)
    return frame


class FrameDecoder:
    """Splits a byte stream into messages. Keeps at most one unfinished frame, of a bounded size.

    A byte is copied at most once however small the reads are: while a frame is unfinished its pieces are only
    appended, and nothing is looked at before the frame is whole.
    """

    __slots__ = ("_buffer", "_max_frame_bytes", "_need")

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._need = 0  # bytes that `_buffer` must hold before there is anything to do
        self._max_frame_bytes = max_frame_bytes

    def feed(self, data: bytes | bytearray) -> list[Message]:
        """Messages completed by `data`, in order. Raises `ProtocolError` on a frame that is too large or malformed.

        After an error the stream has no meaning any more: drop the connection.
        """
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._need:
                return []
            data, self._buffer = self._buffer, bytearray()
        messages: list[Message] = []
        at, size = 0, len(data)
        view = memoryview(data)
        while size - at >= HEADER_BYTES:
            length: int = _length.unpack_from(data, at)[0]
            end = at + HEADER_BYTES + length
            if length > self._max_frame_bytes:
                raise ProtocolError(f"frame of {length} bytes; at most {self._max_frame_bytes} are accepted")
            if end > size:
                self._need = HEADER_BYTES + length
                self._buffer += view[at:]
                return messages
            try:
                messages.append(_decode(view[at + HEADER_BYTES : end]))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise ProtocolError(f"malformed frame: {error}") from error
            at = end
        if at < size:
            self._need = HEADER_BYTES
            self._buffer += view[at:]
        return messages

    def unfinished_bytes(self) -> int:
        """Bytes held of a frame that is not whole yet."""
        return len(self._buffer)

