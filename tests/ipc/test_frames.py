"""Frames: any split of any sequence decodes equal, bytes are copied once, and the bounds hold."""

import statistics
import time
import tracemalloc
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import ProtocolError
from router.ipc.frames import FrameDecoder, encode_frame
from router.ipc.messages import (
    MAX_FRAME_BYTES,
    PROTOCOL_VERSION,
    Abort,
    Chunks,
    Control,
    Done,
    Fail,
    Handoff,
    Hello,
    Load,
    Message,
    Submit,
)
from router.types import Timings, Usage
from tests.ipc.decoding import unfinished_bytes

ids = st.integers(0, 2**63)
count = st.integers(0, 2**40)
text = st.text(max_size=50)
data = st.binary(max_size=300)
share = st.floats(0, 1)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Hello, model=text, capabilities=st.lists(text, max_size=4).map(tuple), context_tokens=count, secret=data),
    st.builds(Submit, id=ids, kind=st.sampled_from(["chat", "completions"]), body=data, request_id=text, watch=data),
    st.builds(Abort, ids),
    st.builds(Chunks, st.lists(st.tuples(ids, data), max_size=8)),
    st.builds(Done, id=ids, usage=st.builds(Usage, count, count, count), timings=st.builds(Timings, share, share)),
    st.builds(Fail, id=ids, status=st.integers(100, 599), body=data, code=text, retryable=st.booleans()),
    st.builds(Handoff, id=ids, text=text, tokens=count, why=text),
    st.builds(Load, running=count, waiting=count, kv_use=share),
    st.builds(
        Control, st.sampled_from(["ping", "pong", "drain", "drained", "sleep", "wake", "stop", "done", "refused"]), text
    ),
)


@given(sent=st.lists(messages, max_size=8), cuts=st.lists(st.integers(0, 10_000), max_size=20))
def test_any_split_of_any_sequence_decodes_equal(sent: list[Message], cuts: list[int]) -> None:
    stream = b"".join(encode_frame(message) for message in sent)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    decoder = FrameDecoder()
    received = [m for a, b in pairwise(edges) for m in decoder.feed(stream[a:b])]
    assert received == sent
    assert unfinished_bytes(decoder) == 0


@given(st.lists(messages, min_size=1, max_size=3))
def test_byte_by_byte(sent: list[Message]) -> None:
    stream = b"".join(encode_frame(message) for message in sent)
    decoder = FrameDecoder()
    received: list[Message] = []
    for i in range(len(stream)):
        received += decoder.feed(stream[i : i + 1])
        assert unfinished_bytes(decoder) <= len(stream)
    assert received == sent


def test_a_read_costs_the_same_however_much_came_before() -> None:
    """A body of 48 MB in 64 KB reads: copying what is held at each read would take 18 GB of copies, 10 ms a read."""
    frame = bytes(encode_frame(Submit(id=1, kind="chat", body=bytes(48 << 20))))
    decoder, spent = FrameDecoder(), []
    for at in range(0, len(frame) - 65_536, 65_536):
        begun = time.thread_time()
        assert decoder.feed(frame[at : at + 65_536]) == []
        spent.append(time.thread_time() - begun)
    assert statistics.median(spent[-50:]) < 0.002
    (message,) = decoder.feed(frame[at + 65_536 :])
    assert len(message.body) == 48 << 20


def test_many_frames_and_a_part_in_one_read() -> None:
    sent: list[Message] = [Abort(i) for i in range(1000)]
    stream = b"".join(encode_frame(message) for message in sent)
    decoder = FrameDecoder()
    assert decoder.feed(stream[:-1]) == sent[:-1]
    assert unfinished_bytes(decoder) > 0
    assert decoder.feed(stream[-1:]) == sent[-1:]


def test_a_frame_over_the_bound_is_refused_before_it_is_read() -> None:
    decoder = FrameDecoder(max_frame_bytes=100)
    with pytest.raises(ProtocolError, match="frame of 101 bytes; at most 100 are accepted"):
        decoder.feed((101).to_bytes(4, "little"))
    assert unfinished_bytes(decoder) == 0


