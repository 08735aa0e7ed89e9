"""The pipeline's `Sink` for one HTTP request: chunks become an event stream or a JSON body, errors their dialect.

A streamed chunk costs one framing and one write; uvloop gathers a tick's writes of a connection into one system call.
"""

import json
from time import perf_counter

import msgspec

from router.errors import EngineFailed, RouterError
from router.frontend import failure, wire
from router.frontend.exchange import Exchange
from router.ipc.messages import Done
from router.native.express import Passage
from router.pipeline.base import Service, Ticket
from router.types import Decision, Query


class Answer:
    """Created by an inference route; ends its exchange exactly once. `kind` and options are those of `query`."""

    # On the class, not set for each, as in `Exchange`.
    _decision: Decision | None = None
    _ticket: Ticket | None = None
    _ended = False
    _under_way = False  #: chunks go out framed and without further ado
    _head: bytes | None = None  #: of a stream: due with the first chunk
    _body: bytes | bytearray = b""
    _overhead_s = 0.0

    def __init__(self, exchange: Exchange, query: Query) -> None:
        self._exchange = exchange
        self._connection = exchange.connection
        self._door = exchange.connection.door
        self._stream = query.stream

    def submit(self, service: Service, query: Query) -> None:
        """Raises what the service refuses with."""
        exchange = self._exchange
        self._ticket = service.submit(query, exchange.body, self, traceparent=exchange.traceparent)
        exchange.stream = self
        exchange.body = b""  # the pipeline keeps its own reference for as long as a retry may need it
        door = self._door
        door.running += 1
        self._overhead_s = perf_counter() - exchange.received_s
        door.metrics.overhead(self._overhead_s)

    def resume(self, service: Service, query: Query, passage: Passage) -> Ticket:
        """Go on where `passage` stands."""
        exchange = self._exchange
        self._overhead_s = passage.overhead_s
        ticket = self._ticket = service.resume(passage, query, self)
        exchange.stream = self
        if passage.started:
            self._decision = passage.decision
            self._under_way = self._stream
            self._body = passage.answer or b""
        return ticket

    # Sink

    def start(self, decision: Decision) -> None:
        if self._ended or self._decision is not None:
            return
        self._decision = decision
        if self._stream:
            self._door.metrics.first_token(decision.model, perf_counter() - self._exchange.received_s)
            self._head = self._stream_head(decision)

    def chunk(self, data: bytes) -> None:
        if self._under_way and data:
            self._connection.stream(b"%x\r\n%b\r\n" % (len(data), data))
        elif data and not self._ended:
            if self._stream:
                self._stream_plainly(data)
            else:
                self._collect(data)

    def done(self, done: Done) -> None:
        if self._ended:
            return
        exchange, decision = self._exchange, self._decision
        if decision is None:
            self.fail(EngineFailed("the engine finished without an answer"))
            return
        self._end()
        model = decision.model
        metrics = self._door.metrics
        metrics.tokens(model, done.usage)
        timings, more_tokens = done.timings, done.usage.completion_tokens - 1
        # As `Meters.finished`: a claim that the first token came after the last one says nothing.
        if more_tokens > 0 and timings.total_s > 0 and timings.total_s >= timings.first_token_s:
            metrics.output_token(model, (timings.total_s - timings.first_token_s) / more_tokens)
        if self._stream:
            self._finish_stream(b"")
            exchange.finish(200, model)
            return
        body = self._body
        if not isinstance(body, bytes):
            body = bytes(body)
        exchange.respond(200, body, headers=self._headers(decision), model=model)

    def fail(self, error: RouterError) -> None:
        if self._ended:
            return
        self._end()
        exchange, decision = self._exchange, self._decision
        streaming = self._stream and decision is not None
        if not streaming:
            if decision is None:
                exchange.refuse(error)
            else:
                exchange.refuse(error, describe(decision.model, decision.reason), decision.model)
            return
        self._door.metrics.error(error.type)
        self._finish_stream(failure.events(error, exchange.dialect))
        exchange.finish(error.status, "" if decision is None else decision.model)

    # Stream

    def gone(self) -> None:
        if self._ended:
            return
        self._cancel()
        self._end()
        model = "" if self._decision is None else self._decision.model
        exchange = self._exchange
        route = "other" if exchange.route is None else exchange.route.name
        self._door.metrics.request(route, model, 499, perf_counter() - exchange.received_s)

    def cut(self, error: RouterError) -> None:
        if not self._ended:
            self._cancel()
            self.fail(error)

    def _cancel(self) -> None:
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            ticket.cancel()

    def _end(self) -> None:
        self._ended = True
        self._under_way = False
        self._ticket = None  # the ticket holds us: left standing, the two would wait for the cycle collector
        self._door.running -= 1

    def _stream_plainly(self, data: bytes) -> None:
        """The first chunk, with the head; and for HTTP/1.0 all others."""
        framed = data if self._exchange.old_client else wire.framed(data)
        if self._head is not None:
            framed = self._head + framed
            self._head = None
            self._under_way = not self._exchange.old_client
        self._connection.stream(framed)

    def _collect(self, data: bytes) -> None:
        """JSON comes whole, mostly; of many pieces each is copied once."""
        if not self._body:
            self._body = data
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += data
        if len(self._body) > self._door.limits.body_bytes:
            self.cut(EngineFailed(f"the answer is larger than {self._door.limits.body_bytes} bytes"))

    def _finish_stream(self, last: bytes) -> None:
        exchange = self._exchange
        tail = b"" if self._head is None else self._head
        self._head = None
        if exchange.old_client:
            tail += last
        else:
            tail += (wire.framed(last) if last else b"") + wire.LAST_CHUNK
        if tail:
            self._connection.write(tail)

    def _stream_head(self, decision: Decision) -> bytes:
        exchange = self._exchange
        # Without chunks only the connection's end can end the answer.
        exchange.keep_alive = exchange.keep_alive and not exchange.old_client and not self._door.draining
        lines = self._door.date + self._headers(decision) + exchange.cors
        return wire.stream_head(lines, keep_alive=exchange.keep_alive, old_client=exchange.old_client)

    def _headers(self, decision: Decision) -> str:
        about = _about.get((decision.model, decision.reason)) or describe(decision.model, decision.reason)
        lines = (
            f"x-request-id: {self._exchange.request_id}\r\n{about}"
            f"x-headgate-overhead-ms: {self._overhead_s * 1e3:.3f}\r\nx-headgate-decision-id: {decision.id}\r\n"
        )
        if decision.score is not None:
            lines += f"x-headgate-score: {decision.score:.4f}\r\n"
        if decision.threshold is not None:
            lines += f"x-headgate-threshold: {decision.threshold:.4f}\r\n"
        if self._exchange.explained:
            lines += self._terms(decision)
        return lines

    def _terms(self, decision: Decision) -> str:
        """Every term of the decision as ASCII JSON, if asked for; infinite figures become null."""
        if self._exchange.headers.get(b"x-headgate-debug", b"").lower() not in (b"true", b"1"):
            return ""
        terms = json.dumps(msgspec.json.decode(msgspec.json.encode(decision.terms)), separators=(",", ":"))
        return f"x-headgate-terms: {terms}\r\n"


#: Header lines by model and reason: as many as the pool has members, times the reasons there are.
_about: dict[tuple[str, str], str] = {}


def describe(model: str, reason: str) -> str:
    lines = f"x-headgate-model: {wire.header_text(model)}\r\nx-headgate-reason: {reason}\r\n"
    if len(_about) < 1_000:
        _about[model, reason] = lines
    return lines
