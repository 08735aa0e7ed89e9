"""One request and the answer it gets: exactly one, whatever happens. Knows the wire format, not the routes' meaning."""

import re
import uuid
from collections.abc import Callable
from time import perf_counter
from typing import Final, Literal, Protocol, TypeAlias, get_args

from router.config import Limits
from router.dialects.priority import MOST as MOST_PRIORITY
from router.errors import OUR_FAULT, BadRequest, ClientGone, RouterError
from router.frontend import failure, wire
from router.frontend.failure import Dialect
from router.frontend.orca import ASKED_BY as ORCA
from router.gate.gate import Gate
from router.native.writer import Writer
from router.observe.metrics import Metrics
from router.pipeline.ids import next_id
from router.types import Choice

#: Request headers that say something of the request beyond its body.
EXPLAINED = frozenset((
    b"x-request-id", b"x-session-id", b"traceparent",
    b"x-headgate-debug", b"x-headgate-deadline", b"x-headgate-slo-ttft", b"x-headgate-priority",
    b"x-headgate-choice", ORCA,
))  # fmt: skip
_CHOICES: Final[dict[bytes, Choice]] = {choice.encode(): choice for choice in get_args(Choice)}
_PRIORITY = re.compile(rb"[+-]?[0-9]{1,9}")
_ID = re.compile(rb"[\x21-\x7e]{1,256}")
_MOST_ID = 256
_REQUEST_ID = "x-request-id: "
_NOT_IN_IDS = bytes(byte for byte in range(256) if not 0x21 <= byte <= 0x7E)
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[\x20-\x7e]*)?")


class Stream(Protocol):
    """An answer still under way, as its connection sees it."""

    def gone(self) -> None:
        """The client went away."""
        ...

    def cut(self, error: RouterError) -> None:
        """Time is up: end with `error`, in the stream where one has begun."""
        ...


class Incoming(Protocol):
    """A body that is passed on as it comes (`upload.Upload`), and is not held in memory."""

    @property
    def full(self) -> bool:
        """No more is to be read for now; `ClientWriter.body_taken` is called later."""
        ...

    def feed(self, data: bytes) -> None:
        """Raises `RouterError`."""
        ...

    def abandon(self) -> None:
        """No more will come, and no answer is wanted. Harmless when called again."""
        ...


class Port(Protocol):
    """What an exchange uses of the port that its connection came in by (`listener.Listener`)."""

    limits: Limits
    metrics: Metrics
    draining: bool
    date: str  #: the header line
    request_ids: bool  #: every answer carries `x-request-id`
    gate: Gate

    def bug(self, error: BaseException) -> None:
        """Log an error of ours."""
        ...


class ClientWriter(Writer):
    """What the reader and exchanges use of a connection (`connection.Connection`)."""

    __slots__ = ()
    listener: Port

    def take(self, exchange: "Exchange") -> None:
        """A complete request, or a refusal: run it when its turn comes."""
        raise NotImplementedError

    def answered(self, exchange: "Exchange") -> None:
        """`exchange` is wholly written."""
        raise NotImplementedError

    def body_taken(self) -> None:
        """An `Incoming` that was full takes more."""
        raise NotImplementedError

    def unsent_bytes(self) -> int:
        """That the client has not taken yet."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close at once."""
        raise NotImplementedError

    def broke(self, error: Exception) -> None:
        """Log an error of ours and close at once: no answer can be given any more."""
        raise NotImplementedError


class Named(Protocol):
    """What an exchange uses of its route (`routes.Route`): the name, for metrics."""

    name: str


