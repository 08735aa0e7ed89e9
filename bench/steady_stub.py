"""An HTTP chat server of known delays: first token, gap and tokens of every answer are told on the command line.

    python bench/steady_stub.py PORT FIRST_S GAP_S TOKENS

`GET /told` answers what it really did, by its own clock: of each request since the last `GET`, the seconds from its
arrival to its first and to its last token. A client's figures can so be held against the truth.
"""

import asyncio
import json
import sys

import uvloop

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _chunk(event: object) -> bytes:
    data = (
        event if isinstance(event, bytes) else b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"
    )
    return b"%x\r\n%s\r\n" % (len(data), data)


def _event(**fields: object) -> dict[str, object]:
    return {"id": "chatcmpl-0123456789abcdef", "object": "chat.completion.chunk", "created": 1, "model": "m", **fields}


TOKEN = _chunk(_event(choices=[{"index": 0, "delta": {"content": " tok"}, "logprobs": None, "finish_reason": None}]))


class Steady:
    """What all connections share."""

    def __init__(self, first_s: float, gap_s: float, tokens: int) -> None:
        self.first_s, self.gap_s, self.tokens = first_s, gap_s, tokens
        self.told: list[tuple[float, float]] = []
        finish = _event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
        usage = _event(choices=[], usage={"prompt_tokens": 8, "completion_tokens": tokens})
        self.end = _chunk(finish) + _chunk(usage) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Connection(asyncio.Protocol):
    """One request at a time, each in one read."""

    def __init__(self, steady: Steady) -> None:
        self._steady, self._loop = steady, asyncio.get_running_loop()
        self._sent, self._came_s, self._first_s = 0, 0.0, 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET"):
            body = json.dumps(self._steady.told).encode()
            self._steady.told = []
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
            return
        self._sent, self._came_s = 0, self._loop.time()
        self._loop.call_at(self._came_s + self._steady.first_s, self._token)

    def _token(self) -> None:
        now_s = self._loop.time()
        head = b"" if self._sent else HEAD
        self._first_s = self._first_s if self._sent else now_s
        self._sent += 1
        if self._sent < self._steady.tokens:
            self._transport.write(head + TOKEN)
            due_s = self._came_s + self._steady.first_s + self._sent * self._steady.gap_s
            self._loop.call_at(due_s, self._token)
        else:
            self._transport.write(head + TOKEN + self._steady.end)
            self._steady.told.append((self._first_s - self._came_s, now_s - self._came_s))


async def serve(port: int, steady: Steady) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Connection(steady), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), Steady(float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))))
