"""An HTTP/1.1 client that costs little: many keep-alive connections on one loop, every answer kept for checking.

Times first body bytes, the gaps after, the end. Knows no JSON. Imports nothing of `router`: a bench that runs another
checkout's code loads this file by its path.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import cast
from urllib.parse import urlsplit

import httptools


def post(path: str, body: bytes, *, host: str = "bench", headers: Sequence[str] = ()) -> bytes:
    """A whole POST request of JSON. `headers`: further lines of its head, without their ends."""
    lines = [f"POST {path} HTTP/1.1", f"host: {host}", "content-type: application/json"]
    lines += [f"content-length: {len(body)}", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


class Answer:
    """One response. Times are of `time.perf_counter`; `parts` are body pieces as they arrived."""

    __slots__ = ("complete", "end_s", "headers", "parts", "sent_s", "status", "times_s")

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.parts: list[bytes] = []
        self.times_s: list[float] = []  #: when each part came
        self.sent_s = self.end_s = 0.0
        self.complete = False  #: read to its end, not cut off

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    @property
    def ttft_s(self) -> float:
        return self.times_s[0] - self.sent_s

    def gaps_s(self) -> list[float]:
        """Between arrivals; pieces that came in one read count once."""
        return [b - a for a, b in zip(self.times_s, self.times_s[1:], strict=False) if b > a]

    @property
    def total_s(self) -> float:
        return self.end_s - self.sent_s


class Connection(asyncio.Protocol):
    """One request at a time over one connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Answer] | None = None
        self._cut_after = 0
        self._read_s = 0.0
        self._close_why: Exception | None = None
        self.answer = Answer()  #: the last one, as far as it has come

    async def ask(self, request: bytes, *, cut_after: int = 0) -> Answer:
        """Send and wait. With `cut_after`, the connection is dropped after so many body pieces.

        Raises `ConnectionError` when the server closes before the answer is complete, `ValueError` when what it sends
        is not HTTP, and what `abort` was given.
        """
        self.answer, self._cut_after = Answer(), cut_after  # before anything fails: the last one is not this one's
        if self._transport is None:
            raise ConnectionError("the connection is closed")
        self._waiter = asyncio.get_running_loop().create_future()
        self.answer.sent_s = time.perf_counter()
        self._transport.write(request)
        return await self._waiter

    def abort(self, why: Exception) -> None:
        """Drop the connection; whoever asks is raised `why`."""
        self._fail(why)
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    @property
    def open(self) -> bool:
        return self._transport is not None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._read_s = time.perf_counter()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.abort(ValueError(f"not HTTP/1.1: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(exc or ConnectionError("the server closed before the answer was complete"))

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        self.answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.answer.status = self._parser.get_status_code()

    def on_body(self, part: bytes) -> None:
        answer = self.answer
        answer.times_s.append(self._read_s)
        answer.parts.append(part)
        if self._cut_after and len(answer.parts) >= self._cut_after:
            self._end()
            if self._transport is not None:
                self._transport.abort()
                self._transport = None

    def on_message_complete(self) -> None:
        self.answer.complete = True
        if not self._parser.should_keep_alive():
            self.close()
            self._transport = None
        self._end()

    def _end(self) -> None:
        self.answer.end_s = time.perf_counter()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(self.answer)

    def _fail(self, why: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(why)


async def connect(url: str) -> Connection:
    """To the host and port of an `http://` or `https://` URL. Raises `OSError`."""
    where = urlsplit(url)
    secure = ssl.create_default_context() if where.scheme == "https" else None
    port = where.port or (443 if secure else 80)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, where.hostname or "", port, ssl=secure)
    return connection


@asynccontextmanager
async def connections(url: str, count: int) -> AsyncIterator[list[Connection]]:
    """`count` open connections, closed at the end."""
    opened = [await connect(url) for _ in range(count)]
    try:
        yield opened
    finally:
        for connection in opened:
            connection.close()
        await asyncio.sleep(0)


async def closed_loop(
    url: str,
    requests: Sequence[bytes],
    *,
    streams: int,
    count: int = 0,
    seconds: float = 0.0,
    keep: Callable[[int, Answer], None] | None = None,
) -> tuple[list[Answer], float]:
    """`streams` connections that each ask again when answered, `requests` in turn, until `count` or `seconds` is up.

    Returns the answers, in order of their end, and the wall seconds from first request to last answer.
    `keep(number of the request, answer)` takes the answers instead where all of them would be too many.
    """
    answers: list[Answer] = []
    numbers: Iterator[int] = iter(range(count or 1 << 60))
    begun = time.perf_counter()
    deadline = begun + seconds if seconds else float("inf")

    async def drive(connection: Connection) -> None:
        for number in numbers:
            if time.perf_counter() >= deadline:
                return
            answer = await connection.ask(requests[number % len(requests)])
            if keep is None:
                answers.append(answer)
            else:
                keep(number, answer)

    async with connections(url, streams) as opened:
        await asyncio.gather(*(drive(connection) for connection in opened))
    return answers, time.perf_counter() - begun