class Exchange:
    """Made at the end of a request's head; `run` is called when all earlier answers of its connection are out."""

    # On the class, not set for each: most requests never touch most of them.
    path = b""
    query = b""  #: of the target, for routes that stand for many paths
    body = b""
    key_id = ""
    request_id = ""  #: set by `identify`
    explained = False  #: has one of the headers of `EXPLAINED`
    cors = ""  #: header lines for the web page that asks, where its origin is allowed
    begun_s = 0.0  #: when the first byte was read, by `perf_counter`; of requests with unusual headers
    received_s = 0.0
    dialect: Dialect = "openai"  #: of errors
    route: Named | None = None
    handler: "Handler | None" = None
    error: RouterError | None = None  #: refused before it was run
    incoming: Incoming | None = None  #: takes the body
    stream: Stream | None = None
    accepted = False  #: by the pipeline: its end is in the ledger, by which it is counted in the metrics

    def __init__(
        self, connection: ClientWriter, method: bytes, headers: dict[bytes, bytes], keep_alive: bool, old_client: bool
    ) -> None:
        self.connection = connection
        self.method = method
        self.headers = headers
        self.keep_alive = keep_alive
        self.old_client = old_client  #: HTTP/1.0: knows no chunks

    def identify(self, ours: str = "") -> str:
        """The client's `x-request-id`, as far as it is printable, else `ours`, by default the next of the process."""
        kept = self.headers.get(b"x-request-id") if self.explained else None
        if kept is not None and not _ID.fullmatch(kept):
            kept = kept.translate(None, _NOT_IN_IDS)[:_MOST_ID]
        self.request_id = kept.decode("ascii") if kept else ours or next_id()
        return self.request_id

    @property
    def session_id(self) -> str:
        given = self.headers.get(b"x-session-id")
        if given is None:
            return ""
        if not _ID.fullmatch(given):  # cut, it could be that of another session
            what = f"`x-session-id`: expected 1 to {_MOST_ID} printable ASCII characters without spaces"
            raise BadRequest(what, param="x-session-id")
        return given.decode("ascii")

    @property
    def traceparent(self) -> str:
        """A malformed one is as none: W3C Trace Context has the receiver start a new trace."""
        given = self.headers.get(b"traceparent") if self.explained else None
        return given.decode("ascii") if given is not None and _TRACEPARENT.fullmatch(given) else ""

    def seconds(self, header: bytes) -> float | None:
        """The number of seconds in `header`. Raises `BadRequest` on anything else."""
        given = self.headers.get(header)
        if given is None:
            return None
        try:
            seconds = float(given)
        except ValueError:
            seconds = -1.0
        if not 0 < seconds < 1e9:
            raise BadRequest(f"`{header.decode()}`: expected seconds above 0", param=header.decode())
        return seconds

    @property
    def priority(self) -> int:
        """Lower starts earlier; 0 where it says none. Raises `BadRequest`."""
        given = self.headers.get(b"x-headgate-priority") if self.explained else None
        if given is None:
            return 0
        if not _PRIORITY.fullmatch(given) or abs(int(given)) > MOST_PRIORITY:
            what = f"`x-headgate-priority`: expected a whole number from -{MOST_PRIORITY} to {MOST_PRIORITY}"
            raise BadRequest(what, param="x-headgate-priority")
        return int(given)

    @property
    def debugged(self) -> bool:
        """It asks for what lies behind its answer."""
        return self.explained and self.headers.get(b"x-headgate-debug", b"").lower() in (b"true", b"1")

    @property
    def choice(self) -> Choice | Literal[""]:
        """When models may be chosen; empty where it says nothing. Raises `BadRequest`."""
        given = self.headers.get(b"x-headgate-choice") if self.explained else None
        if given is None:
            return ""
        choice = _CHOICES.get(given.lower())
        if choice is None:
            shown = given[:40].decode("latin-1")
            what = f"`x-headgate-choice`: expected one of {', '.join(get_args(Choice))}, got {shown!r}"
            raise BadRequest(what, param="x-headgate-choice")
        return choice

    def run(self) -> None:
        """Answer, now or later. Nothing that a handler raises escapes."""
        self.received_s = perf_counter()
        if self.error is not None:
            self.refuse(self.error)
            return
        assert self.handler is not None
        self.answer_by(self.handler)

    def answer_by(self, handler: "Handler") -> None:
        """What `handler` raises becomes the answer."""
        try:
            handler(self)
        except Exception as error:
            self.answer_error(error)

    def answer_error(self, error: Exception) -> None:
        """An error that is none of ours to tell clients of is logged."""
        if not isinstance(error, RouterError):
            self.connection.listener.bug(error)
            error = RouterError(OUR_FAULT)
        self.refuse(error)

    def respond(
        self, status: int, body: bytes, content_type: str = wire.JSON, headers: str = "", model: str = ""
    ) -> None:
        """Send a whole answer."""
        head = self._head(status, content_type, len(body), headers)
        self.connection.write(head if self.method == b"HEAD" else head + body)
        self.finish(status, model)

    def begin_body(self, status: int, length: int, content_type: str) -> None:
        """Send the head of an answer whose body is written by and by; then `finish`."""
        self.connection.write(self._head(status, content_type, length, ""))

    def _head(self, status: int, content_type: str, length: int, headers: str) -> bytes:
        listener = self.connection.listener
        if listener.draining:
            self.keep_alive = False
        if listener.request_ids and not headers.startswith(_REQUEST_ID):
            if not self.request_id:
                self.identify(uuid.uuid4().hex)  # in the form that vLLM's server gives
            headers += self.request_id_header()
        ending = "" if self.keep_alive and not self.old_client else wire.connection(self.keep_alive, self.old_client)
        return wire.head(status, content_type, length, f"{listener.date}{headers}{self.cors}{ending}")

    def refuse(self, error: RouterError, headers: str = "", model: str = "") -> None:
        """Send `error` as the whole answer."""
        if not self.accepted:
            self.connection.listener.metrics.error(error.type)
        self.respond(
            error.status,
            failure.body(error, self.dialect),
            headers=self.request_id_header() + headers + failure.headers(error),
            model=model,
        )

    def request_id_header(self) -> str:
        return f"{_REQUEST_ID}{self.request_id or self.identify()}\r\n"

    def finish(self, status: int, model: str = "") -> None:
        """All of the answer is written."""
        self.stream = None
        if not self.accepted:
            name = "other" if self.route is None else self.route.name
            self.connection.listener.metrics.request(name, model, status, perf_counter() - self.received_s)
        self.connection.answered(self)

    def exchange(self) -> "Exchange":
        return self

    def count_gone(self) -> None:
        """The client went away before anything was answered, and before the pipeline had accepted it."""
        name, metrics = "other" if self.route is None else self.route.name, self.connection.listener.metrics
        metrics.error(ClientGone.type)
        metrics.request(name, "", ClientGone.status, perf_counter() - self.received_s)

    def gone(self) -> None:
        """The client went away before its answer was out."""
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.gone()


class Active(Protocol):
    """The answer under way: an `Exchange`, or an `Answer` that native code began."""

    @property
    def keep_alive(self) -> bool: ...

    def exchange(self) -> Exchange: ...

    def gone(self) -> None: ...


#: Answers an exchange, now or later.
Handler: TypeAlias = Callable[[Exchange], None]


def exchange_of(connection: ClientWriter, route: tuple[Named, bytes]) -> Exchange:
    """Of a plain POST request that native code has read. `route`: and the path."""
    exchange = Exchange(connection, b"POST", {}, keep_alive=True, old_client=False)
    exchange.route, exchange.path = route
    exchange.received_s = perf_counter()
    return exchange
