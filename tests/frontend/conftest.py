"""A scripted pipeline and a raw HTTP client: the frontend is driven byte by byte, without engines."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from router.config import ApiKey, Limits, Server
from router.errors import ClientGone, RouterError
from router.frontend.server import Frontend
from router.ipc.messages import Done
from router.ipc.spec import EngineCall
from router.observe.feedback import Feedback
from router.observe.metrics import Metrics
from router.observe.record import SCHEMA_VERSION, Record
from router.pipeline.batch.batches import Batches
from router.pipeline.service import MemberStatus, ModelCard
from router.pipeline.sink import Sink
from router.policy.prices import PricesTold
from router.types import Decision, MemberState, Query, Term, Timings, Usage
from tests.conftest import patience
from tests.conftest import until as eventually

DECISION = Decision(
    id="d-1",
    model="small",
    member=0,
    reason="utility",
    score=0.71,
    threshold=0.5,
    terms=(Term(model="small", quality=0.71, gpu_s=0.1, cost_usd=1e-5, wait_s=float("inf"), utility=0.7),),
)
DONE = Done(id=1, usage=Usage(10, 2, 4), timings=Timings(first_token_s=0.01, total_s=0.03))
REPLY = b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"small","choices":[]}'


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """All of this room's tests run on both loops: serving uses uvloop, a program that embeds us may not."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@dataclass
class Request:
    """What the service was asked, and its ticket."""

    query: Query
    body: bytes
    sink: Sink
    traceparent: str
    metrics: Metrics | None = None
    cancelled: bool = False

    def cancel(self, why: RouterError | None = None) -> None:
        error = why or ClientGone("the client left")
        if not self.cancelled:
            self._ended(end="cancel" if why is None else "error", status=error.status, error=error.type)
        self.cancelled = True

    def reply(self, body: bytes = REPLY) -> None:
        self._ended(end="finish", status=200, model=DECISION.model, completion_tokens=DONE.usage.completion_tokens)
        self.sink.start(DECISION)
        self.sink.chunk(body)
        self.sink.done(DONE)

    def _ended(self, **how: Any) -> None:
        """Counted as by the pipeline's ledger."""
        if self.metrics is not None:
            query = self.query
            about = {"id": DECISION.id, "request_id": query.request_id, "kind": query.kind, "asked": query.model}
            self.metrics.ended(Record(version=SCHEMA_VERSION, time_s=time.time(), **about, **how))


def event(text: str) -> bytes:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "small"}
    return b"data: %b\n\n" % json.dumps(chunk | {"choices": [{"index": 0, "delta": {"content": text}}]}).encode()


@dataclass
class ScriptedService:
    """Answers as its script says; with none, tests drive the sinks of `requests` themselves."""

    script: Callable[[Request], None] | None = None
    refusal: RouterError | None = None
    ready: bool = True
    requests: list[Request] = field(default_factory=list)
    intake: None = None
    rule_headers: frozenset[str] = frozenset()
    changes: None = None
    feedback: Feedback | None = None
    batches: Batches | None = None
    metrics: Metrics | None = None
    gate: None = None
    calls: list[tuple[str, EngineCall]] = field(default_factory=list)
    abilities: dict[str, frozenset[str]] = field(default_factory=lambda: {"auto": frozenset({"chat", "completions"})})

    def submit(self, query: Query, body: bytes, sink: Sink, *, traceparent: str = "", permit: object = None) -> Request:
        if self.refusal is not None:
            raise self.refusal
        request = Request(query, body, sink, traceparent, self.metrics)
        self.requests.append(request)
        if self.script is not None:
            asyncio.get_running_loop().call_soon(self.script, request)
        return request

    def decide(self, query: Query) -> Decision:
        return DECISION

    def models(self) -> tuple[ModelCard, ...]:
        return (
            ModelCard(id="auto", root="org/small", created=1),
            ModelCard(id="headgate/auto", created=1),
            ModelCard(id="small", root="org/small", created=1, context_tokens=4096),
        )

    def members(self) -> tuple[MemberStatus, ...]:
        state = MemberState(name="small", ready=self.ready, running=3, waiting=1, kv_use=0.25)
        phase = "ready" if self.ready else "starting"
        return (MemberStatus(name="small", kind="engine", phase=phase, state=state, in_flight=4, restarts=2),)

    async def operate(self, name: str, call: EngineCall) -> bytes:
        self.calls.append((name, call))
        if self.refusal is not None:
            raise self.refusal
        return b'{"success":true}'

    def prices(self) -> PricesTold:
        return PricesTold(objective="price", price=100.0, price_of="")

    def able(self) -> dict[str, frozenset[str]]:
        return self.abilities

    def in_flight(self) -> int:
        return len(self.requests)

    async def asked(self, count: int = 1) -> Request:
        """The `count`-th request, once it has come."""
        await eventually(lambda: len(self.requests) >= count, lambda: f"{len(self.requests)} requests of {count}")
        return self.requests[count - 1]


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, object]:
        error: dict[str, object] = json.loads(self.body)["error"]
        return error


