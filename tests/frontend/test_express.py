"""The common request's way against the ordinary one: the same bytes to clients and engines, the same books, always.

Two houses, one with the way and one without, live through the same steps on wires that go nowhere, or, in the house
with the way, over sockets.
"""

import asyncio
import gc
import json
import re
import socket
from collections.abc import Callable
from math import inf, nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.config import Config, Limits, Member, Routing, Server, Supervision
from router.errors import NoEngine, RouterError
from router.frontend import answer, failure
from router.frontend.connection import Connection
from router.frontend.exchange import Exchange
from router.frontend.reader import Reader
from router.frontend.server import Frontend
from router.frontend.turns import Turns
from router.ipc.channel import Channel
from router.ipc.frames import FrameDecoder, encode_frame
from router.ipc.messages import Chunks, Done, Fail, Handoff, Hello, Load, Message, Submit
from router.native import plain
from router.native.steps import STEPS
from router.observe.metrics import Metrics
from router.observe.record import Record
from router.pipeline.request import Request
from router.pipeline.router import Router
from router.pool.engine import EngineMember
from router.pool.link import HostLink
from router.pool.openai import OpenAIMember
from router.types import Capability, Timings, Usage

KEY = "secret"
POOL = (
    Member(name="small", model="s", strength=0.44, usd_per_hour=1.0),
    Member(name="größe/large", model="l", strength=0.63, usd_per_hour=4.0),
)
URL = Member(name="url", kind="openai", url="http://127.0.0.1:9", strength=0.7, usd_per_hour=2.0)
TOLD = Timings(0.01, 0.05)
HELLO = Hello(role="host", capabilities=("chat", "completions"), context_tokens=4096)
#: What differs from run to run.
_OWN = re.compile(
    rb"(?:date|x-request-id|x-headgate-overhead-ms|x-headgate-decision-id): [^\r]*\r\n|\"created\":\d+,"
    rb"|(?<=retry-after: )\d+|(?<=retry-after-ms: )\d+"
)


_ID = re.compile(rb"x-request-id: ([^\r]*)\r\n")


#: Of a record: ids and measured times, which differ from run to run; and members' capabilities, of which native
#: decisions read only those that a chat needs.
_NOT_COMPARED = {"id", "request_id", "time_s", "overhead_s", "total_s", "begun_s", "ended_s", "capabilities"}


def _comparable(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _comparable(each) for key, each in value.items() if key not in _NOT_COMPARED}
        if kept.get("stream") and "ttft_s" in kept:
            kept["ttft_s"] = "measured"
        if kept.get("queue_s"):
            kept["queue_s"] = "measured"
        return kept
    return [_comparable(each) for each in value] if isinstance(value, list | tuple) else value


_encode_lines = msgspec.json.Encoder().encode_lines
_decode_lines = msgspec.json.Decoder(Record).decode_lines


class Wire:
    """A transport that keeps what is written. `full`: the client does not read."""

    def __init__(self) -> None:
        self.sent = b""
        self.full = 0
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def get_write_buffer_size(self) -> int:
        return self.full

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_extra_info(self, name: str) -> None: ...

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def hang_up(self) -> None: ...

    def pause_reading(self) -> None: ...

    resume_reading = pause_reading


class SocketWire(Wire):
    """Over a socket, which what is sent past the transport goes to as well. `packets`: what was sent at once."""

    def __init__(self) -> None:
        super().__init__()
        self._ours, self._theirs = socket.socketpair(type=socket.SOCK_DGRAM)
        self._theirs.setblocking(False)
        self.packets: list[bytes] = []

    def get_extra_info(self, name: str) -> Any:
        return self._ours

    def write(self, data: bytes) -> None:
        self._ours.sendall(data)

    @property
    def sent(self) -> bytes:
        try:
            while data := self._theirs.recv(1 << 16):
                self.packets.append(data)
        except BlockingIOError:
            pass
        return b"".join(self.packets)

    @sent.setter
    def sent(self, value: bytes) -> None:
        """Nothing has been."""

    def hang_up(self) -> None:
        self._ours.close()
        self._theirs.close()


class Unhurried(Turns):
    """Turns of a loop that is never late: on a busy machine the two houses would else be interrupted differently."""

    def share(self) -> float:
        return inf


