"""Mutated requests into the HTTP protocol, over a transport of our own: it answers or closes, and never raises.

`HEADGATE_FUZZ_ROUNDS` makes it longer, `HEADGATE_FUZZ_SEED` repeats a failure: `make fuzz`.
"""

import asyncio
import json
import os
import random
import re
from typing import Any

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.config import Limits, Server
from router.errors import EngineFailed, Overloaded, RouterError
from router.frontend.connection import Connection
from router.frontend.listener import Listener
from router.frontend.public import Public
from router.gate.keys import Keys
from router.ipc.messages import Done
from router.observe.metrics import Metrics
from router.pipeline.service import MemberStatus, ModelCard
from router.pipeline.sink import Sink
from router.policy.prices import PricesTold
from router.types import Decision, Query, body_of

ROUNDS = int(os.environ.get("HEADGATE_FUZZ_ROUNDS", "3000"))
SEED = int(os.environ.get("HEADGATE_FUZZ_SEED", "20260101"))

DECISION = Decision(id="d", model="m", member=0, reason="utility", terms=())
LIMITS = Limits(body_bytes=4096, header_bytes=2048, headers=20, stream_buffer_bytes=4096)


class Transport:
    """Keeps what is written; closes as asyncio's does, one step later."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.closing = False
        self.ended = False
        self.reading = True

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        assert data
        assert not self.ended, "written after the end of our side"
        if not self.closing:
            self.out += data

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> None: ...

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True


class Ticket:
    def __init__(self, sink: Sink, stream: bool) -> None:
        self.sink = sink
        self.stream = stream
        self.cancelled = False

    def cancel(self, why: RouterError | None = None) -> None:
        self.cancelled = True


class Service:
    """Refuses now and then; the rest is answered step by step by the driver."""

    changes = None
    rule_headers: frozenset[str] = frozenset()

    def __init__(self, source: random.Random) -> None:
        self.source = source
        self.tickets: list[Ticket] = []
        self.open: list[Ticket] = []

    def submit(self, query: Query, body: bytes, sink: Sink, *, traceparent: str = "", permit: object = None) -> Ticket:
        if body_of(query.kind) != "form":
            json.loads(body)  # what reaches the pipeline is JSON
        if self.source.random() < 0.1:
            raise Overloaded("busy")
        ticket = Ticket(sink, query.stream)
        self.tickets.append(ticket)
        self.open.append(ticket)
        return ticket

    def decide(self, query: Query) -> Decision:
        return DECISION

    def models(self) -> tuple[ModelCard, ...]:
        return (ModelCard(id="auto", created=1),)

    def members(self) -> tuple[MemberStatus, ...]:
        return ()

    def prices(self) -> PricesTold:
        return PricesTold(objective="price", price=100.0, price_of="")

    def able(self) -> dict[str, frozenset[str]]:
        return {"auto": frozenset({"chat", "embeddings"})}

    def in_flight(self) -> int:
        return len(self.open)

    def step(self) -> None:
        """Bring one answer further."""
        if not self.open:
            return
        ticket = self.open.pop()
        if ticket.cancelled:
            return
        way = self.source.randrange(4)
        if way == 0:
            ticket.sink.fail(EngineFailed("died"))
            return
        ticket.sink.start(DECISION)
        ticket.sink.chunk(b"data: {}\n\n" if ticket.stream else b"{}")
        if way == 1:
            ticket.sink.fail(EngineFailed("died"))
        else:
            ticket.sink.done(Done(id=1))


class WatchedListener(Listener):
    """Keeps what would be logged as a bug of ours."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.bugs: list[BaseException] = []

    def bug(self, error: BaseException) -> None:
        self.bugs.append(error)