def test_a_frame_that_no_peer_would_take_is_not_sent() -> None:
    with pytest.raises(ProtocolError, match=f"at most {MAX_FRAME_BYTES} are accepted"):
        encode_frame(Submit(id=1, kind="chat", body=bytes(MAX_FRAME_BYTES)))


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        b"\x91\x63",
        b"\x92\x02\xa1x",
        b"\x93\x01\x01\xa5wrong",
        b"\x92\x08\xa5hover",
        b"\xdd\xff\xff\xff\xff",
    ],
)
def test_malformed_frames_are_protocol_errors(frame: bytes) -> None:
    with pytest.raises(ProtocolError, match="malformed frame: "):
        FrameDecoder().feed(len(frame).to_bytes(4, "little") + frame)


def test_messages_before_a_malformed_frame_are_returned_and_the_error_is_kept() -> None:
    decoder = FrameDecoder()
    assert decoder.feed(encode_frame(Abort(1)) + b"\x01\x00\x00\x00\xc1" + encode_frame(Abort(2))) == [Abort(1)]
    assert str(decoder.error).startswith("malformed frame: ")


def framed(content: bytes) -> bytes:
    return len(content).to_bytes(4, "little") + content


DEEP = b"\x91" * 100_000 + b"\xc0"


@pytest.mark.parametrize("version", [1, 3, 200])
def test_a_hello_of_another_version_that_cannot_be_read_tells_both_versions(version: int) -> None:
    hello = msgspec.msgpack.encode([0, version, {"a role": "of tomorrow"}])
    with pytest.raises(ProtocolError, match=rf"^expected protocol version {PROTOCOL_VERSION}, got {version}: "):
        FrameDecoder().feed(framed(hello))


@pytest.mark.parametrize("id", [7, 200, 2**16, 2**33, 2**63])
@pytest.mark.parametrize(
    "rest",
    [
        [4, ["many", 1, 0], "stop", [0.1, 0.2]],
        [4, [1, 1, 0], b"not text", [0.1, 0.2]],
        [4, [1, 1.5, 0]],
        [5, 500.5, b"{}"],
        [5, "500", b"{}"],
        [6, 7, 3, "why"],
    ],
    ids=str,
)
def test_one_answers_end_that_cannot_be_read_fails_that_answer_alone(id: int, rest: list[object]) -> None:
    unreadable = framed(msgspec.msgpack.encode([rest[0], id, *rest[1:]]))
    good = bytes(encode_frame(Done(id=9)))
    before, fail, after = FrameDecoder().feed(good + unreadable + good)
    assert before == after == Done(id=9)
    assert isinstance(fail, Fail)
    assert (fail.id, fail.status, fail.code) == (id, 502, "engine_failed")
    assert "cannot be read" in msgspec.json.decode(fail.body)["error"]["message"]


@pytest.mark.parametrize(
    "content",
    [
        b"\x93\x04\x07" + DEEP,
        b"\xdc\x00\x03\x04\x07" + DEEP,
        b"\xdd\x00\x00\x00\x03\x04\xcc\x07" + DEEP,
        b"\x94\x04\x07\x93\x01\x01\x00\xa2\xff\xff",  # not UTF-8
        b"\x9f\x05\x07",  # cut
    ],
    ids=["too deep", "too deep, 16", "too deep, 32", "not utf-8", "cut"],
)
def test_an_end_that_is_malformed_behind_its_id_fails_that_answer_alone(content: bytes) -> None:
    (fail,) = FrameDecoder().feed(framed(content))
    assert isinstance(fail, Fail)
    assert fail.id == 7


def test_load_that_cannot_be_read_is_left_out() -> None:
    wrong = msgspec.msgpack.encode([7, "many", 1])
    good = bytes(encode_frame(Load(running=3)))
    assert FrameDecoder().feed(framed(wrong) + good) == [Load(running=3)]


def test_a_frame_takes_memory_as_its_bytes_come_not_as_its_length_claims() -> None:
    claim = MAX_FRAME_BYTES.to_bytes(4, "little")
    tracemalloc.start()
    try:
        decoders = [FrameDecoder() for _ in range(20)]
        for decoder in decoders:
            assert decoder.feed(claim + b"\x95") == []
            assert decoder.feed(bytes(1000)) == []
            assert unfinished_bytes(decoder) == 1001
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_old_and_new_peers_understand_each_other() -> None:
    shorter = msgspec.msgpack.encode([4, 7])  # a Done from before usage was appended
    longer = msgspec.msgpack.encode([2, 9, "a field of tomorrow", 1])
    frames = b"".join(len(f).to_bytes(4, "little") + f for f in (shorter, longer))
    assert FrameDecoder().feed(frames) == [Done(id=7), Abort(9)]
