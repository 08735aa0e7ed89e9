"""Messages to frames and back: the length prefix, msgpack, and the bounds on both. Knows no connection."""

from struct import Struct

import msgspec

from router.errors import ProtocolError
from router.ipc.messages import MAX_FRAME_BYTES, PROTOCOL_VERSION, Done, Fail, Handoff, Hello, Load, Message

HEADER_BYTES = 4
_length = Struct("<I")
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_decode = _decoder.decode
_encode = msgspec.msgpack.Encoder().encode
#: What stands before a frame's content: its length in bytes.
prefix_of = _length.pack


def encode_content(message: Message, most_bytes: int = MAX_FRAME_BYTES) -> bytes:
    """`message` as a frame without its length prefix. Raises `ProtocolError` when it is longer than `most_bytes`, by
    default what peers accept."""
    content = _encode(message)
    if len(content) > most_bytes:
        raise ProtocolError(f"frame of {len(content)} bytes; at most {most_bytes} are accepted")
    return content


def encode_frame(message: Message) -> bytes:
    """`message` as one frame, length prefix included. Raises `ProtocolError` when it is larger than peers accept."""
    content = encode_content(message)
    return prefix_of(len(content)) + content


class FrameDecoder:
    """Splits a byte stream into messages. Holds at most one unfinished frame, of a bounded size.

    A frame that is not whole grows with its bytes as they come, whatever length it claims, and without being copied
    anew for each read. Most reads hold whole frames; those are decoded where they lie.
    """

    __slots__ = ("_frame", "_head", "_length", "_max_frame_bytes", "error")

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._head = b""  # of a header that is not whole yet
        self._frame: bytearray | None = None  # what has come of a frame that is not whole yet
        self._length = 0  # of that frame
        self._max_frame_bytes = max_frame_bytes
        self.error: ProtocolError | None = None  #: what came behind the messages that `feed` returned last

    def feed(self, data: bytes | bytearray) -> list[Message]:
        """Messages completed by `data`, in order. The end of one answer that cannot be read is a
        `Fail` of its id; load that cannot be read is left out.

        Raises `ProtocolError` on a frame that is too large or malformed otherwise, where no message comes before it;
        else those are returned and it is `error`. After that the stream has no meaning any more: drop the connection.
        """
        messages: list[Message] = []
        try:
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
                    self._frame, self._length = bytearray(view[begin:]), length
                    return messages
                try:
                    messages.append(_decode(view[begin:at]))
                except _UNREADABLE as error:
                    messages += _instead_of(view[begin:at], error)
            if at < size:
                self._head = bytes(view[at:])
        except ProtocolError as error:
            if not messages:
                raise
            self.error = error
        return messages

    @property
    def between_frames(self) -> bool:
        """Whether all that was fed has been told."""
        return self._frame is None and not self._head

    def _fill(self, frame: bytearray, data: bytes | bytearray, messages: list[Message]) -> int:
        """Add the front of `data` to `frame`, as much as belongs to it; how many bytes that was."""
        take = min(len(data), self._length - len(frame))
        frame += data if take == len(data) else memoryview(data)[:take]
        if len(frame) == self._length:
            self._frame = None
            try:
                messages.append(_decode(frame))
            except _UNREADABLE as error:
                messages += _instead_of(memoryview(frame), error)
        return take


def _instead_of(frame: memoryview, error: Exception) -> tuple[Message, ...]:
    """What is taken to have been said by a frame that cannot be read."""
    tag, id = _tag_and_id(frame)
    if tag in _ENDS and id is not None:
        return (Fail(id=id, status=502, body=_UNREADABLE_END, code="engine_failed"),)
    if tag == _HELLO and id is not None and id != PROTOCOL_VERSION:  # the number behind it is its version
        raise ProtocolError(other_version(id)) from error
    if tag == _LOAD:  # the next one will tell
        return ()
    raise ProtocolError(f"malformed frame: {error}") from error


def other_version(version: int) -> str:
    """What to tell a peer of another protocol version than ours."""
    why = "this frontend and this engine host are of releases that do not go together"
    return f"expected protocol version {PROTOCOL_VERSION}, got {version}: {why}"


#: What decoding raises.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
#: Tags of frames that may be unreadable without taking the connection, and with it every other answer, along.
_ENDS = frozenset(struct.__struct_config__.tag for struct in (Done, Fail, Handoff))
_HELLO = Hello.__struct_config__.tag
_LOAD = Load.__struct_config__.tag
_UNREADABLE_END = (
    b'{"error":{"message":"the engine ended this answer in a way that cannot be read",'
    b'"type":"engine_error","param":null,"code":"engine_failed"}}'
)


def _tag_and_id(frame: memoryview) -> tuple[int, int | None]:
    """The tag of a frame whose rest cannot be read, and the whole number behind it, if it is one."""
    start = bytes(frame[:15])
    at = {0xDC: 3, 0xDD: 5}.get(start[0], 1) if start else 0  # behind the array's length
    if len(start) < at + 2:
        return -1, None
    tag, first = start[at], start[at + 1]
    if first < 0x80:
        return tag, first
    size = 1 << (first - 0xCC) if 0xCC <= first <= 0xCF else 0
    number = start[at + 2 : at + 2 + size]
    return tag, int.from_bytes(number, "big") if size and len(number) == size else None