class Client:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> tuple[int, dict[str, str]]:
        async with patience():
            head = await self.reader.readuntil(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return int(status_line.split(" ")[1]), headers

    async def chunk(self) -> bytes:
        """The next chunk of a chunked body; empty at its end."""
        async with patience():
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            data = await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        return data

    async def response(self, *, to_head: bool = False) -> Response:
        status, headers = await self.head()
        body = b""
        if to_head or status in (204, 100):
            pass
        elif headers.get("transfer-encoding") == "chunked":
            while data := await self.chunk():
                body += data
        elif "content-length" in headers:
            async with patience():
                body = await self.reader.readexactly(int(headers["content-length"]))
        else:
            body = await self.rest()
        return Response(status, headers, body)

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        async with patience():
            return await self.reader.read()

    async def closed(self) -> bool:
        return await self.rest() == b""

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


def post(path: str, body: bytes | dict[str, object], *headers: str, version: str = "1.1") -> bytes:
    """A POST request's bytes, of JSON unless `headers` say otherwise."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    typed = any(line.lower().startswith("content-type") for line in headers)
    lines = "".join(f"{line}\r\n" for line in (*headers, *(() if typed else ("Content-Type: application/json",))))
    return f"POST {path} HTTP/{version}\r\nHost: h\r\nContent-Length: {len(data)}\r\n{lines}\r\n".encode() + data


def chat(*headers: str, **fields: object) -> bytes:
    """A chat request's bytes."""
    body: dict[str, object] = {"messages": [{"role": "user", "content": "hello"}]}
    return post("/v1/chat/completions", body | fields, *headers)


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    lines = "".join(f"{line}\r\n" for line in headers)
    return f"{method} {path} HTTP/1.1\r\nHost: h\r\n{lines}\r\n".encode()


class Clock:
    """That of a frontend's time-outs: the machine's, until it is stopped; then it moves when told to."""

    def __init__(self) -> None:
        self._stopped_s: float | None = None

    def __call__(self) -> float:
        return time.monotonic() if self._stopped_s is None else self._stopped_s

    def stop(self) -> None:
        self._stopped_s = self()

    def move(self, seconds: float) -> None:
        self._stopped_s = self() + seconds


class House:
    """Starts frontends and clients, and ends them all."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.frontends: list[Frontend] = []
        self.clients: list[Client] = []

    async def start(
        self,
        service: ScriptedService,
        *,
        api_keys: tuple[str | ApiKey, ...] = (),
        allowed_origins: tuple[str, ...] = (),
        **limits: float,
    ) -> Frontend:
        config = Server(
            port=0,
            admin_port=0,
            api_keys=api_keys,
            allowed_origins=allowed_origins,
            limits=Limits(**limits),  # type: ignore[arg-type]
        )
        service.metrics = Metrics(process=False)
        frontend = Frontend(config, service, service.metrics, clock=self.clock)
        await frontend.start()
        self.frontends.append(frontend)
        return frontend

    async def connect(self, frontend: Frontend, *, admin: bool = False) -> Client:
        port = frontend.admin_port if admin else frontend.port
        client = Client(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 22))
        self.clients.append(client)
        return client

    async def end(self) -> None:
        for client in self.clients:
            await client.close()
        for frontend in self.frontends:
            await frontend.stop()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    yield house
    await house.end()


@pytest.fixture
def service() -> ScriptedService:
    return ScriptedService()


@pytest.fixture
def replying() -> ScriptedService:
    """A service that answers everything at once."""
    return ScriptedService(script=Request.reply)


Ask = Callable[..., Awaitable[Response]]


@pytest.fixture
async def ask(house: House, replying: ScriptedService) -> Ask:
    """Sends bytes on a connection of their own to a frontend with default limits; the first response."""
    frontend = await house.start(replying)

    async def send(data: bytes, *, admin: bool = False) -> Response:
        client = await house.connect(frontend, admin=admin)
        client.send(data)
        return await client.response(to_head=data.startswith(b"HEAD"))

    return send


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    return eventually