class House:
    """A frontend and two engines. Requests go out on the connections, whose order is that of the requests."""

    _turns: Turns | tuple[()] = ()

    def __init__(
        self,
        *,
        express: bool,
        wire: type[Wire] = Wire,
        keys: tuple[str, ...] = (),
        limits: Limits | None = None,
        io_uring: bool = True,
        urls: int = 0,
        **routing: Any,
    ) -> None:
        self._wire = wire
        self.loop = asyncio.new_event_loop()
        self.members = [
            EngineMember(one, Supervision(breaker_failures=2, breaker_open_s=3600.0), Path("/none"), gpu_share=0.5)
            for one in POOL
        ]
        self.wires = [self._start(member) for member in self.members]
        pool = POOL + tuple(URL if i == 0 else msgspec.structs.replace(URL, name=f"url-{i}") for i in range(urls))
        self.urls = [self._start_url(member) for member in pool[len(POOL) :]]
        server = Server(api_keys=keys, limits=limits or Limits(), io_uring=io_uring)
        config = Config(pool=pool, routing=Routing(**routing), server=server)
        self.metrics = Metrics(process=False)
        self.router = Router(config, pool=[*self.members, *self.urls], metrics=self.metrics)
        self.listener = Frontend(server, self.router, self.metrics)._public
        self._turns = self.listener.turns = Unhurried()
        self.listener.sweep(1.0)
        self.passages = 0
        if express:
            assert self.listener.intake is not None
        else:
            self.listener.intake = None
        self.clients: list[tuple[Connection, Wire]] = []
        self.records: list[Record] = []
        self.router.ledger.subscribe(self.records.extend)
        self.lines: list[Record] = []  #: the same, as a journal has them
        self.router.ledger.subscribe(lambda told: self.lines.extend(_decode_lines(told.lines(_encode_lines))))
        self.submitted: list[str] = []  #: the ids that engines were told, of which they make those of answers

    def _start(self, member: EngineMember) -> tuple[Channel, Wire, FrameDecoder]:
        link = HostLink(member.name, member.received, member._lost, member._writable, member._frames)
        link._greeted = self.loop.create_future()
        wire, channel = Wire(), Channel(link, self.loop)
        channel.connection_made(cast(asyncio.Transport, wire))
        member._link = link
        channel.data_received(bytes(encode_frame(HELLO)))
        member.described(frozenset(HELLO.capabilities), HELLO.context_tokens)
        member._writable(True)
        member.phase = "ready"
        self._turn()
        return channel, wire, FrameDecoder()

    def _start_url(self, member: Member) -> OpenAIMember:
        made = OpenAIMember(member, Supervision(breaker_failures=2, breaker_open_s=3600.0), gpu_share=0.5)

        async def nothing(*_: Any) -> None: ...

        made._session, made._answer = cast(Any, SimpleNamespace(close=nothing)), nothing  # type: ignore[method-assign]
        made.phase = "ready"
        return made

    def tell_url(self, data: bytes, fault: bool = False) -> None:
        """The first URL answers all that is asked of it, or is at fault."""
        member = self.urls[0]

        def tell(_: bytes) -> None:
            for call in tuple(member.calls.values()):
                if fault:
                    member.blame(call, "a scripted fault")
                else:
                    call.pass_on(data)
                    member.done(
                        call, cast(Any, SimpleNamespace(usage=Usage(9, 2), finish_reason="", faulted=False)), TOLD
                    )

        self._in_loop(tell, b"")
        self._turn()

    def _in_loop(self, call: Callable[[bytes], None], data: bytes) -> None:
        async def run() -> None:
            call(data)

        self.loop.run_until_complete(run())

    def _turn(self) -> None:
        """What was queued is written, and who has more to be answered is served."""
        waited = True
        while waited:
            waited = bool(self._turns)
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def connect(self) -> int:
        connection, wire = Connection(self.listener), self._wire()
        connection.connection_made(cast(asyncio.Transport, wire))
        self.clients.append((connection, wire))
        return len(self.clients) - 1

    def ask(self, data: bytes, client: int | None = None) -> None:
        connection, wire = self.clients[self.connect() if client is None else client]
        if not wire.closed:
            self._in_loop(connection.data_received, data)
            self.passages += not isinstance(connection._active, Exchange) and connection._active is not None
        self._turn()

    def tell(self, member: int, *messages: Message) -> None:
        """All in one read."""
        if self.members[member].phase == "ready":
            read = b"".join(bytes(encode_frame(message)) for message in messages)
            self._in_loop(self.wires[member][0].data_received, read)
        self._turn()

    def lose(self, member: int) -> None:
        if self.members[member].phase == "ready":
            self.members[member]._lost(cast(HostLink, self.members[member]._link), None)
        self._turn()

    def revive(self, member: int) -> None:
        if self.members[member].phase != "ready":
            calls = self.members[member]
            self.wires[member] = self._start(calls)

    def leave(self, client: int) -> None:
        if client < len(self.clients):
            connection, wire = self.clients[client]
            wire.closed = True
            connection.connection_lost(None)
        self._turn()

    def cut(self, client: int) -> None:
        if client < len(self.clients):
            self.clients[client][0].cut(NoEngine("the server is shutting down"))
        self._turn()

    def hold_ends(self) -> None:
        """As where an answer's last byte waits for its record."""
        self.router._requests.holds_ends = True

    def play(self, step: tuple[Any, ...]) -> None:
        getattr(self, step[0])(*step[1:])

    def seen(self) -> dict[str, Any]:
        """All that clients, engines and operators see."""
        scrape = [
            line
            for line in self.metrics.render().decode().splitlines()
            if not line.startswith(("#", "headgate_steps")) and "_seconds" not in line and not line.endswith(" 0.0")
        ]
        counts = [line for line in self.metrics.render().decode().splitlines() if "_seconds_count" in line]
        frames = [[self._frame(m) for m in decoder.feed(wire.sent)] for _, wire, decoder in self.wires]
        for _, wire, _ in self.wires:
            wire.sent = b""
        return {
            "clients": [(_ID.sub(self._numbered, _OWN.sub(b"", wire.sent)), wire.closed) for _, wire in self.clients],
            "frames": frames,
            "metrics": sorted(scrape),
            "records": sorted(str(_comparable(msgspec.to_builtins(record))) for record in self.records),
            "lines": sorted(str(_comparable(msgspec.to_builtins(record))) for record in self.lines),
            "observed": sorted(line for line in counts if not line.endswith(" 0.0")),
            "in_flight": (
                self.router.in_flight(),
                self.listener.running,
                self.router.pending_bytes,
                self.listener.body_bytes,
            ),
            "states": [member.state() for member in (*self.members, *self.urls)],
            "calls": [sorted(member.lane.calls) for member in self.members],
            "deadlines": [connection.deadline for connection, _ in self.clients],
        }

    def _frame(self, message: Message) -> tuple[Any, ...]:
        """All of a message; in place of a request's id its number among all."""
        fields = {name: getattr(message, name) for name in message.__struct_fields__}
        if isinstance(message, Submit):
            assert re.fullmatch("[0-9a-f]{24}|mine.*", message.request_id)
            self.submitted.append(message.request_id)
            fields["request_id"] = len(self.submitted) - 1
        return type(message).__name__, fields

    def _numbered(self, header: re.Match[bytes]) -> bytes:
        """In place of the id in an answer's head the number of the request that engines know by it."""
        id = header[1].decode()
        assert re.fullmatch("[0-9a-f]{24}|mine.*", id)
        return b"x-request-id: %d\r\n" % (self.submitted.index(id) if id in self.submitted else -1)

    def close(self) -> None:
        self.loop.run_until_complete(self.router.stop())
        for connection, _ in self.clients:
            connection.connection_lost(None)
        self.loop.close()


class Pair:
    """Both houses, which have to agree after each step."""

    def __init__(self, wire: type[Wire] = Wire, **options: Any) -> None:
        self.native, self.ordinary = House(express=True, wire=wire, **options), House(express=False, **options)
        self.ordinary.router._created = self.native.router._created

    def play(self, *steps: tuple[Any, ...]) -> None:
        for step in steps:
            self.native.play(step)
            self.ordinary.play(step)
            assert self.native.seen() == self.ordinary.seen(), step

    def close(self) -> None:
        self.native.close()
        self.ordinary.close()
        native, ordinary = self.native.seen(), self.ordinary.seen()
        for seen in (native, ordinary):  # a stop ends requests in any order
            seen["frames"] = [sorted(frames, key=str) for frames in seen["frames"]]
        assert native == ordinary
        assert native["in_flight"] == (0, 0, 0, 0)
        assert [state.running for state in native["states"]] == [state.running for state in ordinary["states"]]
        for _, wire in self.native.clients:
            wire.hang_up()


