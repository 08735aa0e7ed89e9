"""The one writer of answers: what it writes for a stream, for a whole answer, for HTTP/1.0, and after its end."""

import asyncio
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import EngineFailed, RouterError
from router.frontend.reply import Reply, lines
from router.native.writer import Writer


class Wire:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False


class Client(Writer):
    def __init__(self) -> None:
        self.wire = Wire()
        self.attach(cast(asyncio.Transport, self.wire))


def reply(*, stream: bool = True, old_client: bool = False, most_bytes: int = 10) -> tuple[Reply, list[bytes]]:
    client = Client()
    return Reply(client, stream, old_client, most_bytes), client.wire.sent


def test_a_streams_head_leaves_with_its_first_chunk_and_each_chunk_is_framed() -> None:
    made, sent = reply()
    made.begin(b"HEAD\r\n\r\n")
    assert sent == []
    for piece in (b"a", b"", b"b" * 16):
        made.chunk(piece)
    made.end()
    assert sent == [b"HEAD\r\n\r\n1\r\na\r\n", b"10\r\n" + b"b" * 16 + b"\r\n", b"0\r\n\r\n"]


def test_a_stream_without_chunks_is_its_head_what_ends_it_and_the_last_chunk() -> None:
    made, sent = reply()
    made.begin(b"HEAD\r\n\r\n")
    made.end(b"data: [DONE]\n\n")
    assert sent == [b"HEAD\r\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"]


def test_a_stream_for_http_1_0_has_no_frames() -> None:
    made, sent = reply(old_client=True)
    made.begin(b"HEAD\r\n\r\n")
    made.chunk(b"a")
    made.chunk(b"b")
    made.end(b"c")
    assert sent == [b"HEAD\r\n\r\na", b"b", b"c"]


def test_a_begun_stream_that_fails_ends_in_an_error_event_and_done() -> None:
    made, sent = reply()
    made.begin(b"HEAD")
    made.chunk(b"x")
    made.fail(EngineFailed("the engine was lost"))
    _, last = sent
    assert b'data: {"error":{"message":"the engine was lost","type":"engine_error"' in last
    assert last.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


@pytest.mark.parametrize("pieces", [(b"0123456789",), (b"01", b"234", b"56789")])
def test_a_whole_answer_is_collected_and_nothing_is_sent(pieces: tuple[bytes, ...]) -> None:
    made, sent = reply(stream=False)
    for piece in pieces:
        made.chunk(piece)
    assert (made.collected(), made.over, sent) == (b"0123456789", False, [])


def test_an_answer_of_more_than_10_bytes_is_cut_at_10() -> None:
    cuts: list[RouterError] = []

    class Cut(Reply):
        def cut(self, error: RouterError) -> None:
            cuts.append(error)

    made = Cut(Client(), False, False, 10)
    made.chunk(b"0123456789")
    assert cuts == []
    made.chunk(b"x")
    assert [(type(error), error.message) for error in cuts] == [
        (EngineFailed, "the answer is larger than 10 bytes (`server.limits.answer_bytes`)")
    ]


def test_after_close_chunks_go_nowhere() -> None:
    for stream in (False, True):
        made, sent = reply(stream=stream)
        made.begin(b"HEAD")
        made.close()
        made.chunk(b"late")
        assert (made.over, made.collected(), sent) == (True, b"", [])


ids = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=300)
scores = st.none() | st.floats(0, 1)


@given(ids, ids, st.floats(0, 1e6), scores, scores)
def test_head_lines_are_those_that_python_formats(
    request_id: str, decision_id: str, overhead_s: float, score: float | None, threshold: float | None
) -> None:
    about = "x-headgate-model: small\r\nx-headgate-reason: utility\r\n"
    expected = (
        f"x-request-id: {request_id}\r\n{about}x-headgate-overhead-ms: {overhead_s * 1e3:.3f}\r\n"
        f"x-headgate-decision-id: {decision_id}\r\n"
    )
    expected += "" if score is None else f"x-headgate-score: {score:.4f}\r\n"
    expected += "" if threshold is None else f"x-headgate-threshold: {threshold:.4f}\r\n"
    assert lines(request_id, about, overhead_s, decision_id, score, threshold) == expected
