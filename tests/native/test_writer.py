"""What one read brings for many clients leaves at its end: each one's bytes once and in order, whatever sockets do."""

import asyncio
import random
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from router.ipc.frames import encode_frame
from router.ipc.messages import Chunks
from router.native.call import Call, pass_on
from router.native.lane import Lane, LaneLoad
from router.native.writer import SendBatch, Writer

BACKED_UP = bytes(1 << 22)  # more than a socket takes at once


class Transport:
    """Keeps what it is given. `fails`: it takes nothing more."""

    def __init__(self) -> None:
        self.kept = b""
        self.closed = self.fails = False
        self.writes = 0

    def write(self, data: bytes) -> None:
        if self.fails:
            raise RuntimeError("the handler is closed")
        self.writes += 1
        self.kept += data

    def get_write_buffer_size(self) -> int:
        return len(self.kept)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class Client(Writer):
    """A connection and the other end."""

    def __init__(self, batch: SendBatch | None, kind: int = socket.SOCK_STREAM) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, kind)
        self.ours.setblocking(False)
        self.theirs.setblocking(False)
        self.socket, self.batch = self.ours.fileno(), batch
        self.wire = Transport()
        self.attach(cast(asyncio.Transport, self.wire))
        self.broken: list[Exception] = []
        self.chunk: Callable[[bytes], None] = self.stream

    def broke(self, error: Exception) -> None:
        self.broken.append(error)

    def stream_slowly(self, data: bytes) -> None:
        assert self.flushed() is not None
        self.write(b"<%b>" % data)

    def reads(self) -> list[bytes]:
        """Of a datagram each, what was sent at once."""
        out = []
        try:
            while data := self.theirs.recv(1 << 20):
                out.append(data)
        except BlockingIOError:
            pass
        return out

    def received(self) -> bytes:
        return b"".join(self.reads())

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


class Straight(Call):
    """A call whose chunks go to a client."""

    __slots__ = ("_client",)

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client

    def chunk(self, data: bytes) -> None:
        self._client.chunk(data)


class Town:
    """Clients of one lane, numbered."""

    def __init__(self, io_uring: bool) -> None:
        self.batch = SendBatch(io_uring)
        self.lane = Lane(LaneLoad(), 0.0)
        self.lane.batch = self.batch
        self.clients: list[Client] = []

    def client(self, kind: int = socket.SOCK_STREAM) -> Client:
        client = Client(self.batch, kind)
        self.lane.calls[len(self.clients)] = Straight(client)
        self.clients.append(client)
        return client

    def tell(self, *frames: list[tuple[int, bytes]]) -> None:
        """In one read."""
        data = b"".join(bytes(encode_frame(Chunks(frame))) for frame in frames)
        assert pass_on(self.lane, data, self._broke) == len(data)

    def _broke(self, call: Any) -> None:
        raise AssertionError(call)


@pytest.fixture(params=["io_uring", "send"])
def town(request: pytest.FixtureRequest) -> Iterator[Town]:
    town = Town(request.param == "io_uring")
    if request.param == "io_uring" and not town.batch.io_uring:
        pytest.skip("this system lets nobody use io_uring")
    yield town
    for client in town.clients:
        client.close()


def test_without_io_uring_there_is_none() -> None:
    assert not SendBatch(False).io_uring


def test_a_clients_bytes_of_one_read_are_one_packet(town: Town) -> None:
    clients = [town.client(socket.SOCK_DGRAM) for _ in range(3)]
    town.tell([(0, b"a"), (1, b"b"), (0, b"c")], [(2, b"d"), (0, b"e")])
    town.tell([(1, b"f")])
    assert [client.reads() for client in clients] == [[b"ace"], [b"b", b"f"], [b"d"]]
    assert [client.written for client in clients] == [3, 2, 1]
    assert not any(client.wire.writes for client in clients)


def test_more_clients_than_go_together(town: Town) -> None:
    for _ in range(400):
        town.client()
    source = random.Random(1)
    expected = [b"" for _ in town.clients]
    for number in range(12):
        frame = [(source.randrange(400), b"%d," % source.randrange(1000)) for _ in range(350 * (number % 4))]
        for id, data in frame:
            expected[id] += data
        town.tell(frame, frame[:0])
    assert [client.received() for client in town.clients] == expected


def test_outside_of_a_read_it_is_sent_at_once(town: Town) -> None:
    client = town.client()
    client.stream(b"a")
    client.write(b"b")
    assert client.received() == b"ab"
    assert client.written == 2


