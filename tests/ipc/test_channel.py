"""Channels over real Unix sockets: one write a tick, order, back-pressure, errors and ends."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from router.errors import ProtocolError
from router.ipc.channel import Channel, encode_frame
from router.ipc.messages import Abort, Chunks, Message, Submit
from tests.conftest import patience, until


class End:
    """A handler that notes everything."""

    def __init__(self) -> None:
        self.channel: Channel | None = None
        self.messages: list[Message] = []
        self.losses: list[Exception | None] = []
        self.writables: list[bool] = []
        self.something = asyncio.Event()

    def connected(self, channel: Channel) -> None:
        self.channel = channel
        self.something.set()

    def received(self, message: Message) -> None:
        self.messages.append(message)
        self.something.set()

    def lost(self, error: Exception | None) -> None:
        self.losses.append(error)
        self.something.set()

    def writable(self, writable: bool) -> None:
        self.writables.append(writable)
        self.something.set()

    async def until(self, true: Any) -> None:
        async with patience():
            while not true():
                self.something.clear()
                await self.something.wait()


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[End, End]]:
    loop = asyncio.get_running_loop()
    host, frontend = End(), End()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "s")
        server = await loop.create_unix_server(lambda: Channel(host, loop), path)
        await loop.create_unix_connection(lambda: Channel(frontend, loop), path)
        await host.until(lambda: host.channel)
        yield host, frontend
        for end in (host, frontend):
            assert end.channel is not None
            end.channel.abort()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.01)


def on_both_loops(test: Callable[[End, End], Awaitable[None]]) -> Callable[..., None]:
    """asyncio's transports and uvloop's differ; channels must work on either."""

    async def body() -> None:
        async with pair() as (host, frontend):
            await test(host, frontend)

    @pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
    def run(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(body())

    return run


@on_both_loops
async def test_order_is_kept_both_ways(host: End, frontend: End) -> None:
    for i in range(1000):
        frontend.channel.send(Abort(i))
        host.channel.send(Chunks([(i, b"x" * i)]))
    await host.until(lambda: len(host.messages) == 1000)
    await frontend.until(lambda: len(frontend.messages) == 1000)
    assert host.messages == [Abort(i) for i in range(1000)]
    assert frontend.messages == [Chunks([(i, b"x" * i)]) for i in range(1000)]


@on_both_loops
async def test_large_and_small_frames_of_one_tick(host: End, frontend: End) -> None:
    body = bytes(20 << 20)
    frontend.channel.send(Abort(1))
    frontend.channel.send(Submit(id=2, kind="chat", body=body))
    frontend.channel.send(Abort(3))
    assert frontend.channel.buffered_bytes() > len(body)
    await host.until(lambda: len(host.messages) == 3)
    assert [message.id for message in host.messages] == [1, 2, 3]
    assert host.messages[1].body == body
    assert frontend.channel.buffered_bytes() == 0
    assert frontend.writables == [False, True]


@on_both_loops
async def test_a_message_over_its_senders_bound_is_refused_and_not_queued(host: End, frontend: End) -> None:
    assert host.channel is not None
    with pytest.raises(ProtocolError, match=r"frame of 1\d\d\d bytes; at most 1000 are accepted"):
        host.channel.send(Chunks([(1, bytes(1000))]), 1000)
    assert host.channel.buffered_bytes() == 0
    host.channel.send(Chunks([(1, bytes(900))]), 1000)
    await frontend.until(lambda: frontend.messages)
    assert frontend.messages == [Chunks([(1, bytes(900))])]


@on_both_loops
async def test_a_protocol_error_ends_the_connection_once(host: End, frontend: End) -> None:
    frontend.channel._transport.write(b"\x01\x00\x00\x00\xc1")
    await host.until(lambda: host.losses)
    await frontend.until(lambda: frontend.losses)
    assert isinstance(host.losses[0], ProtocolError)
    assert len(host.losses) == 1
    assert not host.channel.open
    host.channel.send(Abort(1))
    assert host.channel.buffered_bytes() == 0


@on_both_loops
async def test_messages_before_a_malformed_frame_of_one_read_are_received(host: End, frontend: End) -> None:
    """Else an answer whose `Done` came in one read with another's nonsense would be told that its engine was lost."""
    frontend.channel._transport.write(encode_frame(Abort(1)) + encode_frame(Abort(2)) + b"\x01\x00\x00\x00\xc1")
    await host.until(lambda: host.losses)
    assert host.messages == [Abort(1), Abort(2)]
    assert isinstance(host.losses[0], ProtocolError)
    assert not host.channel.open


@on_both_loops
async def test_close_delivers_what_was_queued(host: End, frontend: End) -> None:
    frontend.channel.send(Abort(1))
    frontend.channel.close()
    frontend.channel.send(Abort(2))
    await host.until(lambda: host.losses)
    assert host.messages == [Abort(1)]
    assert host.losses == [None]
    await frontend.until(lambda: frontend.losses)


@on_both_loops
async def test_a_handler_may_change_its_receiver_within_one_read(host: End, frontend: End) -> None:
    rest: list[Message] = []

    def first(message: Message) -> None:
        host.received = rest.append  # type: ignore[method-assign]

    host.received = first  # type: ignore[method-assign]
    for i in range(3):
        frontend.channel.send(Abort(i))
    await until(lambda: len(rest) >= 2)
    assert rest == [Abort(1), Abort(2)]
