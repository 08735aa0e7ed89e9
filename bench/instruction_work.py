"""What `instructions.py` counts, each kind of work in this one process: no HTTP client, no engine, no other process.

Whole frontends and engine hosts, from the bytes that a transport reads to those that it is given; sockets are written
to, and not read while anything is counted. Started under callgrind, with the `router` of either checkout on the path.
"""

import asyncio
import gc
import importlib.util
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import decision
import msgspec
import prompts
import uvloop
from links import Deaf, Link

from router.config import Config, Member, Server, Supervision
from router.frontend.connection import Connection
from router.frontend.server import Frontend
from router.host import fields, sse
from router.host.base import Facts
from router.host.render import Renderer
from router.host.server import Server as Host
from router.ipc.channel import encode_frame
from router.ipc.messages import Chunks, Done, Hello, Load, Submit
from router.observe.metrics import Metrics
from router.pipeline.router import Router
from router.pool.engine import EngineMember
from router.types import Timings, Usage

#: By its path: the other checkout's package, which `router` is here, may have none.
_SPEC = importlib.util.spec_from_file_location(
    "client", Path(__file__).resolve().parent.parent / "router" / "learn" / "bench" / "client.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
client = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(client)

CHAT = "/v1/chat/completions"
CONNECTIONS, STREAMS, WORDS = 32, 64, 100
EVENT = b"data: " + b"x" * 180 + b"\n\n"
ANSWER = b'{"id":"chatcmpl-1","object":"chat.completion","choices":[],"usage":{"prompt_tokens":120}}' + b" " * 200
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


class Kind(NamedTuple):
    """One kind of work."""

    name: str
    units: int  #: that one call does
    calls: int  #: to count, and as many again for the difference
    work: Callable[[], None]
    clear: Callable[[], None] = lambda: None  #: what the sockets hold, between counts


class Wire(Deaf):
    """A transport over half of a socket pair: nothing waits in it."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        for end in (self.near, self.far):
            end.setblocking(False)
        self.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)

    def get_extra_info(self, name: str) -> Any:
        return self.near if name == "socket" else None

    def clear(self) -> None:
        try:
            while self.far.recv(1 << 20):
                pass
        except BlockingIOError:
            pass

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Front:
    """A frontend over two engine members, and its clients."""

    def __init__(self, api_keys: tuple[str, ...] = ()) -> None:
        self.loop = asyncio.get_running_loop()
        pool = (
            Member(name="small", model="a", strength=0.44, gpu_share=0.2),
            Member(name="large", model="b", strength=0.63, gpu_share=0.7),
        )
        server = Server(port=0, admin_port=0, api_keys=api_keys, io_uring=False)
        config = Config(pool=pool, server=server)
        self.members = [EngineMember(m, Supervision(), Path("/nowhere"), gpu_share=m.gpu_share or 0.5) for m in pool]
        self.links = [self._link(member) for member in self.members]
        self.router = Router(config, pool=self.members)
        self.ledger: Any = getattr(self.router, "ledger", None)  # versions before had none
        self.listener = Frontend(server, self.router, Metrics(process=False))._public
        self.listener.sweep(self.loop.time())
        self.wires: list[Wire] = []
        self.clients = [self.connect() for _ in range(CONNECTIONS)]

    def keep_lines(self) -> None:
        """From now on the ledger's records are written as a journal has them."""
        encode = msgspec.json.Encoder().encode_lines

        def write(told: Any) -> None:
            told.lines(encode) if hasattr(told, "lines") else encode(told)  # versions before had a list of records

        if self.ledger is not None:
            self.ledger.subscribe(write)

    def _link(self, member: EngineMember) -> Link:
        link = Link(member, self.loop, natively=True)
        member._link, member.phase = link, "ready"  # type: ignore[assignment]
        member.described(frozenset({"chat", "completions", "tools"}), 32_768)
        member._writable(True)
        return link

    def connect(self) -> Connection:
        made, wire = Connection(self.listener), Wire()
        self.wires.append(wire)
        made.connection_made(wire)  # type: ignore[arg-type]
        return made

    def clear(self) -> None:
        for wire in self.wires:
            wire.clear()

    def turn(self) -> None:
        """Send to the engines what was gathered for them, as the loop's next turn would."""
        for link in self.links:
            link.channel._flush()

    def round(self, requests: list[bytes]) -> None:
        """A request on each connection, and the answers of all."""
        begun = [member.lane.last_id for member in self.members]
        for connection, request in zip(self.clients, requests, strict=True):
            connection.data_received(request)
        self.turn()
        for member, link, last in zip(self.members, self.links, begun, strict=True):
            ids = range(last + 1, member.lane.last_id + 1)
            if ids:
                frames = [encode_frame(Chunks([(id, ANSWER) for id in ids]))]
                frames += [encode_frame(done(id)) for id in ids]
                link.channel.data_received(b"".join(frames))
        if self.ledger is not None:
            self.ledger.tell()

    def requests(self, name: str, requests: list[bytes]) -> Kind:
        def work() -> None:
            self.round(requests)

        before = sum(member.lane.last_id for member in self.members)
        work()
        if sum(member.lane.last_id for member in self.members) != before + CONNECTIONS or self.router.in_flight():
            raise RuntimeError(f"{name}: not every request was answered")
        return Kind(name, CONNECTIONS, 6, work, self.clear)

    def new_connections(self, request: bytes) -> Kind:
        """A connection for each request."""
        wires = self.wires[:CONNECTIONS]

        def work() -> None:
            kept, self.clients = self.clients, []
            for wire in wires:
                made = Connection(self.listener)
                made.connection_made(wire)  # type: ignore[arg-type]
                self.clients.append(made)
            self.round([request] * CONNECTIONS)
            for made in self.clients:
                made.connection_lost(None)
            self.clients = kept

        return Kind("connection_and_chat", CONNECTIONS, 6, work, self.clear)

    def streams(self, name: str, request: bytes) -> Kind:
        """A token for each of the streams, again and again."""
        link, lane = self.links[1], self.members[1].lane
        first = lane.last_id + 1
        for _ in range(STREAMS):
            self.connect().data_received(request)
        self.turn()
        if lane.last_id != first + STREAMS - 1:
            raise RuntimeError(f"{name}: not every stream was begun")
        frame = bytes(encode_frame(Chunks([(id, EVENT) for id in range(first, first + STREAMS)])))
        return Kind(name, STREAMS, 20, lambda: link.channel.data_received(frame), self.clear)


def done(id: int) -> Done:
    return Done(id=id, usage=Usage(120, 16), timings=Timings(0.01, 0.1))


class Engine:
    """Keeps its answers for whoever plays it."""

    def __init__(self) -> None:
        self.facts = Facts(context_tokens=32_768)
        self.begun: list[tuple[Submit, Any]] = []
        self.now = Load()

    def start(self, submit: Submit, answer: Any) -> Callable[[], None]:
        self.begun.append((submit, answer))
        return lambda: None

    def load(self) -> Load:
        return self.now


class Hosted:
    """An engine host and its frontend's connection. What vLLM would do is left out."""

    def __init__(self) -> None:
        self.engine = Engine()
        host = Host("large", self.engine, load_interval_s=0.1, stream_buffer_bytes=1 << 20)  # type: ignore[arg-type]
        self.channel = host.accept()
        self.channel.connection_made(Deaf())  # type: ignore[arg-type]
        if "role" in Hello.__struct_fields__:  # hosts of protocol 2 wait for it
            self.channel.data_received(bytes(encode_frame(Hello(role="owner"))))
        self.outbox: Any = self.channel._handler._outbox  # type: ignore[attr-defined]
        self.renderer = Renderer(lambda conversation, variables: conversation[0]["content"], lambda text, _: [1] * 100)
        # What vLLM 0.32.0 sends empty, where this version sends it too.
        empty = {
            "answer": b',"service_tier":null,"prompt_logprobs":null,"prompt_token_ids":null,"kv_transfer_params":null',
            "choice": b',"token_ids":null',
            "message": b',"refusal":null,"annotations":null,"audio":null,"function_call":null,"tool_calls":[]',
            "usage": b',"prompt_tokens_details":null',
            "text": b',"token_ids":null',
            "finish": b',"token_ids":null',
        }
        shape = getattr(sse, "Shape", None)
        self.beside = {} if shape is None else {"shape": shape(**empty)}
        self.ids = iter(range(1, 1 << 60))

    def head(self, id: int) -> sse.Head:
        return sse.Head(f"chatcmpl-{id:016x}", "large", "chat", 1_700_000_000, **self.beside)

    def turn(self) -> None:
        self.outbox._flush()
        self.channel._flush()

    def submit(self, bodies: list[bytes]) -> list[tuple[Submit, Any]]:
        for body in bodies:
            submit = Submit(id=next(self.ids), kind="chat", body=body, request_id="0123456789abcdef")
            self.channel.data_received(bytes(encode_frame(submit)))
        begun, self.engine.begun = self.engine.begun, []
        return begun

    def requests(self, bodies: list[bytes]) -> Kind:
        """Body to prompt, and a text to a whole answer."""
        text = "word " * 16

        def work() -> None:
            for submit, answer in self.submit(bodies):
                asked: Any = fields.decode("chat", submit.body)
                ids = self.renderer.chat(asked.messages, asked.chat_template_kwargs)
                usage = Usage(len(ids), 16)
                answer.chunk(sse.whole(self.head(submit.id), [sse.Choice(0, text, "stop")], usage))
                answer.done(usage, "stop")
            self.turn()

        return Kind("host_request", len(bodies), 6, work)

    def tokens(self, body: bytes) -> Kind:
        """The texts of one step to events, and all of them to one frame."""
        begun = self.submit([body] * STREAMS)
        pairs = [(sse.EventWriter(self.head(submit.id), prompt_tokens=100), answer) for submit, answer in begun]

        def work() -> None:
            for writer, answer in pairs:
                answer.chunk(writer.text(0, " word", 9))
            self.turn()

        return Kind("host_token_of_64_streams", STREAMS, 20, work)


def frontend_kinds(texts: list[str]) -> Iterator[Kind]:
    front, guarded, kept = Front(), Front(api_keys=("sk-0123456789abcdef0123456789abcdef",)), Front()
    kept.keep_lines()
    bodies = [prompts.chat(text) for text in texts]
    plain = [client.post(CHAT, body) for body in bodies]

    def with_header(line: bytes) -> list[bytes]:
        return [request.replace(b"\r\n", b"\r\n" + line + b"\r\n", 1) for request in plain]

    parts = [
        client.post(CHAT, prompts.chat("", messages=[{"role": "user", "content": [{"type": "text", "text": text}]}]))
        for text in texts
    ]
    tools = [client.post(CHAT, prompts.chat(text, tools=[TOOL])) for text in texts]
    streamed = [client.post(CHAT, prompts.chat(text, stream=True)) for text in texts]
    yield front.requests("chat_plain", plain)
    yield guarded.requests(
        "chat_plain_with_key", with_header(b"authorization: Bearer sk-0123456789abcdef0123456789abcdef")
    )
    yield front.requests("chat_request_id", with_header(b"x-request-id: 0123456789abcdef"))
    yield kept.requests("chat_journal", plain)
    yield front.requests("chat_parts", parts)
    yield front.requests("chat_tools", tools)
    yield front.requests("completion", [client.post("/v1/completions", completion(text)) for text in texts])
    yield front.new_connections(plain[0])
    yield front.requests("stream_request", streamed)
    one = client.post(CHAT, prompts.chat(texts[0], model="large", stream=True))
    yield front.streams("token_of_64_streams", one)
    yield front.streams("token_of_64_ordinary_streams", one.replace(b"\r\n", b"\r\nx-headgate-debug: true\r\n", 1))


def completion(text: str) -> bytes:
    return prompts.chat(text).replace(b'"messages": [{"role": "user", "content": ', b'"prompt": ').replace(b"}]}", b"}")


def decision_kinds() -> Iterator[Kind]:
    words = decision.prose()
    for size, calls in ((decision.SHORT, 20), (decision.LONG, 1)):
        texts = decision.windows(words, size, 8)
        asked, bodies = [decision.query(text) for text in texts], [prompts.chat(text) for text in texts]
        for models in (2, 32):
            decide, served = decision.decider("default", models), decision.served("default", models)
            work = lambda decide=decide, asked=asked: [decide(one) for one in asked]  # noqa: E731
            yield Kind(f"decide_{models}_models_{size}_words", len(asked), calls, work)
            work = lambda served=served, bodies=bodies: [served(one) for one in bodies]  # noqa: E731
            yield Kind(f"served_{models}_models_{size}_words", len(bodies), calls, work)


def host_kinds(texts: list[str]) -> Iterator[Kind]:
    hosted = Hosted()
    yield hosted.requests([prompts.chat(text) for text in texts])
    yield hosted.tokens(prompts.chat(texts[0], stream=True))


def count(kind: Kind) -> None:
    """A dump of callgrind's before each of four marks: between the first two `calls`, between the others twice."""
    for _ in range(4):
        kind.work()
    kind.clear()
    for times in (kind.calls, 2 * kind.calls):
        calls = range(times)
        os.getpgrp()
        for _ in calls:
            kind.work()
        os.getpgrp()
        kind.clear()
    print(f"{kind.name} {kind.units * kind.calls}", flush=True)


def never_yield() -> None:
    """Under callgrind, milliseconds are no measure of work: a connection would wait for a turn after each request."""
    try:
        from router.frontend import turns
    except ImportError:  # a version before them
        return
    turns.SHARE_S = turns.TURN_S = float("inf")


async def main(wanted: str) -> None:
    texts = prompts.texts(CONNECTIONS, WORDS)
    never_yield()
    gc.disable()  # when it runs depends on all that was made before
    for kinds in (frontend_kinds(texts), host_kinds(texts), decision_kinds()):
        for kind in kinds:
            if wanted in kind.name:
                count(kind)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1] if len(sys.argv) > 1 else ""))