@pytest.fixture(params=[Wire, SocketWire])
def pair(request: pytest.FixtureRequest) -> Any:
    made: list[Pair] = []

    def make(**options: Any) -> Pair:
        made.append(Pair(request.param, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def post(body: str = "", *headers: str, stream: bool = False, model: str = "auto") -> bytes:
    text = (
        body or f'{{"model":"{model}","messages":[{{"role":"user","content":"Why?"}}],"stream":{str(stream).lower()}}}'
    )
    data = text.encode()
    lines = ("host: x", "content-type: application/json", f"content-length: {len(data)}", *headers)
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\n" + "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + data
    )


def chat(content: Any, **fields: Any) -> bytes:
    return post(json.dumps({"model": "auto", "messages": [{"role": "user", "content": content}], **fields}))


DONE = Done(id=1, usage=Usage(10, 3, 4), timings=Timings(0.01, 0.05))
ANSWER = b'{"id":"chatcmpl-1","choices":[]}'
EVENT = b'data: {"x":1}\n\n'
SMALL, LARGE = 0, 1


def asked(stream: bool = False, member: int = LARGE) -> tuple[Any, ...]:
    return "ask", post(stream=stream, model=POOL[member].name)


def chunks(data: bytes, id: int = 1, member: int = LARGE) -> tuple[Any, ...]:
    return "tell", member, Chunks([(id, data)])


def done(id: int = 1, member: int = LARGE) -> tuple[Any, ...]:
    return "tell", member, Done(id=id, usage=Usage(10, 3, 4), timings=Timings(0.01, 0.05))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("routing", [{}, {"threshold": 0.5}, {"price": 1e6}, {"slo_ttft_s": 1e-9}])
def test_a_common_request(pair: Any, stream: bool, routing: dict[str, float]) -> None:
    both = pair(**routing)
    both.play(("ask", post(stream=stream)))
    assert both.native.passages == 1
    member = next(i for i in (SMALL, LARGE) if both.native.members[i].lane.calls)
    both.play(chunks(EVENT if stream else ANSWER, member=member), done(member=member))
    sent = both.native.clients[0][1].sent
    assert sent.endswith(b"\r\n0\r\n\r\n" if stream else ANSWER)
    assert (b"x-headgate-threshold: 0.5000" in sent) == ("threshold" in routing)


HOST, JSON, RIGHT = "host: x", "content-type: application/json", "x-api-key: secret"


def test_a_member_that_turns_out_to_be_a_pooling_model_gets_no_chat_on_either_way(pair: Any) -> None:
    both = pair()
    for house in (both.native, both.ordinary):
        house.members[SMALL].described(frozenset({"embeddings"}), 4096)
    both.play(("ask", post(model="small")), ("ask", post()), chunks(ANSWER), ("tell", LARGE, DONE))
    sent = both.native.clients[0][1].sent
    assert b"400 Bad Request" in sent
    assert b"model 'small' does not answer /v1/chat/completions, but /v1/embeddings" in sent
    assert both.native.passages == 1
    assert both.native.router._decider.names.settings("auto").weak == LARGE


@pytest.mark.parametrize(
    ("lines", "native", "status"),
    [
        ((HOST, JSON, "x-api-key: secret  "), True, 200),
        ((HOST, JSON, "x-api-key:\tsecret\t"), False, 200),
        ((HOST, JSON, "authorization: Bearer stale", RIGHT), True, 200),
        ((HOST, JSON, RIGHT, "authorization: Basic dXNlcjpwYXNz"), True, 200),
        ((HOST, JSON, "authorization: Bearer secret", "x-api-key: stale"), True, 200),
        ((HOST, JSON, "authorization: Bearer stale", "authorization: Bearer secret"), False, 400),
        ((HOST, JSON, RIGHT, RIGHT), False, 400),
        ((HOST, HOST, JSON, RIGHT), False, 400),
        (("host: a b/c", JSON, RIGHT), False, 400),
        (("host: [::1]:80", JSON, RIGHT), True, 200),
        (("host: [x]", JSON, RIGHT), False, 400),
        (("host: a:b", JSON, RIGHT), False, 400),
        (("host:", JSON, RIGHT), True, 200),
        ((JSON, RIGHT), False, 400),
        ((HOST, RIGHT), False, 400),
        ((HOST, RIGHT, "content-type: Application/JSON;charset=utf-8"), True, 200),
        ((HOST, RIGHT, "content-type: application/x-www-form-urlencoded"), False, 400),
        ((HOST, RIGHT, "content-type: text/plain; x=json"), False, 400),
        ((HOST, RIGHT, JSON, JSON), False, 400),
        ((HOST, RIGHT, JSON, "content-type: text/plain"), False, 400),
        ((HOST, RIGHT, JSON, "origin: http://page"), False, 200),
        ((HOST, RIGHT, "origin: http://page"), False, 400),
    ],
)
def test_a_head_is_judged_alike_on_both_ways(pair: Any, lines: tuple[str, ...], native: bool, status: int) -> None:
    body = post(model=POOL[LARGE].name).partition(b"\r\n\r\n")[2]
    head = "".join(f"{line}\r\n" for line in (*lines, f"content-length: {len(body)}"))
    both = pair(keys=(KEY,))
    both.play(("ask", b"POST /v1/chat/completions HTTP/1.1\r\n" + head.encode() + b"\r\n" + body))
    assert both.native.passages == native
    if status == 200:
        both.play(chunks(ANSWER), done())
    assert both.native.clients[0][1].sent.startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize("stream", [False, True])
def test_requests_follow_one_another_on_a_connection(pair: Any, stream: bool) -> None:
    both = pair()
    both.play(asked(stream), chunks(EVENT), done())
    for id, data in ((2, post(stream=stream)), (3, post("", "connection: close"))):
        both.play(("ask", data, 0))
        member = next(i for i in (SMALL, LARGE) if both.native.members[i].lane.calls)
        id = next(iter(both.native.members[member].lane.calls))
        both.play(chunks(EVENT, id, member), done(id, member))
    assert both.native.passages == 2
    assert both.native.clients[0][1].closed


def test_an_answer_and_its_end_in_one_read(pair: Any) -> None:
    both = pair()
    both.play(
        asked(), asked(True), ("tell", LARGE, Chunks([(1, ANSWER), (2, EVENT), (9, b"x")]), DONE, Load(running=1))
    )
    both.play(("tell", LARGE, Load(running=2), Chunks([(2, EVENT)]), Done(id=2)))
    assert both.native.passages == 2


def test_frames_in_pieces(pair: Any) -> None:
    both = pair()
    both.play(asked(), asked(True))
    frames = b"".join(bytes(encode_frame(m)) for m in (Chunks([(1, ANSWER), (2, EVENT)]), DONE, Done(id=2)))
    for house in (both.native, both.ordinary):
        for at in range(0, len(frames), 7):
            house._in_loop(house.wires[LARGE][0].data_received, frames[at : at + 7])
    both.play(("lose", SMALL))
    assert both.native.router.in_flight() == 0


def test_a_stream_and_its_end_in_one_read_are_one_packet() -> None:
    house = House(express=True, wire=SocketWire)
    house.play(asked(True))
    _, wire = house.clients[0]
    assert isinstance(wire, SocketWire)
    house.tell(LARGE, Chunks([(1, EVENT)]))
    house.tell(LARGE, Load(running=1), Chunks([(1, EVENT)]), DONE)
    assert wire.sent
    framed = b"f\r\n" + EVENT + b"\r\n"
    assert [packet.split(b"\r\n\r\n", 1)[-1] for packet in wire.packets[:1]] == [framed]
    assert wire.packets[1:] == [framed + b"0\r\n\r\n"]
    house.close()
    wire.hang_up()


def test_io_uring_is_the_configs_to_refuse(caplog: pytest.LogCaptureFixture) -> None:
    house = House(express=True, io_uring=False)
    assert house.listener.intake is not None
    assert not house.listener.intake.batch.io_uring
    assert "io_uring" not in caplog.text
    house.close()


ENDINGS: dict[str, tuple[tuple[Any, ...], ...]] = {
    "done without an answer": (done(),),
    "an empty chunk": (chunks(b""), chunks(EVENT), done()),
    "an answer in pieces": (chunks(b'{"a":'), chunks(b"1}"), done()),
    "refused by the engine": (("tell", LARGE, Fail(id=1, status=400, body=b'{"error":{"message":"no"}}')),),
    "failed, and tried elsewhere": (
        ("tell", LARGE, Fail(id=1, status=500, body=b"{}", retryable=True)),
        chunks(EVENT, 1, SMALL),
        done(1, SMALL),
    ),
    "failed after the first chunk": (
        chunks(EVENT),
        ("tell", LARGE, Fail(id=1, status=500, body=b"{}", retryable=True)),
    ),
    "engine lost with it alone": (("lose", LARGE), chunks(EVENT, 1, SMALL), done(1, SMALL)),
    "engine lost with it and another": (
        ("ask", post()),
        ("lose", LARGE),
        chunks(EVENT, 1, SMALL),
        done(1, SMALL),
        chunks(EVENT, 2, SMALL),
        done(2, SMALL),
    ),
    "both engines lost with it and another": (("ask", post()), ("lose", LARGE), ("lose", SMALL)),
    "engine lost with it, while another streams": (
        ("ask", post(stream=True)),
        chunks(EVENT, 2),
        ("lose", LARGE),
        chunks(EVENT, 1, SMALL),
        done(1, SMALL),
    ),
    "absurd figures": (
        chunks(EVENT),
        ("tell", LARGE, Done(id=1, usage=Usage(2**63, -1, 2**64 - 1), timings=Timings(inf, nan))),
    ),
    "an absurd status": (("tell", LARGE, Fail(id=1, status=2**63, body=b"[" * 100_000)),),
    "engine lost midway": (chunks(EVENT), ("lose", LARGE)),
    "handoff": (chunks(EVENT), ("tell", LARGE, Handoff(id=1, text="x", tokens=1, why="y"))),
    "client left before": (("leave", 0), chunks(EVENT), done()),
    "client left midway": (chunks(EVENT), ("leave", 0), chunks(EVENT), done()),
    "cut": (chunks(EVENT), ("cut", 0)),
    "cut before": (("cut", 0),),
    "a request behind it": (("ask", post(), 0), chunks(EVENT), done()),
    "a half request behind it": (("ask", post()[:70], 0), chunks(EVENT), done()),
    "rubbish behind it": (("ask", b"\x00\x00", 0), chunks(EVENT), done()),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("ending", ENDINGS)
def test_whatever_else_happens(pair: Any, ending: str, stream: bool) -> None:
    # `auto` where it is to be tried elsewhere: a pinned request is not.
    both = pair(price=0.0)
    both.play(("ask", post(stream=stream)))
    assert both.native.members[LARGE].lane.calls
    assert both.native.passages == 1
    both.play(*ENDINGS[ending])


def test_after_a_reload_has_taken_its_name_away_a_request_is_told_of_its_loss_and_others_move() -> None:
    house = House(express=True, price=0.0)
    for model in ("router-mf-0.0", "auto", "auto"):
        house.ask(post(model=model))
    assert (house.passages, len(house.members[LARGE].lane.calls)) == (3, 3)
    house.router._decider.names._routers = ("knn",)
    house.lose(LARGE)
    house.tell(SMALL, Chunks([(1, ANSWER), (2, ANSWER)]), Done(id=1), Done(id=2))
    assert [wire.sent[:12] for _, wire in house.clients] == [b"HTTP/1.1 502", b"HTTP/1.1 200", b"HTTP/1.1 200"]
    assert (house.router.in_flight(), house.listener.running, house.router.pending_bytes) == (0, 0, 0)
    house.close()


def test_what_cannot_be_told_its_error_is_closed_and_strands_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(express=True)
    losses: list[int] = []
    house.members[LARGE].on_lost = lambda: losses.append(1)
    for _ in range(4):
        house.play(asked(True))
    made = answer.exchange_of

    def broken(connection: Any, target: bytes) -> Exchange:
        if connection in (house.clients[0][0], house.clients[2][0]):
            raise ValueError("a scripted bug")
        return made(connection, target)

    monkeypatch.setattr(answer, "exchange_of", broken)
    house.lose(LARGE)
    assert losses == [1]
    assert caplog.text.count("ValueError: a scripted bug") == 2
    assert [wire.closed for _, wire in house.clients] == [True, False, True, False]
    assert house.members[LARGE].lane.calls == {}
    assert all(house.clients[i][1].sent.startswith(b"HTTP/1.1 502 ") for i in (1, 3))
    assert (house.router.in_flight(), house.listener.running, house.router.pending_bytes) == (0, 0, 0)
    house.close()


def test_begun_streams_of_a_lost_engine_end_in_an_error_event_and_nothing_is_decoded_or_scored_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = House(express=True, price=0.0)
    for _ in range(12):
        house.ask(post(stream=True))
    house.tell(LARGE, Chunks([(id, EVENT) for id in range(1, 13)]))
    work: list[str] = []
    for owner, name in ((house.router._desk, "choose_again"), (house.router._decider, "choose")):
        monkeypatch.setattr(owner, name, lambda *_, name=name: work.append(name))
    house.lose(LARGE)
    assert work == []
    for _, wire in house.clients:
        assert not wire.closed
        assert wire.sent.count(EVENT) == 1
        assert "engine 'größe/large' was lost".encode() in wire.sent
        assert wire.sent.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert (house.router.in_flight(), house.listener.running, house.router.pending_bytes) == (0, 0, 0)
    house.close()


def test_a_begun_stream_whose_error_cannot_be_written_is_closed_and_strands_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(express=True, price=0.0)
    for _ in range(4):
        house.ask(post(stream=True))
    house.tell(LARGE, Chunks([(id, EVENT) for id in (1, 2, 3, 4)]))
    moods = iter((True, False, True, False))
    events = failure.events

    def events_or_raise(error: RouterError, dialect: failure.Dialect) -> bytes:
        if next(moods):
            raise ValueError("a scripted bug")
        return events(error, dialect)

    monkeypatch.setattr(failure, "events", events_or_raise)
    house.lose(LARGE)
    assert caplog.text.count("ValueError: a scripted bug") == 2
    assert [wire.closed for _, wire in house.clients] == [True, False, True, False]
    assert all(b'"code":"engine_failed"' in house.clients[i][1].sent for i in (1, 3))
    assert (house.router.in_flight(), house.listener.running, house.router.pending_bytes) == (0, 0, 0)
    house.close()


@pytest.mark.parametrize("what", ["overdue", "drain", "cut", "abort"])
def test_one_connection_that_raises_does_not_keep_the_others_from_being_told(
    what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(express=False)
    clients = [house.clients[house.connect()][0] for _ in range(5)]
    told: list[Any] = []

    def tell(connection: Connection, *_: Any) -> None:
        if connection is clients[2]:
            raise ValueError("a scripted bug")
        told.append(connection)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, what, tell)
        if what == "overdue":
            house.listener.sweep(1e9)
        else:
            house.listener.tell(clients, getattr(Connection, what))
    assert len(told) == 4
    assert caplog.text.count("ValueError: a scripted bug") == 1
    house.close()


@pytest.mark.parametrize("deed", ["leave", "cut"])
def test_a_request_whose_exchange_cannot_be_made_can_be_left_and_cut(
    deed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(express=True, price=0.0)
    house.ask(post(stream=True))
    house.ask(post(stream=True))
    monkeypatch.setattr(answer, "exchange_of", lambda *_: 1 // 0)
    if deed == "leave":
        house.leave(0)
    else:
        house.listener.tell([house.clients[0][0]], lambda connection: connection.cut(NoEngine("time is up")))
    assert house.router.in_flight() == 1
    house.tell(LARGE, Chunks([(1, EVENT), (2, EVENT)]), Done(id=1), Done(id=2))
    assert EVENT in house.clients[1][1].sent
    assert (house.router.in_flight(), house.listener.running, house.router.pending_bytes) == (0, 0, 0)
    assert house.members[LARGE].status().in_flight == house.members[LARGE].state().running == 0
    house.close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_claim_that_the_first_token_came_after_the_last_one_is_not_measured(pair: Any, stream: bool) -> None:
    both = pair()
    end = Done(id=1, usage=Usage(10, 3, 4), timings=Timings(5.0, 0.1))
    both.play(asked(stream), chunks(EVENT if stream else ANSWER), ("tell", LARGE, end))
    for house in (both.native, both.ordinary):
        page = house.listener.metrics.render().decode()
        sums = [line for line in page.splitlines() if line.startswith("headgate_time_per_output_token_seconds_sum")]
        assert all(float(line.rpartition(" ")[2]) == 0.0 for line in sums)
        assert 'headgate_tokens_total{model="größe/large",type="completion"} 3.0' in page


@pytest.mark.parametrize("stream", [False, True])
def test_a_drain_lets_it_finish_and_closes(pair: Any, stream: bool) -> None:
    both = pair()
    both.play(asked(stream), asked(stream), chunks(EVENT, 2))
    for house in (both.native, both.ordinary):
        house.listener.draining = True
    both.play(chunks(EVENT), done(), done(2))
    assert [wire.closed for _, wire in both.native.clients] == [True, True]


def test_an_answer_over_the_bound_is_refused(pair: Any) -> None:
    both = pair(limits=Limits(answer_bytes=200))
    both.play(asked(), chunks(b"x" * 150), chunks(b"x" * 100), done())
    assert b"HTTP/1.1 502" in both.native.clients[0][1].sent


def test_a_client_that_does_not_read_is_cut(pair: Any) -> None:
    both = pair(limits=Limits(stream_buffer_bytes=1000))
    both.play(asked(True), chunks(EVENT))
    for house in (both.native, both.ordinary):
        connection, wire = house.clients[0]
        wire.full = 900
        connection.pause_writing()
    both.play(chunks(EVENT))
    for house in (both.native, both.ordinary):
        house.clients[0][1].full = 1001
    both.play(chunks(EVENT), chunks(EVENT), done())
    assert both.native.clients[0][1].closed


def test_keys(pair: Any) -> None:
    both = pair(keys=(KEY, "other"))
    for header in (f"authorization: Bearer {KEY}", f"x-api-key: {KEY}", "authorization: Bearer wrong", "a: b"):
        both.play(("ask", post("", header)))
    assert both.native.passages == 2
    assert [client[1].sent[:12] for client in both.native.clients] == [b"", b"", b"HTTP/1.1 401", b"HTTP/1.1 401"]


def test_limits_refuse_as_ever(pair: Any) -> None:
    size = len(post().split(b"\r\n\r\n")[1])
    both = pair(limits=Limits(in_flight=2))
    both.play(("ask", post()), ("ask", post()), ("ask", post()))
    assert both.native.passages == 2
    both = pair(limits=Limits(pending_bytes=2 * size + 5))
    both.play(("ask", post()), ("ask", post()), ("ask", post()))
    assert both.native.passages == 2
    assert b"HTTP/1.1 429" in both.native.clients[2][1].sent


def test_beyond_the_slots_requests_wait_and_begin_in_order_as_native_ones_end(pair: Any) -> None:
    both = pair(limits=Limits(in_flight=2, queue_requests=2))
    both.play(asked(), asked(True), asked(), asked(True), asked())
    assert both.native.passages == 2
    assert both.native.clients[4][1].sent.startswith(b"HTTP/1.1 429 ")
    assert b"2 requests are in flight, the most allowed, and 2 wait" in both.native.clients[4][1].sent
    both.play(chunks(ANSWER), done())
    assert sorted(both.native.members[LARGE].lane.calls) == [2, 3]
    both.play(chunks(ANSWER, 3), chunks(EVENT, 2), done(2), done(3))
    assert sorted(both.native.members[LARGE].lane.calls) == [4]
    both.play(asked(), chunks(EVENT, 4), chunks(ANSWER, 5), done(5), done(4))
    assert both.native.passages == 3, "none waits any more"
    for client in range(4):
        assert both.native.clients[client][1].sent.startswith(b"HTTP/1.1 200 ")


def test_a_request_takes_no_free_slot_natively_while_another_waits(pair: Any) -> None:
    both = pair(limits=Limits(in_flight=1, queue_requests=2))
    both.play(asked(), asked())
    for house in (both.native, both.ordinary):

        async def end_and_ask(house: House = house) -> None:
            house.wires[LARGE][0].data_received(bytes(encode_frame(Chunks([(1, ANSWER)]))))
            house.wires[LARGE][0].data_received(bytes(encode_frame(done()[2])))
            house.listener.turns.spent_s = 0.0  # else it could be put off to a later turn
            house.clients[house.connect()][0].data_received(post(model=POOL[LARGE].name))
            assert (house.listener.running, house.router.gate.slots.waiting) == (0, 2)

        house.loop.run_until_complete(end_and_ask())
        house._turn()
    both.play(chunks(ANSWER, 2), done(2))
    assert both.native.clients[1][1].sent.startswith(b"HTTP/1.1 200 ")
    assert both.native.clients[2][1].sent == b""
    both.play(chunks(ANSWER, 3), done(3))
    assert both.native.clients[2][1].sent.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("how", ["leave", "cut"])
def test_a_request_that_waits_is_ended_by_its_client_or_by_a_shutdown_and_begun_no_more(pair: Any, how: str) -> None:
    both = pair(limits=Limits(in_flight=1, queue_requests=2))
    both.play(asked(), asked(), asked(), (how, 1))
    assert both.native.router.gate.slots.waiting == 1
    both.play(chunks(ANSWER), done(), chunks(ANSWER, 2), done(2))
    assert both.native.clients[1][1].sent[:13] == (b"" if how == "leave" else b"HTTP/1.1 503 ")
    assert both.native.clients[2][1].sent.startswith(b"HTTP/1.1 200 ")


def test_the_end_of_a_request_that_has_left_the_native_way_frees_its_slot(pair: Any) -> None:
    both = pair(limits=Limits(in_flight=1, queue_requests=1))
    both.play(asked(True), chunks(EVENT), asked(), ("leave", 0))
    assert both.native.router.gate.slots.running == 1
    both.play(chunks(ANSWER, 2), done(2))
    assert both.native.clients[1][1].sent.startswith(b"HTTP/1.1 200 ")


def test_no_engine_can_serve(pair: Any) -> None:
    both = pair()
    both.play(("lose", SMALL), ("ask", post(model="small")), ("lose", LARGE), ("ask", post()))
    assert both.native.passages == 0
    assert b"HTTP/1.1 503" in both.native.clients[1][1].sent


def fault(id: int) -> tuple[Any, ...]:
    return "tell", LARGE, Fail(id=id, status=500, body=b"{}")


def breaker_of(house: House) -> str:
    return house.members[LARGE]._breaker.state


def test_a_success_between_two_faults_lets_the_breaker_count_anew_and_all_requests_are_native(pair: Any) -> None:
    both = pair(price=0.0)
    both.play(("ask", post()), fault(1))
    both.play(("ask", post()), chunks(ANSWER, 2), done(2))
    both.play(("ask", post()), fault(3))
    assert both.native.passages == 3
    assert breaker_of(both.native) == "closed"
    assert both.native.members[LARGE].lane.calls == {}


@pytest.mark.parametrize("faults", [1, 2])
def test_after_one_members_500_all_requests_of_the_other_member_are_native(pair: Any, faults: int) -> None:
    """One fault is counted and the breaker stays closed; two open it. Neither concerns the other member."""
    both = pair(price=0.0)
    for id in range(1, faults + 1):
        both.play(asked(), fault(id))
    assert breaker_of(both.native) == ("closed" if faults == 1 else "open")
    before = both.native.passages
    for id in range(1, 21):
        both.play(asked(id % 2 == 0, SMALL), chunks(EVENT, id, SMALL), done(id, SMALL))
    native_share = (both.native.passages - before) / 20
    assert native_share == 1


def test_requests_avoid_an_open_breaker_natively_and_its_probe_alone_goes_the_ordinary_way(pair: Any) -> None:
    both = pair(price=0.0)
    both.play(asked(), fault(1), asked(), fault(2))
    assert (breaker_of(both.native), both.native.passages) == ("open", 2)
    both.play(("ask", post()))
    assert both.native.members[SMALL].lane.calls
    assert both.native.passages == 3
    for house in (both.native, both.ordinary):
        house.members[LARGE]._breaker._open_until = 0.0
        house.members[LARGE]._breaker._show()
    both.play(("ask", post()))  # the probe
    assert (breaker_of(both.native), both.native.passages) == ("half_open", 3)
    both.play(("ask", post()))  # while it is under way
    assert (len(both.native.members[SMALL].lane.calls), both.native.passages) == (2, 4)
    both.play(chunks(ANSWER, 3), done(3))
    assert breaker_of(both.native) == "closed"
    both.play(("ask", post()))
    assert both.native.passages == 5
    assert both.native.members[LARGE].lane.calls


def test_where_every_breaker_is_open_a_request_is_tried_the_ordinary_way(pair: Any) -> None:
    both = pair(price=0.0)
    for member in (SMALL, LARGE):
        for id in (1, 2):
            both.play(asked(member=member), ("tell", member, Fail(id=id, status=500, body=b"{}")))
    assert both.native.passages == 4
    both.play(("ask", post()), chunks(ANSWER, 3), done(3))
    assert both.native.passages == 4


@pytest.mark.parametrize("urls", [1, 3])
@pytest.mark.parametrize("stream", [False, True])
def test_beside_url_members_requests_to_engines_stay_native_and_only_those_to_a_url_leave(
    pair: Any, stream: bool, urls: int
) -> None:
    both = pair(urls=urls, price=0.0)
    for id, member in enumerate((SMALL, LARGE, SMALL)):
        both.play(asked(stream, member), chunks(EVENT, id // 2 + 1, member), done(id // 2 + 1, member))
    assert both.native.passages == 3
    both.play(("ask", post(stream=stream)), ("ask", post("", "x-request-id: mine", model="url", stream=stream)))
    assert both.native.passages == 3  # of equals `auto` takes the cheapest, here the first URL
    assert len(both.native.urls[0].calls) == 2
    both.play(("tell_url", EVENT if stream else ANSWER))
    assert all((EVENT if stream else ANSWER) in wire.sent for _, wire in both.native.clients[-2:])


def test_after_a_urls_faults_requests_are_decided_natively_for_the_engines(pair: Any) -> None:
    both = pair(urls=1, price=0.0)
    for _ in range(2):
        both.play(("ask", post(model="url")), ("tell_url", b"", True))
    assert both.native.urls[0]._breaker.state == "open"
    both.play(("ask", post()))
    assert both.native.members[LARGE].lane.calls
    both.native.urls[0].phase = both.ordinary.urls[0].phase = "restarting"
    both.play(("ask", post()), ("ask", post(model="url")))
    assert both.native.passages == 2
    assert both.native.clients[-1][1].sent.startswith(b"HTTP/1.1 503 ")


LONG = post(json.dumps({"messages": [{"role": "user", "content": "x" * 300_000}]}))
HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
#: What happens, and the step at which the last request is counted, with why it left there; empty: it left nowhere.
LEAVING: dict[str, tuple[dict[str, Any], tuple[tuple[Any, ...], ...], str, str]] = {
    "a whole life": ({}, (asked(), chunks(ANSWER), done()), "end", ""),
    "a stream under way": ({}, (asked(True), chunks(EVENT)), "pass_on", ""),
    "not answered yet": ({}, (asked(),), "frame", ""),
    "another route": ({}, (("ask", HEALTH),), "head", "other_route"),
    "in two reads": ({}, (("ask", post()[:-9]), ("ask", post()[-9:], 0)), "head", "in_pieces"),
    "a head in two reads": ({}, (("ask", post()[:60]), ("ask", post()[60:], 0)), "head", "in_pieces"),
    "half a method": ({}, (("ask", post()[:3]), ("ask", post()[3:], 0)), "head", "in_pieces"),
    "behind another": ({}, (asked(), ("ask", HEALTH, 0), chunks(ANSWER), done()), "head", "pipelined"),
    "a header": ({}, (("ask", post("", "x-headgate-debug: 1")),), "head", "header"),
    "a large body": ({}, (("ask", LONG),), "head", "large_body"),
    "a picture": ({}, (("ask", chat([{"type": "image_url"}])),), "body", "body"),
    "an unknown name": ({}, (("ask", post(model="nobody")),), "body", "model"),
    "too many": ({"limits": Limits(in_flight=1)}, (asked(), asked()), "admit", "bounds"),
    "no key": ({"keys": (KEY,)}, (asked(),), "admit", "key"),
    "nobody ready": ({}, (("lose", LARGE), asked()), "decide", "no_member"),
    "to a URL": ({"urls": 1}, (("ask", post(model="url")),), "frame", "url"),
    "to an open breaker": ({}, (asked(), fault(1), asked(), fault(2), asked()), "frame", "breaker"),
    "failed": ({}, (asked(), fault(1)), "pass_on", "failed"),
    "failed midway": ({}, (asked(), chunks(ANSWER), fault(1)), "end", "failed"),
    "a stream that failed midway": ({}, (asked(True), chunks(EVENT), fault(1)), "end", "failed"),
    "client gone": ({}, (asked(), ("leave", 0)), "pass_on", "client_gone"),
    "cut midway": ({}, (asked(True), chunks(EVENT), ("cut", 0)), "end", "cut"),
    "an end that waits for its record": ({}, (("hold_ends",), asked(True), chunks(EVENT), done()), "end", "journal"),
    "no answer": ({}, (asked(), done()), "pass_on", "answer"),
    "an answer in pieces": ({}, (asked(), chunks(b"{"), chunks(b"}"), done()), "end", ""),
}


@pytest.mark.parametrize("what", LEAVING)
def test_metrics_tell_which_steps_were_native_and_why_others_were_not(what: str) -> None:
    options, happenings, step, why = LEAVING[what]
    house = House(express=True, price=0.0, **options)
    for happening in happenings:
        house.play(happening)
    page = house.metrics.render().decode().splitlines()
    if why:
        assert f'headgate_steps_total{{native="false",step="{step}",why="{why}"}} 1.0' in page
    else:
        counts = [f'headgate_steps_total{{native="true",step="{each}",why=""}} ' for each in STEPS]
        taken = STEPS.index(step) + 1
        for i, count in enumerate(counts):
            assert f"{count}{1.0 if i < taken else 0.0}" in page
        assert not any('native="false"' in line for line in page)
    house.close()


def test_a_pool_without_engines_says_so() -> None:
    house = House(express=False)
    house.ask(post())
    assert 'headgate_steps_total{native="false",step="head",why="no_engine"} 1.0' in house.metrics.render().decode()
    house.close()


def test_a_head_that_raises_is_counted_at_its_step(pair: Any) -> None:
    both = pair()
    for head in with_raising_head(both):
        head.error = ValueError("boom")
    both.play(("ask", post()))
    assert ("score", "false", "error", 1) in both.native.router._requests.steps.rows()


def test_a_host_that_reads_slowly_gets_its_frames_the_ordinary_way(pair: Any) -> None:
    both = pair(price=0.0)
    for house in (both.native, both.ordinary):
        house.wires[LARGE][0].pause_writing()
    both.play(("ask", post()))
    assert both.native.passages == 0
    for house in (both.native, both.ordinary):
        house.wires[LARGE][0].resume_writing()
    both.play(("ask", post()))
    assert both.native.passages == 1


@pytest.mark.parametrize(
    "data",
    [
        post()[:-1],
        post() + post(),
        post("", "x-headgate-debug: true"),
        post("", "endpoint-load-metrics-format: TEXT"),
        post("", "x-session-id: two words"),
        post("", "x-request-id: mine", "x-request-id: another"),
        post("", "expect: 100-continue"),
        post('{"messages":[]}'),
        post("{"),
        post('\ufeff{"messages":[{"role":"user","content":"x"}]}'),
        post('{"messages":[{"role":"user","content":["x"]}]}'),
        post('{"messages":[{"role":"user","content":"x"}],"user":"\\ud83d"}'),
        post('{"messages":[{"role":"user","content":"x"}],"model":"small","model":"auto"}'),
        post('{"messages":[{"role":"user","content":"x"}],"stream":"no","max_tokens":" 4 "}'),
        post('{"messages":[{"role":"user","content":"x"}],"seed":' + "7" * 100_000 + "}"),
        post('{"messages":[{"role":"user","content":"x"}],"x":' + "[" * 100_000 + "]" * 100_000 + "}"),
        post(model="nobody"),
        post(model="router-mf-2"),
        post(model="router-other-0.3"),
        post().replace(b"HTTP/1.1", b"HTTP/1.0"),
        post().replace(b"/chat/completions", b"/completions"),
        b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
)
def test_the_unusual_goes_the_ordinary_way(pair: Any, data: bytes) -> None:
    both = pair()
    both.play(("ask", data))
    assert both.native.passages == 0


def test_a_reload_changes_the_rule(pair: Any) -> None:
    both = pair(price=0.0)
    both.play(("ask", post()))
    for house in (both.native, both.ordinary):
        house.router.reload(Routing(price=1e9))
    both.play(("ask", post()))
    assert [len(member.lane.calls) for member in both.native.members] == [1, 1]
    assert both.native.passages == 2


@pytest.mark.parametrize("threshold", ["0.1", "0.116", "0.9", "1"])
def test_routellms_names(pair: Any, threshold: str) -> None:
    both = pair()
    for _ in range(2):
        both.play(("ask", post(model=f"router-mf-{threshold}")))
    assert both.native.passages == 2


def test_no_model_named_is_auto(pair: Any) -> None:
    both = pair()
    for model in ("", '"model":null,', '"model":"",'):
        body = f'{{{model}"messages":[{{"role":"user","content":"x"}}]}}'
        both.play(("ask", post(body)))
        express = both.native.router.intake
        assert express is not None
        assert express.decide(body.encode()) in express.names
    assert both.native.passages == 3
    assert express.decide(b"{}") is None


def test_stopped_it_takes_nothing(pair: Any) -> None:
    both = pair()
    both.play(asked(True), chunks(EVENT))
    for house in (both.native, both.ordinary):
        house.loop.run_until_complete(house.router.stop())
    both.play(("ask", post()))
    assert both.native.passages == 1


def test_a_head_in_python_goes_the_same_way(pair: Any) -> None:
    both = pair()
    for house in (both.native, both.ordinary):
        scoring, head = house.router._decider.scoring, house.router._decider.scoring.head
        # type: ignore[assignment]
        scoring.head = type("Head", (), {"score": lambda self, segments: head.score(segments)})()
        house.router.reload(house.router.config.routing)
    both.play(("ask", post()), ("ask", post(stream=True)))
    assert both.native.passages == 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("header", [(), ("x-request-id: mine",)])
def test_the_engine_knows_a_request_by_the_id_that_the_answers_head_tells(
    pair: Any, stream: bool, header: tuple[str, ...]
) -> None:
    """Engines make the answer's own id of it: `chatcmpl-<id>`."""
    both = pair(price=0.0)
    both.play(("ask", post("", *header, stream=stream)), chunks(EVENT if stream else ANSWER), done())
    assert both.native.passages == 1
    for house in (both.native, both.ordinary):
        (told,) = house.submitted
        assert f"x-request-id: {told}\r\n".encode() in house.clients[0][1].sent
        assert (told == "mine") == bool(header)


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
#: Header lines of one request, and what the engine is told as its id (None: one of ours) and its trace.
IDENTIFIED: dict[str, tuple[tuple[str, ...], str | None, str]] = {
    "an id": (("x-request-id: mine-1",), "mine-1", ""),
    "an id with blanks": (("x-request-id:  mine a b ",), "mineab", ""),
    "an id too long": ((f"x-request-id: mine{'x' * 300}",), f"mine{'x' * 252}", ""),
    "an empty id": (("x-request-id:",), None, ""),
    "a trace": ((f"traceparent: {TRACE}",), None, TRACE),
    "a longer trace": ((f"traceparent: {TRACE}-{'z' * 300}",), None, f"{TRACE}-{'z' * 300}"),
    "a malformed trace": (("traceparent: 00-xyz-1-01",), None, ""),
    "a session": (("x-session-id: talk/7",), None, ""),
    "all": (("X-Request-ID: mine-2", f"TraceParent: {TRACE}", "x-session-id: s", "tracestate: a=b"), "mine-2", TRACE),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("identified", IDENTIFIED)
@pytest.mark.parametrize("ending", ["well", "failed, and tried elsewhere", "engine lost midway"])
def test_ids_and_traces_of_gateways_keep_a_request_native_whatever_becomes_of_it(
    pair: Any, identified: str, ending: str, stream: bool
) -> None:
    lines, id, trace = IDENTIFIED[identified]
    both = pair(price=0.0)
    told: list[Submit] = []
    for house in (both.native, both.ordinary):
        keep = house._frame

        def frame(message: Message, keep: Any = keep) -> Any:
            if isinstance(message, Submit):
                told.append(message)
            return keep(message)

        house._frame = frame  # type: ignore[method-assign]
    both.play(("ask", post("", *lines, stream=stream)))
    assert both.native.passages == 1
    both.play(*(ENDINGS[ending] if ending in ENDINGS else (chunks(EVENT), done())))
    assert len(told) == (4 if ending == "failed, and tried elsewhere" else 2)
    for message in told:
        assert message.traceparent == trace
        assert message.request_id == id if id else re.fullmatch("[0-9a-f]{24}", message.request_id)
    for _, wire in both.native.clients:
        assert f"x-request-id: {told[0].request_id}\r\n".encode() in wire.sent


def test_a_session_is_known_of_a_request_that_left_the_native_steps() -> None:
    house = House(express=True, price=0.0)
    house.play(("ask", post("", "x-session-id: talk/7", stream=True)))
    house.play(("ask", post("", "x-session-id: talk/8", stream=True)))
    house.play(chunks(EVENT, 2))
    requests = cast(list[Request], list(house.router._requests))
    assert sorted((request.query.session_id, request.started) for request in requests) == [
        ("talk/7", False), ("talk/8", True),
    ]  # fmt: skip
    house.close()


TEXT_PARTS = [{"type": "text", "text": "Why is"}, {"text": "the sky blue?\n"}, {"type": "text", "text": "Say it."}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        (TEXT_PARTS, {}),
        (TEXT_PARTS[:1], {"stream": True}),
        ([], {}),
        ("x", {"tools": TOOLS, "tool_choice": "auto"}),
        (TEXT_PARTS, {"tools": TOOLS, "functions": [{"name": "g"}], "parallel_tool_calls": True}),
        ("x", {"tools": []}),
        ("x", {"logprobs": True, "top_logprobs": 3}),
        ("x", {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}}}),
        ("x", {"structured_outputs": {"regex": "a*"}}),
    ],
)
@pytest.mark.parametrize("able", [(), (LARGE,), (SMALL, LARGE)])
def test_text_parts_and_needs_are_decided_natively_as_ordinarily(
    pair: Any, content: Any, fields: dict[str, Any], able: tuple[int, ...]
) -> None:
    """`able`: the members that can do all there is; the others can only chat. Who can do it is chosen, else refused."""
    both = pair(price=0.0)
    for house in (both.native, both.ordinary):
        for i in able:
            house.members[i].described(frozenset(get_args(Capability)), 4096)
    both.play(("ask", chat(content, **fields)))
    plain = not any(fields.get(name) for name in ("tools", "logprobs", "response_format", "structured_outputs"))
    assert both.native.passages == (1 if plain or able else 0)
    if not both.native.passages:
        assert both.native.clients[0][1].sent.startswith(b"HTTP/1.1 400 ")
        return
    member = next(i for i in (SMALL, LARGE) if both.native.members[i].lane.calls)
    assert plain or member in able
    both.play(chunks(EVENT, member=member), done(member=member))
    both.play(("ask", chat(content, **fields)), ("tell", member, Fail(id=2, status=500, body=b"{}", retryable=True)))


@pytest.mark.parametrize("first", [b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n", post("{}")])
@pytest.mark.parametrize("begun", [b"G", b"GE", b"POST ", b"\r\nP"])
def test_a_request_whose_first_bytes_end_a_read_is_not_cut_in_two(pair: Any, first: bytes, begun: bytes) -> None:
    """The parser has them; a plain request that comes next is their rest, and no request of its own."""
    both = pair()
    both.play(("ask", first + begun), ("ask", post(), 0))
    assert both.native.passages == 0
    sent = both.native.clients[0][1].sent
    assert sent.count(b"HTTP/1.1 ") == 2


@pytest.mark.parametrize(
    "reads",
    [
        [b"POST /tokenize HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\nPO"],
        [b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n" * 2 + b"PO"],
    ],
    ids=["a chunked request in two reads", "two requests in one read"],
)
def test_first_bytes_behind_the_end_of_a_later_piece_are_not_cut_off_either(pair: Any, reads: list[bytes]) -> None:
    both = pair()
    both.play(*[("ask", read, 0) if at else ("ask", read) for at, read in enumerate(reads)], ("ask", post(), 0))
    assert both.native.passages == 0


class Raising:
    """A head in Python that raises `error` as long as there is one."""

    def __init__(self, score: Any) -> None:
        self.error: Exception | None = None
        self._score = score

    def score(self, segments: Any) -> Any:
        if self.error is not None:
            raise self.error
        return self._score(segments)


def with_raising_head(both: Pair) -> list[Raising]:
    heads = []
    for house in (both.native, both.ordinary):
        scoring = house.router._decider.scoring
        scoring.head = head = Raising(scoring.head.score)  # type: ignore[assignment]
        house.router.reload(house.router.config.routing)
        heads.append(head)
    return heads


@pytest.mark.parametrize("error", [RuntimeError("boom"), ValueError(), NoEngine("nothing is left")])
@pytest.mark.parametrize("stream", [False, True])
def test_a_head_that_raises_costs_its_request_an_error_and_the_connection_goes_on(
    pair: Any, caplog: pytest.LogCaptureFixture, error: Exception, stream: bool
) -> None:
    both = pair()
    heads = with_raising_head(both)
    for head in heads:
        head.error = error
    both.play(("ask", post(stream=stream)), ("ask", post(stream=stream), 0))
    sent = both.native.clients[0][1].sent
    assert sent.count(b"HTTP/1.1 503" if isinstance(error, NoEngine) else b"HTTP/1.1 500") == 2
    assert sent.count(b'{"error":{"message":') == 2
    assert ("internal error while answering a request" in caplog.text) != isinstance(error, NoEngine)
    both.play(("ask", post("", "x-request-id: mine", stream=stream), 0))
    assert b"x-request-id: mine\r\n" in both.native.clients[0][1].sent
    for head in heads:
        head.error = None
    both.play(("ask", post(stream=stream), 0))
    assert both.native.passages == 1


def test_a_request_whose_head_raised_is_freed_without_the_cycle_collector() -> None:
    house = House(express=True)
    scoring = house.router._decider.scoring
    scoring.head = head = Raising(scoring.head.score)  # type: ignore[assignment]
    house.router.reload(house.router.config.routing)

    def exchanges() -> int:
        return sum(type(each) is Exchange for each in gc.get_objects())

    gc.collect()
    gc.disable()
    before = exchanges()
    try:
        head.error = NoEngine("nothing is left")
        house.play(("ask", post()))
        assert house.clients[0][1].sent.startswith(b"HTTP/1.1 503 ")
        head.error = None  # its traceback is longer than ours
        house.play(("leave", 0))
        house.clients.clear()
        assert exchanges() == before
    finally:
        gc.enable()
        house.close()


def test_a_client_that_is_cut_as_its_answer_goes_out_is_counted_once() -> None:
    """The transport fails within the very write of the answer."""
    house = House(express=True, price=0.0)
    house.play(asked())
    _, wire = house.clients[0]

    def fail(data: bytes) -> None:
        raise RuntimeError("the handler is closed")

    wire.write = fail  # type: ignore[method-assign]
    house.play(chunks(ANSWER))
    house.play(done())
    assert wire.closed
    assert house.seen()["in_flight"] == (0, 0, 0, 0)
    house.close()


# Any order of events

member = st.integers(0, 1)
id = st.integers(1, 4)
data = st.sampled_from([EVENT, ANSWER, b""])
count = st.integers(-(2**63), 2**64 - 1)
message = st.one_of(
    st.lists(st.tuples(id, data), max_size=4).map(Chunks),
    st.builds(Done, id=id, usage=st.builds(Usage, st.just(9), st.integers(0, 3)), timings=st.just(Timings(0.1, 0.3))),
    st.builds(
        Done, id=id, usage=st.builds(Usage, count, count, count), timings=st.builds(Timings, st.floats(), st.floats())
    ),
    st.builds(Fail, id=id, status=st.sampled_from([400, 500, 0, 2**63]), body=st.just(b"{}"), retryable=st.booleans()),
    st.builds(Handoff, id=id, text=st.just(""), tokens=st.just(1), why=st.just("x")),
    st.just(Load(running=2, waiting=1, prefill_tokens_per_s=1e3)),
    st.builds(
        Load,
        running=count,
        waiting=count,
        kv_use=st.floats(),
        prefix_hit=st.floats(),
        prefill_tokens_per_s=st.floats(),
        time_per_output_token_s=st.floats(),
    ),
)
tell = st.tuples(st.just("tell"), member, message, message)
ask = st.builds(
    lambda stream, model, client: ("ask", post(stream=stream, model=model), client),
    st.booleans(),
    st.sampled_from(["auto", "auto", "small"]),
    st.none() | st.just(0),
)
client = st.integers(0, 3)
step = st.one_of(
    ask,
    ask,
    tell,
    tell,
    tell,
    st.tuples(st.just("leave"), client),
    st.tuples(st.just("cut"), client),
    st.tuples(st.just("lose"), member),
    st.tuples(st.just("revive"), member),
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([Wire, SocketWire]), st.lists(step, min_size=4, max_size=25))
def test_any_order_of_events(wire: type[Wire], steps: list[tuple[Any, ...]]) -> None:
    both = Pair(wire, price=0.0)
    both.play(asked(False), asked(True), *steps)
    both.close()


# The full parser

HEADERS = st.sampled_from([
    b"Host: x", b"host: y", b"content-type: application/json", b"Content-Length: 2", b"content-length: 3",
    b"connection: keep-alive", b"connection: close", b"accept: */*", b"transfer-encoding: chunked", b"a:b", b"a : b",
    b"", b"Content-Length: 2 ", b"content-length:\t2", b"user-agent: x y", b" folded", b"te: trailers",
    b"host: [::1]:80", b"host: [x]", b"host: []", b"host: a:b", b"host: [::1]1", b"host: a b",
    b"content-type: text/plain",
    b"x-request-id: mine", b"X-Request-ID: a  b ", b"x-request-id:", b"x-session-id: s", b"x-session-id:",
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"traceparent: 00-0-0-00",
    b"CONTENT-TYPE: application/JSON;x", b"content-type: application/json ", b"x-api-key: a ", b"authorization: a",
])  # fmt: skip
START = b"POST /v1/chat/completions HTTP/1.1\r\n"


class Taken:
    """What a reader hands over."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def take(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)


@pytest.fixture(scope="module")
def listener() -> Any:
    house = House(express=False)
    yield house.listener
    house.close()


@settings(max_examples=800, deadline=None)
@given(st.lists(HEADERS, max_size=5), st.binary(max_size=2), st.sampled_from([b"{}", b"{}{}", b"{", b""]))
def test_the_full_parser_reads_a_plain_request_alike(
    listener: Any, lines: list[bytes], noise: bytes, body: bytes
) -> None:
    data = START + b"".join(line + b"\r\n" for line in lines) + noise + b"\r\n" + body
    found = plain.read_request(data, START, listener.limits)
    if found is None:
        return
    taken = Taken()
    reader = Reader(cast(Connection, taken), listener)
    reader.read(data)
    while reader.unread.size:
        reader.step()
    (exchange,) = taken.exchanges
    assert exchange.error is None
    assert (exchange.body, exchange.keep_alive, exchange.old_client) == (found[0], True, False)
    assert (exchange.session_id.encode(), exchange.traceparent.encode()) == found[4:]
    assert exchange.identify().encode() == found[3] or not found[3]
    assert exchange.route is not None
    assert exchange.route.name == "/v1/chat/completions"
    assert not reader.continue_due
    reader.close()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("end", [done(), ("tell", LARGE, Fail(id=1, status=400, body=b'{"message":"too hot"}'))])
def test_a_cut_while_an_end_waits_for_its_record_ends_the_answer_as_the_record_says(
    pair: Any, stream: bool, end: tuple[Any, ...]
) -> None:
    both = pair(price=0.0)
    held: list[Callable[[], None]] = []
    for house in (both.native, both.ordinary):
        house.hold_ends()
        house.router.ledger.keeper = held.extend
    both.play(asked(stream=stream), chunks(EVENT if stream else ANSWER), end)
    client, wire = both.native.clients[0]
    before = wire.sent
    assert before.endswith(EVENT + b"\r\n") if stream else before == b""
    both.play(("cut", 0))
    (record,) = both.native.records
    after = wire.sent
    assert (b"too hot" in after, b"shutting down" in after) == (record.end == "error", False)
    assert (client._active, wire.closed) == (None, True)
    for house in (both.native, both.ordinary):
        house.router.ledger.keeper = None
    for act in held:
        act()
    assert wire.sent == after
