"""What has been read of one connection and not parsed yet, cut so that the parser ends at most one request a piece.

Only so can reading stop at a bound: the parser has no way to stop within what it is given. Knows the blank line that
ends a head or a chunked body, no other grammar.
"""

#: Of a head or a chunked body: a bound on the callbacks that one piece can cause.
PIECE_BYTES = 16 * 1024
#: Of a body whose length is known.
BODY_PIECE_BYTES = 64 * 1024
_BLANK_LINE = b"\r\n\r\n"


class Unread:
    """Bytes in the order in which they came. Not copied until they are parsed."""

    __slots__ = ("_at", "_data", "_midway")

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._midway = False  #: the data may begin within a blank line

    def __len__(self) -> int:
        return len(self._data) - self._at

    def add(self, data: bytes, *, midway: bool) -> None:
        """`midway`: a request has begun."""
        if self._at == len(self._data):
            self._data, self._midway = data, midway
        else:
            self._data = self._data[self._at :] + data
        self._at = 0

    def piece(self, body_left: int) -> bytes | memoryview:
        """The next piece; `body_left`: bytes of a body whose length is known. Without unread bytes, none."""
        data, at = self._data, self._at
        end = at + min(body_left, BODY_PIECE_BYTES) if body_left else self._end_of_request(data, at)
        end = min(end, len(data))
        self._midway = False
        if at == 0 and end == len(data):
            self.clear()
            return data
        self._at = end
        return memoryview(data)[at:end]

    def clear(self) -> None:
        self._data = b""
        self._at = 0

    def _end_of_request(self, data: bytes, at: int) -> int:
        """Where the next head or chunked body may end, at most `PIECE_BYTES` from `at`."""
        if self._midway:
            end = data.find(b"\n", at, at + PIECE_BYTES) + 1
            if end:
                return end + 2 if data.startswith(b"\r\n", end) else end
        # A piece that was cut at the bound may have ended within a blank line.
        end = data.find(_BLANK_LINE, max(at - 3, 0), at + PIECE_BYTES)
        return end + len(_BLANK_LINE) if end >= 0 else at + PIECE_BYTES