class Driver:
    """One connection, fed and watched."""

    def __init__(self, source: random.Random) -> None:
        self.source = source
        self.service = Service(source)
        metrics = Metrics(process=False)
        self.listener = WatchedListener(
            Public(self.service, metrics, lambda: False, Server()).routes(), Keys(()), LIMITS, metrics
        )
        self.listener.sweep(0.0)
        self.transport = Transport()
        self.connection = Connection(self.listener)
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]

    def feed(self, data: bytes) -> None:
        if not self.transport.closing:
            while not self.transport.reading and not self.transport.closing:
                self.step()
            self.connection.data_received(data)
        if self.source.random() < 0.5:
            self.service.step()

    def step(self) -> None:
        """Bring one answer further, and the loop's next turn."""
        self.service.step()
        self.listener.turns.turn()

    def end(self, how: int) -> None:
        """Finish the answers, let time pass or the client leave; nothing may be left over."""
        if how == 0:
            self.connection.eof_received()
        while self.service.open or self.listener.turns:
            self.step()
        for now in (1e6, 2e6):
            self.listener.sweep(now)
            while self.listener.turns:
                self.step()
        assert self.transport.closing or how == 0, "neither answered nor closed"
        self.connection.connection_lost(None)
        assert not self.listener.connections
        assert self.listener.running == 0
        assert self.listener.body_bytes == 0
        assert self.listener.metrics.connections == 0
        assert not self.listener.bugs, self.listener.bugs


class Answers:
    """Parses what came out; raises where it is not HTTP."""

    def __init__(self, data: bytes) -> None:
        self.statuses: list[int] = []
        self.begun = self.complete = 0
        parser: Any = httptools.HttpResponseParser(self)
        self._parser = parser
        parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_headers_complete(self) -> None:
        self.statuses.append(self._parser.get_status_code())

    def on_message_complete(self) -> None:
        self.complete += 1


def _body(**fields: object) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": "hi"}]} | fields).encode()


def _post(path: str, body: bytes, *headers: str) -> bytes:
    lines = "".join(f"{line}\r\n" for line in headers)
    return (
        f"POST {path} HTTP/1.1\r\nHost: h\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode()
        + body
    )


def _chunked(body: bytes, size: int) -> bytes:
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


_PARTS = (
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\x00\xff\r\n--b--\r\n'
)
_FORM = (
    b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_PARTS), _PARTS)
)
VALID = [
    _post("/v1/chat/completions", _body()),
    _post("/v1/chat/completions", _body(stream=True), "X-Request-Id: r", "x-headgate-debug: true"),
    _post("/v1/completions", b'{"prompt":"x","stream":true}'),
    _post("/v1/responses", b'{"input":"x","stream":true}'),
    _post("/v1/messages", _body(max_tokens=3, stream=True)),
    _post("/v1/chat/completions", _body(), "Connection: close"),
    _post("/v1/chat/completions", _body(), "Connection: Upgrade", "Upgrade: h2c"),
    _post("/v1/chat/completions", _body(), "Expect: 100-continue"),
    _post("/v1/chat/completions", b"x" * 5000),
    _post("/v1/embeddings", b'{"input":["x"],"encoding_format":"base64"}'),
    _post("/v1/chat/completions/batch", b'{"messages":[[{"role":"user","content":"hi"}]]}'),
    _post("/invocations", b'{"input":"x"}'),
    _FORM,
    b"GET /tokenizer_info?model=m HTTP/1.1\r\nHost: h\r\n\r\n",
    _post("/nothing", b"{}"),
    _chunked(_body(), 7),
    _chunked(_body(stream=True), 100),
    b"GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n",
    b"HEAD /health HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /metrics HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"OPTIONS /v1/models HTTP/1.1\r\nHost: h\r\n\r\n",
    b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n",
]


def _stays_open(request: bytes) -> bool:
    """After its answer. Also leaves out what differs from run to run, or is answered before its body has come."""
    return not any(part in request for part in (b"close", b"HTTP/1.0", b"CONNECT", b"/metrics", b"Expect", b"xxx"))


SEEDS = [
    b"\r\n",
    b"\0",
    b"0\r\n\r\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b": ",
    b"HTTP/1.1",
    b"ffffffff",
]


def _mutated(source: random.Random) -> bytes:
    stream = bytearray(b"".join(source.choice(VALID) for _ in range(source.randrange(1, 5))))
    for _ in range(source.randrange(6)):
        at = source.randrange(len(stream) + 1)
        match source.randrange(6):
            case 0:
                stream[at : at + 1] = bytes((source.randrange(256),))
            case 1:
                del stream[at : at + source.randrange(1, 20)]
            case 2:
                stream[at:at] = source.choice(SEEDS)
            case 3:
                stream[at:at] = stream[at : at + source.randrange(1, 200)]
            case 4:
                stream[at:at] = bytes((source.randrange(256),)) * source.choice((1, 10, 3000))
            case 5:
                del stream[at:]
    return bytes(stream)


