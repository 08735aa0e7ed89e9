"""A scripted engine behind the real server, and a frontend's end of its socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from router.host.base import AnswerSink, Facts
from router.host.server import Server
from router.ipc.channel import Channel
from router.ipc.messages import Abort, Chunks, Control, Done, Fail, Hello, Load, Message, Submit
from tests.conftest import until

FACTS = Facts(capabilities=("chat", "completions"), context_tokens=512, kv_tokens=4096, max_running=8, version="fake 1")


class ScriptedEngine:
    """Holds every answer for the test to play; remembers what was aborted."""

    def __init__(self) -> None:
        self.facts = FACTS
        self.answers: dict[bytes, AnswerSink] = {}
        self.submits: dict[bytes, Submit] = {}
        self.stopped: list[bytes] = []
        self.now = Load()
        self.controls: list[tuple[str, str]] = []
        self.control_error = ""
        self.broken: Exception | None = None
        self.metrics_page = ""

    def start(self, submit: Submit, answer: AnswerSink) -> Callable[[], None]:
        if self.broken is not None:
            raise self.broken
        self.answers[submit.body], self.submits[submit.body] = answer, submit
        return lambda: self.stopped.append(submit.body)

    def load(self) -> Load:
        return self.now

    async def control(self, op: str, argument: str) -> str:
        self.controls.append((op, argument))
        return self.control_error

    async def metrics(self) -> str:
        if self.broken is not None:
            raise self.broken
        return self.metrics_page

    async def watch(self, load_changed: Callable[[], None]) -> str:
        raise NotImplementedError


class Frontend:
    """The other end: every frame in order."""

    def __init__(self, hello: Message | None) -> None:
        self.hello_sent = hello
        self.frames: list[Message] = []
        self.lost_error: list[Exception | None] = []
        self.channel: Channel | None = None

    def connected(self, channel: Channel) -> None:
        self.channel = channel
        if self.hello_sent is not None:
            channel.send(self.hello_sent)

    def received(self, message: Message) -> None:
        self.frames.append(message)

    def lost(self, error: Exception | None) -> None:
        self.lost_error.append(error)

    def writable(self, writable: bool) -> None:
        pass

    def send(self, message: Message) -> None:
        assert self.channel is not None
        self.channel.send(message)

    def submit(self, id: int, body: bytes, **more: object) -> None:
        self.send(Submit(id=id, kind="chat", body=body, **more))  # type: ignore[arg-type]

    def abort(self, id: int) -> None:
        self.send(Abort(id))

    def of(self, kind: type) -> list[Message]:
        return [frame for frame in self.frames if isinstance(frame, kind)]

    def bytes_of(self, id: int) -> bytes:
        chunks = [frame for frame in self.frames if isinstance(frame, Chunks)]
        return b"".join(data for frame in chunks for chunk_id, data in frame.items if chunk_id == id)

    def ends(self) -> list[tuple[int, str]]:
        ends = []
        for frame in self.frames:
            if isinstance(frame, Done):
                ends.append((frame.id, frame.finish_reason))
            elif isinstance(frame, Fail):
                ends.append((frame.id, f"{frame.status} {frame.code}"))
        return ends

    def controls(self) -> list[Control]:
        return [frame for frame in self.frames if isinstance(frame, Control)]

    def hello(self) -> Hello:
        first = self.frames[0]
        assert isinstance(first, Hello)
        return first


class Host:
    """The server under test and the frontends that have joined it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = ScriptedEngine()
        self.stops = 0
        self.server = Server("tiny", self.engine, load_interval_s=0.05, stream_buffer_bytes=1000, stop=self._stop)
        self.frontends: list[Frontend] = []
        self.unix: asyncio.Server | None = None

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self.unix = await loop.create_unix_server(self.server.accept, str(self.path))

    def _stop(self) -> None:
        self.stops += 1

    async def connect(self, hello: Message | None) -> Frontend:
        """A peer that opens with `hello`; whether it is let in is not waited for."""
        loop, frontend = asyncio.get_running_loop(), Frontend(hello)
        await loop.create_unix_connection(lambda: Channel(frontend, loop), str(self.path))
        self.frontends.append(frontend)
        return frontend

    async def join(self, role: str = "owner") -> Frontend:
        frontend = await self.connect(Hello(role=role))
        await until(lambda: len(frontend.frames) >= 2)
        return frontend

    async def close(self) -> None:
        for frontend in self.frontends:
            assert frontend.channel is not None
            frontend.channel.close()
        assert self.unix is not None
        self.unix.close()
        await asyncio.sleep(0.01)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    host = Host(tmp_path / "host.sock")
    await host.open()
    yield host
    await host.close()


@pytest.fixture
def wait_until() -> Callable[..., object]:
    return until
