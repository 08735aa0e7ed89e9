"""Frames: any split of any sequence decodes equal, bytes are copied once, and the bounds hold."""

import statistics
import time
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import ProtocolError
from router.ipc.frames import FrameDecoder, encode_frame
from router.ipc.messages import (
    MAX_FRAME_BYTES,
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

ids = st.integers(0, 2**63)
count = st.integers(0, 2**40)
text = st.text(max_size=50)
data = st.binary(max_size=300)
share = st.floats(0, 1)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Hello, model=text, capabilities=st.lists(text, max_size=4).map(tuple), context_tokens=count, nonce=data),
    st.builds(
        Submit, id=ids, kind=st.sampled_from(["chat", "completions"]), body=data, request_id=text, overrides=data
    ),
    st.builds(Abort, ids),
    st.builds(Chunks, st.lists(st.tuples(ids, data), max_size=8)),
    st.builds(Done, id=ids, usage=st.builds(Usage, count, count, count), timings=st.builds(Timings, share, share)),
    st.builds(Fail, id=ids, status=st.integers(100, 599), body=data, code=text, retryable=st.booleans()),
    st.builds(Handoff, id=ids, text=text, tokens=count, why=text),
    st.builds(Load, running=count, waiting=count, kv_use=share, asleep=st.booleans()),
    st.builds(Control, st.sampled_from(["ping", "pong", "drain", "drained", "sleep", "wake", "done"]), text),
)


@given(sent=st.lists(messages, max_size=8), cuts=st.lists(st.integers(0, 10_000), max_size=20))
def test_any_split_of_any_sequence_decodes_equal(sent: list[Message], cuts: list[int]) -> None:
    stream = b"".join(encode_frame(message) for message in sent)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    decoder = FrameDecoder()
    received = [m for a, b in pairwise(edges) for m in decoder.feed(stream[a:b])]
    assert received == sent
    assert decoder.unfinished_bytes() == 0


@given(st.lists(messages, min_size=1, max_size=3))
def test_byte_by_byte(sent: list[Message]) -> None:
    stream = b"".join(encode_frame(message) for message in sent)
    decoder = FrameDecoder()
    received: list[Message] = []
    for i in range(len(stream)):
        received += decoder.feed(stream[i : i + 1])
        assert decoder.unfinished_bytes() <= len(stream)
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
    assert decoder.unfinished_bytes() > 0
    assert decoder.feed(stream[-1:]) == sent[-1:]


def test_a_frame_over_the_bound_is_refused_before_it_is_read() -> None:
    decoder = FrameDecoder(max_frame_bytes=100)
    with pytest.raises(ProtocolError, match="frame of 101 bytes; at most 100 are accepted"):
        decoder.feed((101).to_bytes(4, "little"))
    assert decoder.unfinished_bytes() == 0


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


def test_old_and_new_peers_understand_each_other() -> None:
    shorter = msgspec.msgpack.encode([4, 7])  # a Done from before usage was appended
    longer = msgspec.msgpack.encode([2, 9, "a field of tomorrow", 1])
    frames = b"".join(len(f).to_bytes(4, "little") + f for f in (shorter, longer))
    assert FrameDecoder().feed(frames) == [Done(id=7), Abort(9)]
