"""Messages to frames and back: the length prefix, msgpack, and the bounds on both. Knows no connection."""

from struct import Struct

import msgspec

from router.errors import ProtocolError
from router.ipc.messages import MAX_FRAME_BYTES, Message

HEADER_BYTES = 4
_length = Struct("<I")
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_decode = _decoder.decode
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
    """Splits a byte stream into messages. Holds at most one unfinished frame, of a bounded size.

    A byte is copied at most once however small the reads are: as soon as a frame's length is known its room is made,
    and reads fill it. Most reads hold whole frames; those are decoded where they lie.
    """

    __slots__ = ("_filled", "_frame", "_head", "_max_frame_bytes")

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._head = b""  # of a header that is not whole yet
        self._frame: bytearray | None = None  # that is being filled
        self._filled = 0
        self._max_frame_bytes = max_frame_bytes

    def feed(self, data: bytes | bytearray) -> list[Message]:
        """Messages completed by `data`, in order. Raises `ProtocolError` on a frame that is too large or malformed.

        After an error the stream has no meaning any more: drop the connection.
        """
        messages: list[Message] = []
        at, size = 0, len(data)
        if self._frame is not None:
            at = self._fill(self._frame, data, messages)
        elif self._head:
            data, self._head = self._head + data, b""
            size = len(data)
        view = memoryview(data)
        while size - at >= HEADER_BYTES:
            length: int = _length.unpack_from(data, at)[0]
            if length > self._max_frame_bytes:
                raise ProtocolError(f"frame of {length} bytes; at most {self._max_frame_bytes} are accepted")
            begin = at + HEADER_BYTES
            at = begin + length
            if at > size:
                self._begin(length, view[begin:])
                return messages
            messages.append(_decode_checked(view[begin:at]))
        if at < size:
            self._head = bytes(view[at:])
        return messages

    @property
    def between_frames(self) -> bool:
        """Whether all that was fed has been told."""
        return self._frame is None and not self._head

    def unfinished_bytes(self) -> int:
        """Bytes held of a frame that is not whole yet."""
        return len(self._head) if self._frame is None else len(self._frame)

    def _begin(self, length: int, part: memoryview) -> None:
        """Make room for a frame, of which `part` has come."""
        self._frame = bytearray(length)
        self._frame[: len(part)] = part
        self._filled = len(part)

    def _fill(self, frame: bytearray, data: bytes | bytearray, messages: list[Message]) -> int:
        """Put the front of `data` where it belongs in `frame`; how many bytes that took."""
        take = min(len(data), len(frame) - self._filled)
        frame[self._filled : self._filled + take] = memoryview(data)[:take]
        self._filled += take
        if self._filled == len(frame):
            self._frame = None
            messages.append(_decode_checked(memoryview(frame)))
        return take


def _decode_checked(frame: memoryview) -> Message:
    try:
        return _decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"malformed frame: {error}") from error
