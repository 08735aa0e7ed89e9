"""An OpenAI-compatible URL that acts by the script of each request, as the scripted hosts do."""

import asyncio
import contextlib
import json
from typing import Any

from tests.pool.raw_upstream import answer, read_body

_MODELS = answer(b'{"data": [{"id": "url"}]}')
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Upstream:
    """`running`: requests that it answers now."""

    def __init__(self) -> None:
        self.port = 0
        self.running = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET"):
                    writer.write(_MODELS)
                else:
                    await self._answer(json.loads(await read_body(head, reader)), reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until it is whole, or the router leaves: its end of the connection."""
        playing = asyncio.ensure_future(_play(json.loads(body["user"]), body["stream"], writer))
        left = asyncio.ensure_future(reader.read(1))
        self.running += 1
        try:
            await asyncio.wait((playing, left), return_when=asyncio.FIRST_COMPLETED)
            if left.done():
                raise ConnectionAbortedError
        finally:
            self.running -= 1
            for task in (playing, left):
                task.cancel()
            await asyncio.gather(playing, left, return_exceptions=True)
        playing.result()


async def _play(steps: list[list[Any]], stream: bool, writer: asyncio.StreamWriter) -> None:
    begun = False
    for step in steps:
        match step[0]:
            case "sleep":
                await asyncio.sleep(step[1])
            case "chunk" if not stream:
                writer.write(answer(step[1].encode()))
                begun = True
            case "chunk":
                piece = step[1].encode() * (step[2] if len(step) > 2 else 1)
                writer.write((b"" if begun else _STREAM) + b"%x\r\n%b\r\n" % (len(piece), piece))
                begun = True
                await writer.drain()
            case "done" if stream:
                writer.write(b"0\r\n\r\n")
                return
            case "fail" if not begun:
                error = {"error": {"message": f"scripted {step[1]}", "type": "scripted", "code": step[2]}}
                writer.write(answer(error, step[1]))
                return
            case "fail" | "die" | "hang_up" | "handoff":
                raise ConnectionAbortedError
            case "garbage":
                writer.write(b"\x05\x00\x00\x00garba")
                raise ConnectionAbortedError
            case _:
                pass
        if not stream and begun:
            return
