"""An upstream that writes exactly the bytes it is told to, whether or not they are HTTP."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from router.config import Member, Supervision
from router.pool.base import Work
from router.pool.openai import OpenAIMember

#: What to do with a connection on which a request came; True: it may bring another.
Act = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]

MODELS = b'{"data": [{"id": "up"}]}'
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}
WHOLE: dict[str, Any] = {
    "id": "c",
    "model": "up",
    "choices": [CHOICE],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1},
}


def event(content: str | None = None, finish: str | None = None, **fields: Any) -> bytes:
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return data({"id": "c", "model": "up", "choices": [choice], **fields})


def data(tree: object) -> bytes:
    return b"data: %b\n\n" % json.dumps(tree).encode()


DONE = b"data: [DONE]\n\n"
STREAM = event("1") + event("9") + event(None, "stop") + DONE


def answer(body: bytes | dict[str, Any], status: int = 200, kind: str = "application/json", more: str = "") -> bytes:
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def chunked(*pieces: bytes, kind: str = "text/event-stream", end: bytes = b"0\r\n\r\n") -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


class RawUpstream:
    """Answers each POST with the next of `answers`: bytes, or what to do."""

    def __init__(self) -> None:
        self.answers: list[bytes | Act] = []
        self.models = answer(MODELS)
        self.heads: list[bytes] = []
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._begin, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        if head.startswith(b"GET"):
            writer.write(self.models)
            await writer.drain()
            return True
        act = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not isinstance(act, bytes):
            return await act(reader, writer)
        await read_body(head, reader)
        writer.write(act)
        await writer.drain()
        return b"content-length" in act or act.endswith(b"0\r\n\r\n")


async def read_body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return await reader.readexactly(int(length.partition(b":")[2]))


def member_of(upstream: RawUpstream, **fields: Any) -> OpenAIMember:
    settings = {"name": "ours", "kind": "openai", "url": upstream.url, "model": "up", "api_key": "sekret-key", **fields}
    supervision = Supervision(ping_s=600.0, breaker_failures=3, breaker_open_s=600.0)
    return OpenAIMember(Member(**settings), supervision, gpu_share=1.0)


def work(*, stream: bool = False, kind: Any = "chat", **fields: Any) -> Work:
    return Work(kind=kind, body=b'{"model":"auto","messages":[]}', stream=stream, prompt_tokens=5, **fields)
