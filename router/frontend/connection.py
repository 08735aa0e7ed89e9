"""One client connection: bytes into exchanges, answers out in order, within the limits.

Knows HTTP/1.1 framing (httptools does the parsing), not what any route means.

    IDLE --first byte--> HEAD --blank line--> BODY --last byte--> IDLE
      any --refused, closing--> DEAF: input is discarded until the client has read our last answer or time is up
"""

import asyncio
from math import inf
from typing import cast

import httptools

from router.errors import BadRequest, ContentTooLarge, HeadersTooLarge, Overloaded, RequestTimeout, RouterError
from router.frontend import wire
from router.frontend.door import Door
from router.frontend.exchange import Exchange

IDLE, HEAD, BODY, DEAF = range(4)

#: Requests that wait behind the one being answered; beyond, we stop reading.
MAX_WAITING = 8
MAX_WAITING_BYTES = 64 * 1024
#: A refused body this small is read and dropped, so that the connection lives on.
SMALL_BODY_BYTES = 64 * 1024
#: What may come on top of `header_bytes` in one read: chunk sizes, the tail of a body.
SLACK_BYTES = 1024
#: How long we go on reading after an answer that closes the connection: closing at once would destroy the answer.
LINGER_S = 2.0

#: Request headers that anything here reads.
_READ = frozenset((
    b"authorization", b"x-api-key", b"content-length", b"content-encoding", b"content-type", b"transfer-encoding", b"expect", b"host",
    b"origin", b"x-request-id", b"x-session-id", b"traceparent", b"x-headgate-debug", b"x-headgate-slo-ttft",
))  # fmt: skip


