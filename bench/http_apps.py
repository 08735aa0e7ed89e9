"""One endpoint, many HTTP servers: a constant JSON answer, or a stream of as many events as the body asks for.

    python bench/http_apps.py NAME PORT        bare | headgate | starlette | asgi | aiohttp | granian

Each decodes the body alike and takes a stream's chunks from one shared ticker, as engines deliver them.
`headgate` is the whole frontend (routes, query, headers, metrics) over a service that answers at once; the others do
nothing but answer.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from router.types import Decision

PATH = "/v1/chat/completions"
TICK_S = 0.02
REPLY = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"ok"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1}}'
)
EVENT = (
    b'data: {"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n'
)
END = b"data: [DONE]\n\n"


class Body(msgspec.Struct):
    stream: bool = False
    max_tokens: int = 1


decode = msgspec.json.Decoder(Body).decode


class Ticker:
    """Calls every open stream once a tick with an event, then with the end."""

    def __init__(self) -> None:
        self._open: list[tuple[Callable[[bytes], None], int]] = []

    def add(self, take: Callable[[bytes], None], events: int) -> None:
        if not self._open:
            asyncio.get_running_loop().call_later(TICK_S, self._tick)
        self._open.append((take, events))

    def _tick(self) -> None:
        going, self._open = self._open, []
        for take, left in going:
            take(EVENT if left else END)
            if left:
                self._open.append((take, left - 1))
        if self._open:
            asyncio.get_running_loop().call_later(TICK_S, self._tick)


ticker = Ticker()


async def events(body: Body) -> AsyncIterator[bytes]:
    """A stream's chunks through a queue, as handlers of these frameworks receive them."""
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    ticker.add(queue.put_nowait, body.max_tokens)
    while (chunk := await queue.get()) is not END:
        yield chunk
    yield END


# Servers


def bare(port: int) -> None:
    """The floor: a parser and constant bytes, no routes, no checks."""
    import httptools
    import uvloop

    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(REPLY)
    stream_head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            self.parser = httptools.HttpRequestParser(self)

        def data_received(self, data: bytes) -> None:
            self.parser.feed_data(data)

        def on_body(self, data: bytes) -> None:
            body = decode(data)
            if not body.stream:
                self.transport.write(head + REPLY)
                return
            self.transport.write(stream_head)
            ticker.add(self.chunk, body.max_tokens)

        def on_message_complete(self) -> None:
            if self.parser.get_method() == b"GET":
                self.transport.write(head + REPLY)

        def chunk(self, data: bytes) -> None:
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
            if data is END:
                self.transport.write(b"0\r\n\r\n")

    async def main() -> None:
        await (await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", port)).serve_forever()

    uvloop.run(main())


def headgate(port: int) -> None:
    import gc

    import uvloop

    from router.config import Server
    from router.frontend.server import Frontend

    async def main() -> None:
        frontend = Frontend(Server(port=port, admin_port=0), Instant())  # type: ignore[arg-type]
        await frontend.start()
        gc.collect()
        gc.freeze()
        await asyncio.Event().wait()

    uvloop.run(main())


class Instant:
    """A `Service` that answers in the next tick of the loop."""

    intake = express = None  # no native steps: what is compared are those in Python; `express`: of earlier commits
    gate = None  # the listener's own
    rule_headers: frozenset[str] = frozenset()

    def __init__(self) -> None:
        from router.types import Decision, Usage

        self._decision: Decision = Decision(
            id="d", model="m", member=0, reason="utility", score=0.7, threshold=0.5, terms=()
        )
        self._usage = Usage(9, 1)

    def submit(self, query: Any, body: bytes, sink: Any, *, traceparent: str = "", permit: Any = None) -> "Instant":
        if query.stream:
            ticker.add(Chunks(sink, self._decision), query.max_tokens or 1)
        else:
            asyncio.get_running_loop().call_soon(self._reply, sink)
        return self

    def _reply(self, sink: Any) -> None:
        from router.ipc.messages import Done

        sink.start(self._decision)
        sink.chunk(REPLY)
        sink.done(Done(id=1, usage=self._usage))

    def cancel(self) -> None:
        """The client left; nothing runs that could be stopped."""

    def members(self) -> tuple[()]:
        return ()


class Chunks:
    def __init__(self, sink: Any, decision: "Decision") -> None:
        self._sink = sink
        self._decision: Decision | None = decision

    def __call__(self, data: bytes) -> None:
        from router.ipc.messages import Done

        if self._decision is not None:
            self._sink.start(self._decision)
            self._decision = None
        self._sink.chunk(data)
        if data is END:
            self._sink.done(Done(id=1))


def starlette(port: int) -> None:
    import uvicorn

    uvicorn.run(starlette_app(), host="127.0.0.1", port=port, **_UVICORN)


_UVICORN: dict[str, Any] = {"loop": "uvloop", "http": "httptools", "access_log": False, "log_level": "error"}


def starlette_app() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import Route

    async def chat(request: Request) -> Response:
        body = decode(await request.body())
        if body.stream:
            return StreamingResponse(events(body), media_type="text/event-stream")
        return Response(REPLY, media_type="application/json")

    async def health(request: Request) -> Response:
        return Response(b"{}", media_type="application/json")

    return Starlette(routes=[Route(PATH, chat, methods=["POST"]), Route("/health", health)])


def asgi(port: int) -> None:
    """uvicorn without a framework."""
    import uvicorn

    uvicorn.run(asgi_app, host="127.0.0.1", port=port, lifespan="off", **_UVICORN)


async def asgi_app(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    if scope["type"] != "http":
        return
    data = b""
    while True:
        message = await receive()
        data += message.get("body", b"")
        if not message.get("more_body"):
            break
    body = decode(data or b"{}")
    kind = b"text/event-stream" if body.stream else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    if body.stream:
        async for chunk in events(body):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    else:
        await send({"type": "http.response.body", "body": REPLY})


def aiohttp(port: int) -> None:
    import uvloop
    from aiohttp import web

    async def chat(request: web.Request) -> web.StreamResponse:
        body = decode(await request.read())
        if not body.stream:
            return web.Response(body=REPLY, content_type="application/json")
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        async for chunk in events(body):
            await response.write(chunk)
        return response

    async def health(request: web.Request) -> web.Response:
        return web.Response(body=b"{}", content_type="application/json")

    app = web.Application()
    app.add_routes([web.post(PATH, chat), web.get("/health", health)])
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None, loop=uvloop.new_event_loop())


def granian(port: int) -> None:
    """A server in Rust that runs ASGI applications."""
    import os
    from pathlib import Path

    os.chdir(Path(__file__).parent)
    quiet = ["--no-access-log", "--log-level", "critical", "--loop", "uvloop"]
    where = ["--interface", "asginl", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    program = str(Path(sys.executable).with_name("granian"))
    os.execv(program, [program, *where, *quiet, "http_apps:asgi_app"])


SERVERS = {each.__name__: each for each in (bare, headgate, starlette, asgi, aiohttp, granian)}

if __name__ == "__main__":
    SERVERS[sys.argv[1]](int(sys.argv[2]))
