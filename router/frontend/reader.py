"""The receiving half of a connection: bytes into exchanges, within the limits. httptools parses; routes are looked up.

IDLE --first byte--> HEAD --blank line--> BODY --last byte--> IDLE
  any --refused, or `connection: close` read--> DEAF: what comes after is discarded
"""

import re
from time import perf_counter

import httptools

from router.errors import OUR_FAULT, BadRequest, ContentTooLarge, HeadersTooLarge, Overloaded, RouterError
from router.frontend.exchange import EXPLAINED, ClientWriter, Exchange, Incoming
from router.frontend.listener import Listener
from router.frontend.origins import is_preflight
from router.frontend.routes import not_allowed, shown
from router.native.fields import Fields
from router.native.unread import Unread

IDLE, HEAD, BODY, DEAF = range(4)

#: A refused body this small is read and dropped, so that the connection lives on.
SMALL_BODY_BYTES = 64 * 1024
#: Request headers that few send, and that need a look.
_UNUSUAL = frozenset((b"content-encoding", b"expect", b"origin")) | EXPLAINED
#: Headers that may stand but once: of two, another server may read the other one. llhttp sees to `content-length`.
_ONCE = frozenset((
    b"authorization", b"content-encoding", b"content-type", b"expect", b"host", b"origin", b"transfer-encoding",
    b"x-api-key", b"x-headgate-deadline", b"x-headgate-priority", b"x-headgate-slo-ttft",
    b"x-headgate-choice",
))  # fmt: skip
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+(?:%[\w.~-]+)?\]|(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::\d*)?", re.ASCII)
_JSON = b"application/json"
_JSON_TYPE = re.compile(rb"[\w.!#$&^+-]+/[\w.!#$&^+-]+\+json", re.ASCII)