async def test_mutated_requests_are_answered_or_closed() -> None:
    source = random.Random(SEED)
    for round in range(ROUNDS):
        state = source.getstate()
        data = _mutated(source)
        driver = Driver(source)
        try:
            at = 0
            while at < len(data):
                size = source.choice((1, 3, 50, 1000, 100_000))
                driver.feed(data[at : at + size])
                at += size
            driver.end(source.randrange(3))
            # A HEAD answer has no body: the parser cannot know which was asked for.
            if b"HEAD" not in data and b"CONNECT" not in data:
                Answers(bytes(driver.transport.out))
        except Exception as error:
            source.setstate(state)
            pytest.fail(f"seed {SEED}, round {round}: {data!r}: {error!r}")
        if round % 500 == 0:
            await asyncio.sleep(0)


async def test_random_bytes_are_answered_or_closed() -> None:
    source = random.Random(f"{SEED}-random")
    for round in range(ROUNDS):
        data = source.randbytes(source.randrange(1, 300))
        driver = Driver(source)
        try:
            driver.feed(data)
            driver.end(source.randrange(3))
            answers = Answers(bytes(driver.transport.out))
            assert set(answers.statuses) <= {400, 408, 431}
        except Exception as error:
            pytest.fail(f"seed {SEED}, round {round}: {data!r}: {error!r}")


@settings(max_examples=150, deadline=None)
@given(
    picks=st.lists(st.sampled_from(range(len(VALID) - 1)), min_size=1, max_size=4),
    cuts=st.lists(st.integers(1, 400), max_size=30),
)
def test_how_bytes_are_cut_changes_nothing(picks: list[int], cuts: list[int]) -> None:
    """The same requests in one read or in many: the same queries, and the same statuses."""
    data = b"".join(VALID[pick] for pick in picks)

    async def run(sizes: list[int]) -> tuple[int, list[str]]:
        driver = Driver(random.Random(0))
        driver.service.source = _Steady()  # type: ignore[assignment]
        driver.source = _Steady()  # type: ignore[assignment]
        at = 0
        for size in [*sizes, len(data)]:
            if data[at : at + size]:
                driver.feed(data[at : at + size])
            at += size
        while driver.service.open or driver.listener.turns:
            driver.step()
        out = bytes(driver.transport.out).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
        statuses = [part[:3].decode() for part in out.split(b"HTTP/1.1 ")[1:]]
        return len(driver.service.tickets), statuses

    assert asyncio.run(run(cuts)) == asyncio.run(run([]))


class _Steady:
    """In place of chance: never refuses, always finishes well."""

    def random(self) -> float:
        return 0.4

    def randrange(self, stop: int) -> int:
        return stop - 1


#: What differs from run to run.
_OWN = re.compile(rb"(?:date|x-request-id|x-headgate-overhead-ms): [^\r]*\r\n")


@settings(max_examples=60, deadline=None)
@given(
    picks=st.lists(st.sampled_from([one for one in VALID if _stays_open(one)]), min_size=10, max_size=60),
    cuts=st.lists(st.integers(1, 20_000), max_size=4),
)
def test_pipelining_across_the_bound_changes_no_byte(picks: list[bytes], cuts: list[int]) -> None:
    """Far more requests than may wait, at once or in few reads: the same answers as one after the other."""

    async def run(reads: list[bytes]) -> bytes:
        driver = Driver(random.Random(0))
        driver.service.source = _Steady()  # type: ignore[assignment]
        driver.source = _Steady()  # type: ignore[assignment]
        for read in reads:
            driver.feed(read)
            while len(reads) == len(picks) and driver.service.open:
                driver.step()
        while driver.service.open or driver.listener.turns:
            driver.step()
        assert not driver.listener.bugs
        return _OWN.sub(b"", bytes(driver.transport.out))

    data, at, reads = b"".join(picks), 0, []
    for size in [*cuts, len(data)]:
        reads += [data[at : at + size]] if data[at : at + size] else []
        at += size
    assert len(reads) < len(picks)
    assert asyncio.run(run(reads)) == asyncio.run(run(picks))
