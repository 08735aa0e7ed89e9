"""What leaves of one connection, in which frames and in which order: a channel that notes what it is given."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from router.errors import ProtocolError
from router.host.outbox import BATCH_BYTES, Outbox, batches
from router.ipc.frames import HEADER_BYTES, encode_content, encode_frame
from router.ipc.messages import MAX_FRAME_BYTES, Chunks, Done, Fail, Message
from router.types import Usage


class Noted:
    """In a channel's place: encodes as one does, and keeps the messages."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.largest = 0

    def send(self, message: Message, most_bytes: int = MAX_FRAME_BYTES) -> None:
        self.largest = max(self.largest, HEADER_BYTES + len(encode_content(message, most_bytes)))
        self.sent.append(message)

    def bytes_of(self, id: int) -> bytes:
        frames = [message for message in self.sent if isinstance(message, Chunks)]
        return b"".join(data for frame in frames for owner, data in frame.items if owner == id)

    def ends(self) -> list[Message]:
        return [message for message in self.sent if not isinstance(message, Chunks)]


@pytest.fixture
async def channel() -> Noted:
    return Noted()


@pytest.fixture
async def told() -> list[BaseException]:
    """What was reported to the event loop."""
    errors: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context["exception"]))
    return errors


Make = Callable[..., Outbox]


@pytest.fixture
async def make(channel: Noted) -> Make:
    def one(bound: int = 1 << 20, lost: Callable[[int], object] = bool) -> Outbox:
        return Outbox(channel, asyncio.get_running_loop(), bound, lost)  # type: ignore[arg-type]

    return one


async def tick() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_one_tick_above_the_bound_of_a_frame_leaves_in_several_frames(make: Make, channel: Noted) -> None:
    outbox = make()
    for id in range(20):
        outbox.chunk(id, bytes([id]) * 4_000_000)
        outbox.end(Done(id=id))
    await tick()
    assert [channel.bytes_of(id) == bytes([id]) * 4_000_000 for id in range(20)] == [True] * 20
    assert channel.largest <= BATCH_BYTES + 1000
    assert channel.ends() == [Done(id=id) for id in range(20)]
    assert channel.sent[-20:] == channel.ends()


async def test_one_chunk_larger_than_a_frame_is_cut_in_order(make: Make, channel: Noted) -> None:
    body = random.Random(7).randbytes(80_000_000)
    outbox = make()
    outbox.chunk(7, body)
    outbox.end(Done(id=7))
    await tick()
    assert channel.bytes_of(7) == body
    assert channel.largest <= BATCH_BYTES + 1000
    assert channel.sent[-1] == Done(id=7)


async def test_what_many_slow_streams_kept_leaves_in_several_frames(make: Make, channel: Noted) -> None:
    outbox = make()
    outbox.writable(False)
    for id in range(80):
        assert outbox.chunk(id, bytes([id]) * 1_000_000)
        outbox.end(Done(id=id))
    await tick()
    assert channel.sent == []
    outbox.writable(True)
    assert [channel.bytes_of(id) == bytes([id]) * 1_000_000 for id in range(80)] == [True] * 80
    assert channel.ends() == [Done(id=id) for id in range(80)]


async def test_bytes_keep_their_order_when_the_peer_slows_down_within_a_tick(make: Make, channel: Noted) -> None:
    outbox = make()
    outbox.chunk(1, b"first ")
    outbox.writable(False)
    outbox.chunk(1, b"second")
    outbox.end(Done(id=1))
    await tick()
    assert channel.sent == []
    outbox.writable(True)
    assert channel.sent == [Chunks([(1, b"first second")]), Done(id=1)]


async def test_many_single_bytes_for_a_slow_reader_are_kept_as_bytes_and_bounded(make: Make, channel: Noted) -> None:
    outbox = make(bound=100_000)
    outbox.writable(False)
    taken = 0
    while outbox.chunk(1, b"x"):
        taken += 1
    assert taken == 100_000
    outbox.writable(True)
    assert channel.bytes_of(1) == b""  # the answer was given up: its end says so


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (Fail(id=1, status=400, body=bytes(65 << 20)), "at most 67108864 are accepted"),
        (Done(id=1, usage=Usage(10**30, 1)), "serialize int"),
    ],
    ids=["too large", "not to be encoded"],
)
async def test_an_end_that_makes_no_frame_goes_out_as_an_error(
    make: Make, channel: Noted, told: list[BaseException], end: Any, why: str
) -> None:
    outbox = make()
    outbox.end(end)
    outbox.end(Done(id=2))
    await tick()
    first, second = channel.sent
    assert isinstance(first, Fail)
    assert (first.id, first.status, first.code) == (1, 502, "engine_failed")
    assert b"the answer could not be sent" in first.body
    assert why in str(told[0])
    assert second == Done(id=2)


async def test_chunks_that_make_no_frame_end_their_answers_with_an_error(
    make: Make, channel: Noted, told: list[BaseException]
) -> None:
    stopped: list[int] = []
    outbox = make(lost=stopped.append)

    def refuse(message: Message, most_bytes: int = 0) -> None:
        if isinstance(message, Chunks):
            raise ProtocolError("no room")
        channel.sent.append(message)

    channel.send = refuse  # type: ignore[method-assign]
    outbox.chunk(1, b"a")
    outbox.chunk(2, b"b")
    outbox.end(Done(id=2))
    outbox.end(Done(id=3))
    await tick()
    assert stopped == [1, 2]
    assert sorted((end.id, getattr(end, "status", 200)) for end in channel.ends()) == [(1, 502), (2, 502), (3, 200)]  # type: ignore[union-attr]
    assert str(told[0]) == "no room"


async def test_a_tick_of_small_chunks_is_one_frame_and_is_not_copied(make: Make, channel: Noted) -> None:
    outbox = make()
    for id in range(1000):
        outbox.chunk(id, b"token")
    items = outbox._items
    await tick()
    (frame,) = channel.sent
    assert isinstance(frame, Chunks)
    assert frame.items is items


def test_very_many_small_chunks_count_with_what_a_frame_adds_to_each() -> None:
    items = [(2**40, b"x")] * 600_000
    frames = [encode_frame(Chunks(batch)) for batch in batches(items)]
    assert len(frames) > 1
    assert max(map(len, frames)) <= BATCH_BYTES + 1000
