"""Real engines for the end-to-end tests: the pair of tiny models, the environment they want on a CPU, and a frontend's
end of an engine host's socket."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from router.ipc.channel import Channel
from router.ipc.messages import Abort, Chunks, Control, Done, Fail, Handoff, Hello, Load, Message, Submit
from tests.conftest import PATIENCE_S, wait_until

#: What a CPU engine wants; a GPU engine does not mind.
ENGINE_ENV = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_CI_ENV": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
#: Small and quick to start.
ENGINE_ARGS = {
    "dtype": "float32",
    "kv_cache_memory_bytes": 64 << 20,
    "block_size": 32,
    "enforce_eager": True,
    "max_model_len": 512,
    "distributed_executor_backend": "uni",
}
START_S = 600.0


@pytest.fixture(scope="session")
def pair(root: Path) -> Path:
    """The folder with the models `small` and `large`."""
    pytest.importorskip("vllm", reason="the end-to-end tests need vLLM")
    return root / "examples" / "pair"


@pytest.fixture(scope="session")
def engine_env() -> dict[str, str]:
    return {**os.environ, **ENGINE_ENV}


@pytest.fixture(scope="session")
def engine_args() -> dict[str, Any]:
    return dict(ENGINE_ARGS)


class HostProcess:
    """One `python -m router.host`, as a supervisor starts it."""

    def __init__(
        self,
        model: Path | str,
        *,
        name: str = "tiny",
        fast_path: bool = True,
        warm_up: bool = False,
        metrics: bool = True,
        watch: bool = True,
        **engine_args: Any,
    ) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="hg-")
        self.socket = Path(self.folder.name) / "host.sock"
        self._log = (Path(self.folder.name) / "log").open("w+")
        spec = {
            "name": name,
            "model": str(model),
            "socket": str(self.socket),
            "engine_args": ENGINE_ARGS | engine_args,
            "fast_path": fast_path,
            "warm_up": warm_up,
            "metrics": metrics,
            "watch": watch,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "router.host"],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, **ENGINE_ENV, "PYTHONSAFEPATH": "1"},
            start_new_session=True,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(spec).encode() + b"\n")
        self.process.stdin.flush()

    def log(self) -> str:
        self._log.flush()
        return (Path(self.folder.name) / "log").read_text()

    def members(self) -> dict[int, str]:
        """The living processes of the host's group, with their commands' names."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            command, _, rest = stat.partition("(")[2].rpartition(")")
            fields = rest.split()
            if int(fields[2]) == self.process.pid and fields[0] != "Z":
                found[int(entry.name)] = command
        return found

    def kill(self) -> None:
        """As hard as it gets; returns when nothing of the group is left."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE_S)
        wait_until(lambda: not self.members(), lambda: f"still alive: {self.members()}")

    def close(self) -> None:
        self.kill()
        assert self.process.stdin is not None
        self.process.stdin.close()
        self._log.close()
        self.folder.cleanup()


class HostClient:
    """A frontend's end: asks, and collects every answer."""

    def __init__(self, role: str = "client") -> None:
        self._role = role
        self.loads: list[Load] = []
        self.controls: asyncio.Queue[Control] = asyncio.Queue()
        self.lost_event = asyncio.Event()
        self.frames: list[Chunks] = []
        self._hello: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()
        self._answers: dict[int, asyncio.Queue[bytes | Done | Fail | Handoff]] = {}
        self._next = 0
        self.channel: Channel | None = None

    def connected(self, channel: Channel) -> None:
        self.channel = channel
        channel.send(Hello(role=self._role))

    def received(self, message: Message) -> None:
        if isinstance(message, Hello):
            self._hello.set_result(message)
        elif isinstance(message, Load):
            self.loads.append(message)
        elif isinstance(message, Control):
            self.controls.put_nowait(message)
        elif isinstance(message, Chunks):
            self.frames.append(message)
            for id, data in message.items:
                if id in self._answers:
                    self._answers[id].put_nowait(data)
        elif isinstance(message, Done | Fail | Handoff) and message.id in self._answers:
            self._answers[message.id].put_nowait(message)

    def lost(self, error: Exception | None) -> None:
        self.lost_event.set()

    def writable(self, writable: bool) -> None:
        pass

    async def hello(self, timeout_s: float = START_S) -> Hello:
        return await asyncio.wait_for(asyncio.shield(self._hello), timeout_s)

    def submit(self, kind: str, body: dict[str, Any] | bytes, **more: Any) -> int:
        assert self.channel is not None
        self._next += 1
        self._answers[self._next] = asyncio.Queue()
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.channel.send(Submit(id=self._next, kind=kind, body=data, **more))  # type: ignore[arg-type]
        return self._next

    def abort(self, id: int) -> None:
        assert self.channel is not None
        self.channel.send(Abort(id))

    async def next(self, id: int) -> bytes | Done | Fail | Handoff:
        return await asyncio.wait_for(self._answers[id].get(), 120)

    async def ask(self, kind: str, body: dict[str, Any] | bytes, **more: Any) -> tuple[bytes, Done | Fail | Handoff]:
        """The whole answer's bytes, and how it ended."""
        id, data = self.submit(kind, body, **more), b""
        while isinstance(piece := await self.next(id), bytes):
            data += piece
        return data, piece

    async def json(self, kind: str, body: dict[str, Any], **more: Any) -> dict[str, Any]:
        data, end = await self.ask(kind, body, **more)
        assert isinstance(end, Done), end
        answer: dict[str, Any] = json.loads(data)
        return answer

    async def events(self, kind: str, body: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
        """The events of a streamed answer, `[DONE]` checked and dropped."""
        data, end = await self.ask(kind, {**body, "stream": True}, **more)
        assert isinstance(end, Done), end
        parts = data.decode().split("\n\n")
        assert parts[-2:] == ["data: [DONE]", ""]
        return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]

    async def refusal(self, kind: str, body: dict[str, Any] | bytes, **more: Any) -> tuple[Fail, dict[str, Any]]:
        data, end = await self.ask(kind, body, **more)
        assert data == b""
        assert isinstance(end, Fail), end
        return end, json.loads(end.body)["error"]


async def connect(host: HostProcess, role: str = "client") -> HostClient:
    """A client of a host that may still be starting. Fails with the host's log when it ends instead."""
    loop = asyncio.get_running_loop()
    client = HostClient(role)
    give_up = loop.time() + START_S
    while not host.socket.exists():
        assert host.process.poll() is None, host.log()
        assert loop.time() < give_up
        await asyncio.sleep(0.05)
    await loop.create_unix_connection(lambda: Channel(client, loop), str(host.socket))
    lost = asyncio.ensure_future(client.lost_event.wait())
    hello = asyncio.ensure_future(client.hello())
    await asyncio.wait([lost, hello], return_when=asyncio.FIRST_COMPLETED)
    lost.cancel()
    if not hello.done() or hello.exception() is not None:
        assert client.channel is not None
        client.channel.abort()
        await asyncio.sleep(0)
        pytest.fail(f"the host did not become ready:\n{host.log()[-4000:]}")
    return client


@pytest.fixture(scope="session")
def start_host() -> Iterator[Callable[..., HostProcess]]:
    """Starts engine hosts that are gone at the end of the session."""
    hosts: list[HostProcess] = []

    def start(*args: Any, **kwargs: Any) -> HostProcess:
        host = HostProcess(*args, **kwargs)
        hosts.append(host)
        return host

    yield start
    for host in hosts:
        host.close()


@pytest.fixture(scope="session")
def join_host() -> Callable[..., Any]:
    return connect
