"""A chat server whose `model` says how it behaves: whole or broken streams, refusals, silence. In its own thread."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def event(value: object) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def delta(text: str, finish: str | None = None) -> bytes:
    return event({"model": "scripted", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})


def usage(prompt: int, completion: int) -> bytes:
    return event({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}})


DONE = event(b"[DONE]")
REFUSAL = b'{"error":{"message":"too many","type":"rate_limit_error"}}'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def whole(status: str, body: bytes, *headers: str) -> bytes:
    lines = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers))
    return lines.encode() + b"\r\n" + body


def answer_to(prompt: str) -> str:
    """The sum of `a+b`, else the prompt again."""
    parts = prompt.split("+")
    return str(sum(map(int, parts))) if all(part.strip().isdigit() for part in parts) else prompt


class Scripted:
    """Counts what it was asked; `held` is what the model `hold` waits for."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[bytes] = []
        self.held = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                body = json.loads(await reader.readexactly(length))
                self.heads.append(head)
                self.bodies.append(body)
                self.asked[body["model"]] += 1
                if not await self._answer(body, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def _answer(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        """Whether the connection is kept."""
        model, text = body["model"], answer_to(body["messages"][-1]["content"])
        if model.startswith("wrong"):
            text = "no idea"
        pieces = [delta(piece) for piece in (text, "", " ", ".")] if "wordy" in model else [delta(text)]
        stream = [*pieces, delta("", "stop"), usage(7, 3), DONE]
        if model == "limited" or (model == "limited-once" and self.asked[model] == 1):
            writer.write(whole("429 Too Many Requests", REFUSAL, "retry-after-ms: 20"))
        elif model == "broken":
            writer.write(whole("500 Internal Server Error", b"oops"))
        elif model == "html":
            writer.write(whole("200 OK", b"<html>"))
        elif model == "no-http":
            writer.write(b"hello\r\n\r\n")
        elif model == "hang":
            writer.write(HEAD + chunk(delta("begun")))
            await asyncio.sleep(3600)
        elif model == "die":
            writer.write(HEAD + chunk(delta("begun")))
            return False
        elif model == "closes-kept":
            writer.write(HEAD + b"".join(chunk(piece) for piece in stream) + b"0\r\n\r\n")
            return False
        elif model == "early":
            writer.write(HEAD + chunk(delta("begun")) + b"0\r\n\r\n")
        elif model == "in-stream":
            writer.write(HEAD + chunk(event({"error": {"message": "engine lost", "type": "x"}})) + b"0\r\n\r\n")
        elif not body.get("stream"):
            message = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
            writer.write(whole("200 OK", json.dumps(message).encode()))
        else:
            if model == "hold":
                await self.held.wait()
            if model == "no-usage":
                stream.remove(usage(7, 3))
            writer.write(HEAD + b"".join(chunk(piece) for piece in stream) + b"0\r\n\r\n")
        await writer.drain()
        return True


@contextmanager
def running() -> Iterator[Scripted]:
    made, loop = Scripted(), asyncio.new_event_loop()
    started = threading.Event()

    async def main() -> None:
        server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.set()
        await stop.wait()
        server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    assert started.wait(60)
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
        loop.close()