class Connection(asyncio.Protocol):
    """`asyncio` protocol of a door. The same instance never answers two requests at once."""

    __slots__ = (
        "_active",
        "_body",
        "_body_bytes",
        "_continue_due",
        "_head_bytes",
        "_header_count",
        "_headers",
        "_incoming",
        "_parser",
        "_phase",
        "_quiet_bytes",
        "_reading",
        "_replaying",
        "_running",
        "_stall_deadline",
        "_stall_taken",
        "_target",
        "_timed",
        "_transport",
        "_upgrading",
        "_waiting",
        "_waiting_bytes",
        "_written",
        "deadline",
        "door",
        "stalled",
    )

    def __init__(self, door: Door) -> None:
        self.door = door
        self.deadline = inf
        self.stalled = False  #: more unsent bytes than the high-water mark
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpRequestParser | None = None
        self._phase = IDLE
        self._timed = IDLE  #: the phase whose clock runs
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._header_count = 0
        self._quiet_bytes = 0  #: read since the parser last reported anything: bounds what it may gather inside
        self._incoming: Exchange | None = None
        self._body: bytes | bytearray = b""
        self._body_bytes = 0
        self._active: Exchange | None = None
        self._waiting: list[Exchange] = []
        self._waiting_bytes = 0
        self._reading = True
        self._running = False
        self._continue_due = False
        self._upgrading = False
        self._replaying = False
        self._written = 0
        self._stall_taken = -1
        self._stall_deadline = inf

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not checked: uvloop's transports are no subclasses of asyncio's.
        self._transport = transport = cast(asyncio.Transport, transport)
        door = self.door
        door.entered(self)
        if len(door.connections) > door.limits.connections:
            self._turn_away(Overloaded(f"more than {door.limits.connections} connections are open"))
            self._next()
        elif door.draining:
            transport.close()
        else:
            self.deadline = door.now + door.tick_s + door.limits.keepalive_s

    def connection_lost(self, exc: Exception | None) -> None:
        """Also called ahead of asyncio, as soon as we know."""
        if self._transport is None:
            return
        self._transport = None
        self._parser = None  # it holds our bound methods: a cycle
        self._phase = DEAF
        self.deadline = inf
        self.stalled = False
        self.door.left(self)
        self._waiting.clear()
        self._incoming = None
        active, self._active = self._active, None
        if active is not None:
            active.gone()

    def data_received(self, data: bytes) -> None:
        if self._phase == DEAF:
            return
        parser = self._parser
        if parser is None:
            parser = self._parser = httptools.HttpRequestParser(self)
        self._quiet_bytes += len(data)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrades(memoryview(data)[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._unreadable(error)
        if self._phase == HEAD or self._phase == BODY:
            self._incomplete()
        if self._waiting and not self._running:
            self._next()

    def eof_received(self) -> None:
        """A client that ends its side is gone, as for other servers. asyncio closes the transport after this."""
        self.connection_lost(None)

    def pause_writing(self) -> None:
        self.stalled = True
        self._stall_taken = -1
        self._stall_deadline = self.door.now + self.door.tick_s + self.door.limits.write_timeout_s

    def resume_writing(self) -> None:
        self.stalled = False

    # httptools

    def on_message_begin(self) -> None:
        if self._phase == DEAF or self._replaying:
            return
        self._phase = HEAD
        self._target = b""
        self._headers = {}
        self._head_bytes = self._header_count = self._quiet_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._head_bytes += len(url)
        self._quiet_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4
        self._header_count += 1
        self._quiet_bytes = 0
        if self._phase != HEAD or self._replaying:  # a trailer: counted, and otherwise ignored
            return
        name = name.lower()
        if name in _READ:
            headers = self._headers
            headers[name] = value if name not in headers else headers[name] + b"," + value

    def on_headers_complete(self) -> None:
        if self._phase == DEAF or self._replaying:
            return
        parser = self._parser
        assert parser is not None
        self._phase = BODY
        self._body = b""
        self._body_bytes = 0
        self._upgrading = parser.should_upgrade()
        version = parser.get_http_version()
        exchange = Exchange(self, parser.get_method(), self._headers, parser.should_keep_alive(), version == "1.0")
        self._incoming = exchange
        try:
            self._check_framing(version)
        except RouterError as error:
            self._turn_away(error)
            return
        self._screen(exchange)

    def on_chunk_header(self) -> None:
        self._quiet_bytes = 0

    def on_body(self, data: bytes) -> None:
        self._quiet_bytes = 0
        exchange = self._incoming
        if exchange is None:
            return
        self._body_bytes += len(data)
        if self._body_bytes > self.door.limits.body_bytes:
            self._turn_away(self._too_large())
        elif exchange.error is not None:
            if self._body_bytes > SMALL_BODY_BYTES:
                self._turn_away(exchange.error)
        elif not self._body:
            self._body = data
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += data

    def on_message_complete(self) -> None:
        exchange = self._incoming
        if exchange is None or self._upgrading:
            return
        self._incoming = None
        self._continue_due = False
        body, self._body = self._body, b""
        exchange.body = body if isinstance(body, bytes) else bytes(body)
        self._phase = IDLE if exchange.keep_alive else DEAF
        self._timed = IDLE
        self.deadline = inf
        self._waiting.append(exchange)
        self._waiting_bytes += len(body)
        if self._active is not None and self._reading:
            self._bound_waiting()

    # What exchanges use

    def write(self, data: bytes) -> None:
        """Send. After the client is gone it goes nowhere: the exchange has been told."""
        transport = self._transport
        if transport is not None:
            self._written += len(data)
            transport.write(data)

    def stream(self, data: bytes) -> None:
        """Send, or keep up to `stream_buffer_bytes` for a client that reads slowly; beyond, the client is cut."""
        transport = self._transport
        if transport is None:
            return
        if self.stalled and transport.get_write_buffer_size() > self.door.limits.stream_buffer_bytes:
            self._cut_slow()
            return
        self._written += len(data)
        transport.write(data)

    def answered(self, exchange: Exchange) -> None:
        """`exchange` is wholly written: next, or close."""
        if exchange is not self._active:
            return
        self._active = None
        if not exchange.keep_alive:
            self._close_after(exchange)
        elif not self._running:
            self._next()

    # What the door uses

    def overdue(self, now: float) -> None:
        """The sweep's call: a deadline has passed, or the client reads too slowly."""
        transport = self._transport
        if transport is None:
            return
        if self.stalled:
            self._check_stall(transport, now)
            return
        if now < self.deadline:
            return
        self.deadline = inf
        if self._phase == HEAD:
            self._turn_away(RequestTimeout("the request's head took too long"))
        elif self._phase == BODY:
            self._turn_away(RequestTimeout("the request's body took too long"))
        elif transport.get_write_buffer_size():
            self.abort()
        else:
            transport.close()
        if self._waiting and not self._running:
            self._next()

    def drain(self) -> None:
        """Close if nothing is under way; else the running answer closes."""
        if self._active is None and not self._waiting and self._phase == IDLE and self._transport is not None:
            self._phase = DEAF
            self._transport.close()

    def cut(self, error: RouterError) -> None:
        """End the running answer with `error`, then close."""
        self._waiting.clear()
        active = self._active
        if active is not None and active.stream is not None:
            active.keep_alive = False
            active.stream.cut(error)
        elif self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        transport = self._transport
        if transport is not None:
            self.connection_lost(None)
            transport.abort()

    # Within

    def _next(self) -> None:
        """Run waiting exchanges until one has to wait for its answer."""
        self._running = True
        try:
            while self._waiting and self._active is None:
                exchange = self._active = self._waiting.pop(0)
                self._waiting_bytes -= len(exchange.body)
                exchange.run()
        finally:
            self._running = False
        if self._active is None and self._transport is not None:
            self._settle()
        if not self._reading and not self._waiting and self._transport is not None:
            self._reading = True
            self._transport.resume_reading()

    def _settle(self) -> None:
        """All answers are out: wait for the next request, or for the rest of one."""
        phase = self._phase
        if phase == IDLE:
            self.deadline = self.door.now + self.door.tick_s + self.door.limits.keepalive_s
            if self.door.draining:
                self.drain()
        elif phase != DEAF and self._timed != phase:
            self._await_rest(phase)

    def _await_rest(self, phase: int) -> None:
        """Start the clock of a request's head or body, and tell a client that asks to go ahead."""
        limits = self.door.limits
        self._timed = phase
        allowed_s = limits.header_timeout_s if phase == HEAD else limits.body_timeout_s
        self.deadline = self.door.now + self.door.tick_s + allowed_s
        if phase == BODY and self._continue_due:
            self._continue_due = False
            self.write(wire.CONTINUE)

    def _check_framing(self, version: str) -> None:
        """Refuse what two servers could read differently."""
        headers = self._headers
        if version not in ("1.1", "1.0"):
            raise BadRequest(f"HTTP/{version} is not spoken here; HTTP/1.1 is")
        if self._head_bytes > self.door.limits.header_bytes or self._header_count > self.door.limits.headers:
            raise self._head_too_large()
        coding = headers.get(b"transfer-encoding")
        if coding is not None and (coding.lower() != b"chunked" or version == "1.0"):
            raise BadRequest("`transfer-encoding`: only `chunked` is accepted, in HTTP/1.1", param="transfer-encoding")
        host = headers.get(b"host")
        if (host is None and version == "1.1") or (host is not None and b"," in host):
            raise BadRequest("expected exactly one `host` header", param="host")

    def _screen(self, exchange: Exchange) -> None:
        """Route, key and size, before any of the body is read."""
        headers, door = self._headers, self.door
        length = int(headers.get(b"content-length", b"0"))
        has_body = length > 0 or b"transfer-encoding" in headers
        try:
            route, exchange.path = door.routes.find(self._target)
            exchange.route = route
            if not route.open:
                exchange.key_id = door.keys.identify(headers)
            exchange.handler = door.routes.handler(route, exchange.method)
            if length > door.limits.body_bytes:
                raise self._too_large()
            _check_encoding(headers)
        except RouterError as error:
            exchange.error = error
            if has_body and (length > SMALL_BODY_BYTES or b"expect" in headers):
                self._turn_away(error)
                return
        if has_body and b"expect" in headers and not exchange.old_client:
            self._continue_due = headers[b"expect"].lower() == b"100-continue"

    def _incomplete(self) -> None:
        """A read ended within a request. Heads, and what the parser gathers of trailers, stay bounded."""
        limits = self.door.limits
        if (
            self._header_count > limits.headers
            or self._head_bytes + self._quiet_bytes > limits.header_bytes + SLACK_BYTES
        ):
            self._turn_away(self._head_too_large())
        elif self._timed != self._phase and self._active is None and not self._waiting:
            self._await_rest(self._phase)

    def _bound_waiting(self) -> None:
        if len(self._waiting) >= MAX_WAITING or self._waiting_bytes > MAX_WAITING_BYTES:
            self._reading = False
            assert self._transport is not None
            self._transport.pause_reading()

    def _turn_away(self, error: RouterError) -> None:
        """Queue `error` as the last answer, then close: the rest of the input cannot be trusted or used."""
        exchange = self._incoming or Exchange(self, b"", {}, False, False)
        self._incoming = None
        self._body = b""
        self._phase = DEAF
        self.deadline = inf
        exchange.error = error
        exchange.keep_alive = False
        self._waiting.append(exchange)

    def _unreadable(self, error: httptools.HttpParserError) -> None:
        if isinstance(error, httptools.HttpParserCallbackError):
            cause = error.__context__
            self.door.bug(cause if isinstance(cause, Exception) else error)
            self._turn_away(RouterError("internal error; the server's log says more"))
        elif self._phase != DEAF:
            self._turn_away(BadRequest(f"malformed HTTP request: {error}", code="malformed_request"))

    def _decline_upgrades(self, rest: memoryview) -> None:
        """Answer offers of another protocol in HTTP/1.1, as RFC 9110 lets us (Java's client offers h2c at each start)."""
        while self._phase != DEAF:
            try:
                self._read_on()
                if self._parser is not None:
                    self._parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
            except httptools.HttpParserError as error:
                self._unreadable(error)

    def _read_on(self) -> None:
        """llhttp skips the body of a request that offers an upgrade: a new parser, told of its framing, reads it."""
        self._upgrading = False
        exchange = self._incoming
        if exchange is None:
            return
        headers = exchange.headers
        framing = b"".join(
            b"%b: %b\r\n" % (name, headers[name])
            for name in (b"content-length", b"transfer-encoding")
            if name in headers
        )
        self._parser = httptools.HttpRequestParser(self)
        self._replaying = True
        try:
            self._parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n")
        finally:
            self._replaying = False

    def _close_after(self, exchange: Exchange) -> None:
        transport = self._transport
        self._phase = DEAF
        self._waiting.clear()
        if transport is None:
            return
        if exchange.error is None:
            transport.close()
            return
        # The client may still be sending: end our side, and discard its bytes until it has seen the answer.
        self.deadline = self.door.now + self.door.tick_s + LINGER_S
        if transport.can_write_eof():
            transport.write_eof()

    def _check_stall(self, transport: asyncio.Transport, now: float) -> None:
        taken = self._written - transport.get_write_buffer_size()
        if taken != self._stall_taken:
            self._stall_taken = taken
            self._stall_deadline = now + self.door.limits.write_timeout_s
        elif now >= self._stall_deadline:
            self._cut_slow()

    def _cut_slow(self) -> None:
        self.door.metrics.error("slow_client")
        self.abort()

    def _head_too_large(self) -> HeadersTooLarge:
        limits = self.door.limits
        return HeadersTooLarge(f"the request's head is over {limits.header_bytes} bytes or {limits.headers} headers")

    def _too_large(self) -> ContentTooLarge:
        return ContentTooLarge(f"the body is over {self.door.limits.body_bytes} bytes")


def _check_encoding(headers: dict[bytes, bytes]) -> None:
    coding = headers.get(b"content-encoding", b"identity")
    if coding.lower() != b"identity":
        raise BadRequest("`content-encoding`: compressed bodies are not accepted", param="content-encoding")
    # A web page can send plain text to a loopback port without asking; JSON needs the server's consent.
    if b"origin" in headers and b"json" not in headers.get(b"content-type", b"application/json").lower():
        raise BadRequest("`content-type`: expected application/json from a web page", param="content-type")