def test_what_a_socket_does_not_take_the_transport_gets_in_order(town: Town) -> None:
    slow, quick = town.client(), town.client()
    pieces = [bytes([65 + i]) * 60_000 for i in range(20)]
    for piece in pieces:
        town.tell([(0, piece), (1, piece[:10])])
    assert slow.wire.kept
    assert slow.written == sum(map(len, pieces))
    got = slow.received()
    town.tell([(0, b"last"), (1, b"!")])  # there is room again, but more waits before
    assert slow.received() == b""
    got += _drain(slow)
    town.tell([(0, b"."), (1, b".")])
    assert got + slow.received() == b"".join(pieces) + b"last."
    assert quick.received() == b"".join(piece[:10] for piece in pieces) + b"!."


def _drain(client: Client) -> bytes:
    got, kept = b"", client.wire.kept
    client.wire.kept = b""
    while kept:
        kept = kept[client.ours.send(kept) :]
        got += client.received()
    return got


def test_large_pieces_keep_their_place(town: Town) -> None:
    client = town.client()
    town.tell([(0, b"a"), (0, BACKED_UP), (0, b"b")])
    got = client.received() + _drain(client)
    assert got == b"a" + BACKED_UP + b"b"


def test_errors_of_a_socket_are_the_transports(town: Town) -> None:
    gone, well = town.client(), town.client()
    gone.theirs.close()
    town.tell([(0, b"a"), (1, b"b")])
    assert gone.wire.kept == b"a"
    assert well.received() == b"b"


def test_a_transport_that_fails_takes_nobody_along(town: Town) -> None:
    gone, well = town.client(), town.client()
    gone.theirs.close()
    gone.wire.fails = True
    town.tell([(0, b"a"), (1, b"b")])
    assert [str(error) for error in gone.broken] == ["the handler is closed"]
    assert well.received() == b"b"


def test_who_asks_for_the_transport_finds_all_sent(town: Town) -> None:
    client, other = town.client(), town.client()

    def close(data: bytes) -> None:
        client.stream(data)
        assert client.received() == b""
        transport = client.flushed()
        assert transport is not None
        assert client.received() == data
        transport.close()

    client.chunk = close
    town.tell([(1, b"x"), (0, b"last words"), (1, b"y")])
    client.stream(b"too late")
    assert client.wire.kept == b"too late"  # the transport's to refuse
    assert other.received() == b"xy"


def test_a_client_that_leaves_meanwhile_is_sent_nothing_more(town: Town) -> None:
    client, other = town.client(), town.client()

    def leave(data: bytes) -> None:
        client.attach(None)
        assert not client.open

    client.chunk = leave
    town.tell([(1, b"x"), (0, b"a")])
    client.chunk = client.stream
    town.tell([(1, b"y"), (0, b"b")])
    assert client.received() + client.wire.kept == b""
    assert other.received() == b"xy"


def test_a_client_that_reads_slowly_goes_the_slow_way(town: Town) -> None:
    client = town.client()
    client.chunk = lambda data: (client.stream(data), setattr(client, "stalled", True))[0]
    town.tell([(0, b"a"), (0, b"b")])
    assert client.received() == b"a<b>"


def test_nothing_that_was_gathered_leaves_before_who_asked_for_it_was_called(town: Town) -> None:
    one, other = town.client(socket.SOCK_DGRAM), town.client(socket.SOCK_DGRAM)
    seen: list[list[bytes]] = []
    town.batch.before = lambda: seen.append(one.reads() + other.reads())
    town.tell([(0, b"a"), (1, b"b")], [(0, b"c")])
    assert seen == [[]]
    assert (one.reads(), other.reads()) == ([b"ac"], [b"b"])
    town.tell()
    assert len(seen) == 1  # nothing was gathered

    def ask(data: bytes) -> None:
        one.write(data)
        assert one.flushed() is not None
        one.write(b"!")

    one.chunk = ask
    town.tell([(0, b"d")])
    assert seen[1:] == [[], [b"d"]]
    assert one.reads() == [b"!"]


def test_without_an_outbox_each_is_sent_at_once() -> None:
    town = Town(False)
    client = town.client(socket.SOCK_DGRAM)
    client.batch = None
    town.tell([(0, b"a"), (0, b"b")])
    assert client.reads() == [b"a", b"b"]
    client.close()
