"""What was read is parsed in pieces: each ends at most one request, whatever was sent and however it was cut."""

from typing import Any

import httptools
from hypothesis import given, settings
from hypothesis import strategies as st

from router.native.unread import BODY_PIECE_BYTES, PIECE_BYTES, Unread

REQUESTS = [
    b"GET / HTTP/1.1\r\nhost:a\r\n\r\n",
    b"\r\nGET / HTTP/1.1\r\nhost:a\r\n\r\n",
    b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n\r\n\r\n\r\n\r\nx",
    b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
    b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\na\r\n\r\n4\r\n\r\n\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx: y\r\n\r\n",
    b"GET / HTTP/1.1\r\nlong: %b\r\n\r\n" % (b"a" * (PIECE_BYTES - 20)),
]


class Counted:
    """As `Reader`: knows how much of a body is still to come, and counts what was ended."""

    def __init__(self) -> None:
        self.unread = Unread()
        self.midway = False
        self.left = self.ended = 0
        self.headers: dict[bytes, bytes] = {}
        self.on_header = self.headers.__setitem__
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self.midway = True  # also where it begins behind the end of another, in one piece

    def on_headers_complete(self) -> None:
        self.left = int(self.headers.get(b"content-length", b"0"))
        self.headers.clear()

    def on_body(self, data: bytes) -> None:
        self.left = max(0, self.left - len(data))

    def on_message_complete(self) -> None:
        self.ended += 1
        self.midway = False

    def read(self, data: bytes) -> list[int]:
        """How many requests each piece of `data` ended."""
        counts = []
        self.unread.add(data, self.midway)
        while len(self.unread):
            before, self.midway = self.ended, True
            self.parser.feed_data(self.unread.piece(self.left))
            counts.append(self.ended - before)
        return counts


@settings(max_examples=300, deadline=None)
@given(
    picks=st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=12),
    cuts=st.lists(st.one_of(st.integers(1, 40), st.integers(1, 20_000)), max_size=12),
)
def test_a_piece_ends_at_most_one_request_and_nothing_is_lost(picks: list[bytes], cuts: list[int]) -> None:
    data, counted, at = b"".join(picks), Counted(), 0
    for size in [*cuts, len(data)]:
        if data[at : at + size]:
            assert max(counted.read(data[at : at + size])) <= 1
        at += size
    assert counted.ended == len(picks)


def test_pieces_are_bounded() -> None:
    unread: Any = Unread()
    unread.add(b"1\r\na\r\n" * 100_000, False)
    sizes = []
    while len(unread):
        sizes.append(len(unread.piece(0)))
    assert sum(sizes) == 600_000
    assert max(sizes) == PIECE_BYTES
    unread.add(bytes(200_000), True)
    assert len(unread.piece(150_000)) == BODY_PIECE_BYTES


def test_what_comes_before_the_rest_is_parsed_is_kept_behind_it() -> None:
    unread = Unread()
    unread.add(REQUESTS[0] + REQUESTS[0] + b"GET", False)
    assert bytes(unread.piece(0)) == REQUESTS[0]
    unread.add(b" / HTTP/1.1\r\n\r\n", False)
    assert len(unread) == len(REQUESTS[0] + b"GET / HTTP/1.1\r\n\r\n")
    assert bytes(unread.piece(0)) == REQUESTS[0]
    assert bytes(unread.piece(0)) == b"GET / HTTP/1.1\r\n\r\n"
    assert len(unread) == 0


def test_a_head_and_its_whole_body_are_one_piece() -> None:
    unread, request = Unread(), b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}"
    unread.add(request, False)
    assert bytes(unread.piece(0)) == request
    unread.add(request + request, False)
    assert bytes(unread.piece(0)) == request[:-2]
    assert bytes(unread.piece(2)) == b"{}"
    assert bytes(unread.piece(0)) == request