class Reader:
    """One per connection; hands complete requests, and refusals, to `connection.take`.

    A callback in Python costs half a microsecond, so there is none for headers: `Fields` takes them.
    """

    __slots__ = (
        "_begun_s",
        "_body",
        "_body_bytes",
        "_connection",
        "_fields",
        "_host",
        "_incoming",
        "_listener",
        "_parser",
        "_quiet_bytes",
        "_read_s",
        "_target",
        "_upgrading",
        "continue_due",
        "on_header",
        "phase",
        "unread",
    )

    def __init__(self, connection: ClientWriter, listener: Listener) -> None:
        self._connection = connection
        self._listener = listener
        self.phase = IDLE
        self.continue_due = False  #: the client waits for `100 Continue` before it sends its body
        self._incoming: Exchange | None = None
        self._target = b""
        self._fields = Fields()
        self._host = b""  #: that of the last request, which was in order
        self._body: bytes | bytearray = b""
        self._body_bytes = 0
        self._read_s = self._begun_s = 0.0  #: by `perf_counter`: the last read, and that of the request's first byte
        self._quiet_bytes = 0  #: read without a callback: bounds what the parser gathers inside
        self._upgrading = False
        self.on_header = self._fields.add
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self.unread = Unread()

    def read(self, data: bytes) -> None:
        """Keep what was read: `step` parses it, a piece a call."""
        phase = self.phase
        if phase != DEAF:
            self._read_s = perf_counter()
            self.unread.add(data, phase != IDLE)

    def step(self) -> int:
        """Parse a piece of what was read, which ends at most one request. Its size."""
        parser, phase = self._parser, self.phase
        piece = self.unread.piece(self._body_left() if phase == BODY else 0)
        size = len(piece)
        if parser is None or phase == DEAF:
            return size
        if phase == IDLE:
            self.phase = HEAD
            self._begun_s = self._read_s
        self._quiet_bytes += size
        try:
            parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrades(memoryview(piece)[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._unreadable(error)
        if self._quiet_bytes > self._listener.limits.header_bytes and self.phase != DEAF:
            self.refuse(self._head_too_large())
        return size

    def refuse(self, error: RouterError) -> None:
        """The last exchange of this connection is `error`: the rest of the input cannot be trusted, or used."""
        exchange = self._incoming or Exchange(self._connection, b"", {}, False, False)
        if exchange.route is None:
            exchange.dialect = self._listener.routes.dialect_of(self._target)
        self._incoming = None
        if exchange.incoming is not None:
            exchange.incoming.abandon()
        self._let_go_of_body()
        self.phase = DEAF
        self.unread.clear()
        exchange.error = error
        exchange.keep_alive = False
        self._connection.take(exchange)

    def close(self) -> None:
        """No more input. Also breaks the cycle of the parser and its callbacks."""
        self.phase = DEAF
        self._parser = None
        incoming, self._incoming = self._incoming, None
        if incoming is not None and incoming.incoming is not None:
            incoming.incoming.abandon()
        self.unread.clear()
        self._let_go_of_body()

    # httptools

    def on_message_begin(self) -> None:
        if self.phase == IDLE:  # behind the end of another request, within one piece
            self.phase = HEAD
            self._begun_s = self._read_s

    def on_url(self, url: bytes) -> None:
        self._quiet_bytes = 0
        if self.phase != HEAD:
            return
        self._target = self._target + url if self._target else url
        if len(self._target) > self._listener.limits.header_bytes:
            self.refuse(self._head_too_large())

    def on_headers_complete(self) -> None:
        if self.phase != HEAD:
            return
        parser = self._parser
        assert parser is not None
        self.phase = BODY
        self._body_bytes = 0
        self._upgrading = parser.should_upgrade()
        fields = self._fields
        headers = fields.values
        version = parser.get_http_version()
        exchange = self._incoming = Exchange(
            self._connection, parser.get_method(), headers, parser.should_keep_alive(), version == "1.0"
        )
        if b"origin" in headers:
            exchange.cors = self._listener.origins.lines(headers[b"origin"])
        try:
            self._check_head(fields, version)
        except RouterError as error:
            self.refuse(error)
        else:
            self._screen(exchange, headers)
        fields.clear()
        self._quiet_bytes = 0

    def on_chunk_header(self) -> None:
        self._quiet_bytes = 0

    def on_body(self, data: bytes) -> None:
        self._quiet_bytes = 0
        exchange = self._incoming
        if exchange is None:
            return
        self._body_bytes += len(data)
        if exchange.error is not None:
            if self._body_bytes > SMALL_BODY_BYTES:
                self.refuse(exchange.error)
        elif exchange.incoming is not None:
            self._pass_on(exchange.incoming, data)
        elif self._body_bytes > self._listener.limits.body_bytes:
            self.refuse(self._too_large())
        else:
            self._keep(data)

    def on_message_complete(self) -> None:
        exchange = self._incoming
        if exchange is None or self._upgrading:
            return
        self._incoming = None
        self._target = b""
        self._quiet_bytes = 0
        self.continue_due = False
        if self._fields.lines:  # trailers
            self._fields.clear()
        body = self._body
        if body:  # from here on the connection answers for its size
            self._body = b""
            exchange.body = body if isinstance(body, bytes) else bytes(body)
        self.phase = IDLE
        if not exchange.keep_alive:
            self.phase = DEAF
            self.unread.clear()
        self._connection.take(exchange)

    # Within

    def _body_left(self) -> int:
        """Bytes to come of a body whose length the head told; 0 of a chunked one."""
        exchange = self._incoming
        length = None if exchange is None else exchange.headers.get(b"content-length")
        return 0 if length is None else int(length) - self._body_bytes

    def _pass_on(self, incoming: Incoming, data: bytes) -> None:
        try:
            incoming.feed(data)
        except RouterError as error:
            self.refuse(error)

    def _keep(self, data: bytes) -> None:
        listener = self._listener
        listener.body_bytes += len(data)
        if listener.body_bytes > listener.limits.pending_bytes:
            listener.body_bytes -= len(data)
            self.refuse(Overloaded("the bodies of unfinished requests fill their share of memory"))
        elif not self._body:
            self._body = data
        else:
            # One growing buffer: a list of pieces of one byte each would take fifty times their size.
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += data

    @property
    def held(self) -> bool:
        """The body that comes is passed on, to what takes no more for now."""
        exchange = self._incoming
        return exchange is not None and exchange.incoming is not None and exchange.incoming.full

    @property
    def passes_on(self) -> bool:
        """The body that comes is passed on as it comes: it takes as long as it takes."""
        return self._incoming is not None and self._incoming.incoming is not None

    def _let_go_of_body(self) -> None:
        self._listener.body_bytes -= len(self._body)
        self._body = b""

    def _check_head(self, fields: Fields, version: str) -> None:
        """Refuse what is too large, and what two servers could read differently."""
        limits = self._listener.limits
        headers = fields.values
        if fields.lines > limits.headers or fields.size + len(self._target) > limits.header_bytes:
            raise self._head_too_large()
        if fields.repeated and (twice := fields.repeated & _ONCE):
            name = min(twice).decode("ascii")
            raise BadRequest(f"`{name}` stands more than once; expected one such header", param=name)
        host = headers.get(b"host")
        if version == "1.1":
            if host is None:
                raise BadRequest("expected a `host` header", param="host")
        elif version != "1.0":
            raise BadRequest(f"HTTP/{version} is not spoken here; HTTP/1.1 is")
        if host is not None and host != self._host:
            if not _HOST.fullmatch(host):
                raise BadRequest(f"`host`: expected a name or an address, and a port, got {shown(host)}", param="host")
            self._host = host
        coding = headers.get(b"transfer-encoding")
        if coding is not None and (coding.lower() != b"chunked" or version == "1.0"):
            raise BadRequest("`transfer-encoding`: only `chunked` is accepted, in HTTP/1.1", param="transfer-encoding")

    def _screen(self, exchange: Exchange, headers: dict[bytes, bytes]) -> None:
        """Route, key, size and type, before any of the body is read."""
        listener = self._listener
        length = int(headers.get(b"content-length", 0))
        unusual = not _UNUSUAL.isdisjoint(headers)
        if unusual:
            exchange.explained = not EXPLAINED.isdisjoint(headers)
            exchange.begun_s = self._begun_s
        try:
            if listener.guard is not None:
                listener.guard(headers)
            method = exchange.method
            route, exchange.path = listener.routes.find(self._target)
            exchange.route, exchange.dialect = route, route.dialect
            if route.queried:
                exchange.query = self._target.partition(b"?")[2].partition(b"#")[0]
            # What OPTIONS tells is in the documentation; and a browser's preflight never carries a key.
            if not route.open and method != b"OPTIONS":
                exchange.key_id = listener.identify(headers)
            handler = exchange.handler = route.handlers.get(method)
            if handler is None:
                raise route.wrong_method(method)
            if route.takes is not None and method == b"POST":
                exchange.incoming = route.takes(exchange)
            elif length > listener.limits.body_bytes:
                raise self._too_large()
            if unusual:
                self._check_unusual(exchange, headers)
            if route.reads_json and method == b"POST" and headers.get(b"content-type") != _JSON:
                self._check_type(headers)
        except RouterError as error:
            if exchange.route is None:
                exchange.dialect = listener.routes.dialect_of(self._target)
            exchange.error = error.with_traceback(None)  # which holds this frame, and the frame the exchange
            if exchange.incoming is not None:
                exchange.incoming.abandon()
                exchange.incoming = None
            has_body = length > 0 or b"transfer-encoding" in headers
            if has_body and (length > SMALL_BODY_BYTES or b"expect" in headers):
                self.refuse(error)

    def _check_unusual(self, exchange: Exchange, headers: dict[bytes, bytes]) -> None:
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise BadRequest("`content-encoding`: compressed bodies are not accepted", param="content-encoding")
        if exchange.method == b"OPTIONS" and is_preflight(headers) and not exchange.cors:
            raise not_allowed(headers[b"origin"])
        if b"expect" in headers and not exchange.old_client:
            self.continue_due = headers[b"expect"].lower() == b"100-continue"

    def _check_type(self, headers: dict[bytes, bytes]) -> None:
        """Refuse what is not declared to be JSON, as vLLM's server does. Only the media type counts:
        `text/plain; x=json` is text.

        A web page can send texts, forms, and bodies without a type to a loopback port without asking; JSON needs the
        server's consent.
        """
        given = headers.get(b"content-type", b"")
        media = given.partition(b";")[0].rstrip().lower()
        if media != _JSON and not _JSON_TYPE.fullmatch(media):
            got = f"got {shown(given)}" if given else "there is none"
            what = f"`content-type`: {got}; send the body as JSON, with `content-type: application/json`"
            raise BadRequest(what, param="content-type")

    def _unreadable(self, error: httptools.HttpParserError) -> None:
        if isinstance(error, httptools.HttpParserCallbackError):
            self._listener.bug(error.__context__ or error)
            self.refuse(RouterError(OUR_FAULT))
        elif self.phase != DEAF:
            self.refuse(BadRequest(f"malformed HTTP request: {error}", code="malformed_request"))

    def _decline_upgrades(self, rest: memoryview) -> None:
        """Answer offers of another protocol in HTTP/1.1, as RFC 9110 allows: Java's client offers h2c each time."""
        while self.phase != DEAF:
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
        framing = [
            b"%b: %b\r\n" % (name, exchange.headers[name])
            for name in (b"content-length", b"transfer-encoding")
            if name in exchange.headers
        ]
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n")

    def _head_too_large(self) -> HeadersTooLarge:
        limits = self._listener.limits
        return HeadersTooLarge(f"the request's head is over {limits.header_bytes} bytes or {limits.headers} headers")

    def _too_large(self) -> ContentTooLarge:
        return ContentTooLarge(f"the body is over {self._listener.limits.body_bytes} bytes")
