"""What has been read of one connection and not parsed yet, cut so that the parser ends at most one request a piece.

Only so can reading stop at a bound: the parser has no way to stop within what it is given. Knows the blank line that
ends a head or a chunked body, no other grammar. Native because most of a request's calls to the way it is read are
these.
"""

#: Of a head or a chunked body: a bound on the callbacks that one piece can cause.
PIECE_BYTES: int
#: Of a body whose length is known.
BODY_PIECE_BYTES: int

class Unread:
    """Bytes in the order in which they came. Not copied until they are parsed."""

    size: int  #: of all that is unread
    def __init__(self) -> None: ...
    def __len__(self) -> int: ...
    def add(self, data: bytes, midway: bool) -> None:
        """`midway`: a request has begun."""

    def piece(self, body_left: int) -> bytes | memoryview:
        """The next piece; `body_left`: bytes of a body whose length is known. Without unread bytes, none."""

    def clear(self) -> None: ...
