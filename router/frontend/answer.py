"""The pipeline's `Sink` for one HTTP request: what its answer's head says, its end, its errors in their dialect.

The bytes of heads, chunks and ends are written by `reply`.
"""

import json
from time import perf_counter

import msgspec

from router.errors import EngineFailed, RouterError
from router.frontend import failure, wire
from router.frontend.connection import Connection
from router.frontend.exchange import Exchange, exchange_of
from router.frontend.orca import ASKED_BY, load_header
from router.frontend.reply import Reply, lines
from router.gate.permit import Permit
from router.ipc.messages import Done
from router.native.steps import CUT
from router.pipeline.request import Request
from router.pipeline.service import Service, Ticket
from router.types import API_PATHS, Decision, Query

#: As on vLLM's server.
_TELL_LOAD = frozenset({"chat", "completions"})
#: Of the requests that native code begins.
TARGET = API_PATHS["chat"]


class Answer(Reply):
    """Ends its exchange exactly once. Created by an inference route, of which `kind` and options are those of `query`;
    or natively, without `__init__`, with a request: its exchange is then made when first needed."""

    # On the class, not set for each, as in `Exchange`.
    _exchange: Exchange | None = None
    _decision: Decision | None = None
    _ticket: Ticket | None = None
    _permit: Permit | None = None
    _overhead_s = 0.0
    _service: Service | None = None  #: of an answer that may tell of its member's load

    def __init__(self, exchange: Exchange, query: Query) -> None:
        listener = exchange.connection.listener
        super().__init__(exchange.connection, query.stream, exchange.old_client, listener.limits.answer_bytes)
        self._exchange = exchange

    def submit(self, service: Service, query: Query, permit: Permit) -> None:
        """Raises what the service refuses with."""
        exchange = self.exchange()
        self._ticket = service.submit(query, exchange.body, self, traceparent=exchange.traceparent, permit=permit)
        self._permit = permit
        if exchange.explained and not query.stream and query.kind in _TELL_LOAD:
            self._service = service
        self.accepted()

    def accepted(self) -> None:
        """The service has taken the request."""
        exchange = self.exchange()
        exchange.stream, exchange.accepted = self, True
        exchange.body = b""  # the pipeline keeps its own reference for as long as a retry may need it
        self._overhead_s = perf_counter() - exchange.received_s
        exchange.connection.listener.metrics.overhead(self._overhead_s)

    # Sink

    def start(self, decision: Decision) -> None:
        if self.over or self._decision is not None:
            return
        self._decision = decision
        if self.stream:
            self.begin(self._stream_head(decision))

    def done(self, done: Done) -> None:
        if self.over:
            return
        exchange, decision = self.exchange(), self._decision
        if decision is None:
            self.fail(EngineFailed("the engine finished without an answer"))
            return
        legs = self._legs()
        self._close()
        model = decision.model
        if self.stream:
            self.end()
            exchange.finish(200, model)
        else:
            headers = self._headers(decision) + legs + self._load(model)
            exchange.respond(200, self.collected(), headers=headers, model=model)

    def fail(self, error: RouterError) -> None:
        if self.over:
            return
        try:
            self._fail(error)
        except Exception as bug:  # the others of a lost engine are still to be ended
            self._connection.broke(bug)

    def _fail(self, error: RouterError) -> None:
        exchange, decision = self.exchange(), self._decision
        self._close()
        streaming = self.stream and decision is not None
        if not streaming:
            if decision is None:
                exchange.refuse(error)
            else:
                exchange.refuse(error, describe(decision.model, decision.reason), decision.model)
            return
        self.end(failure.events(error, exchange.dialect))
        exchange.finish(error.status, "" if decision is None else decision.model)

    # Stream

    def gone(self) -> None:
        if not self.over:
            self._cancel()
            self._close()

    def cut(self, error: RouterError) -> None:
        if self.over:
            return
        request = self.request if self._ticket is None else self._ticket
        if isinstance(request, Request) and request.ended:  # and its record says how: only that was waited for
            if request.finished:
                self.done(request.message)
            else:
                self.fail(request.error or error)
        else:
            self._cancel(error)
            self.fail(error)

    # What a connection uses of the answer under way

    @property
    def keep_alive(self) -> bool:
        return self._exchange is None or self._exchange.keep_alive

    def exchange(self) -> Exchange:
        """Of a request that native code began, made now: it is no longer ended natively."""
        exchange, request = self._exchange, self.request
        if exchange is None:
            assert isinstance(request, Request)
            request.leave(CUT)
            connection = self._connection
            exchange = self._exchange = exchange_of(connection, connection.listener.routes.find(TARGET.encode()))
            exchange.key_id, exchange.request_id = request.key_id, request.told_id
            exchange.received_s = request.received_s
            exchange.stream, exchange.accepted = self, True
            self._overhead_s = request.overhead_s
            if request.first_s is not None:
                self._decision = request.decision
            connection.replace(self, exchange)
        return exchange

    # Within

    @property
    def _connection(self) -> Connection:
        assert isinstance(self.connection, Connection)
        return self.connection

    def _cancel(self, why: RouterError | None = None) -> None:
        ticket, self._ticket = self._ticket, None
        if ticket is None and isinstance(self.request, Request):
            ticket = self.request
        if ticket is not None:
            ticket.cancel(why)

    def _close(self) -> None:
        self.close()
        self._ticket = None  # the ticket holds us: left standing, the two would wait for the cycle collector
        if self._permit is not None:
            self._permit.settle()

    def _stream_head(self, decision: Decision) -> bytes:
        exchange = self.exchange()
        listener = exchange.connection.listener
        # Without chunks only the connection's end can end the answer.
        exchange.keep_alive = exchange.keep_alive and not exchange.old_client and not listener.draining
        extra = listener.date + self._headers(decision) + self._legs() + exchange.cors
        return wire.stream_head(extra, keep_alive=exchange.keep_alive, old_client=exchange.old_client)

    def _headers(self, decision: Decision) -> str:
        about = _about.get((decision.model, decision.reason)) or describe(decision.model, decision.reason)
        exchange = self.exchange()
        said = lines(exchange.request_id, about, self._overhead_s, decision.id, decision.score, decision.threshold)
        return said + self._terms(decision) if exchange.explained else said

    def _legs(self) -> str:
        """The models that ran so far, in their order, where there were several."""
        request = self.request if self._ticket is None else self._ticket
        if not isinstance(request, Request) or request.course is None or len(request.legs) < 2:
            return ""
        models = ",".join(wire.header_text(leg.decision.model) for leg in request.legs)
        return f"x-headgate-legs: {models}\r\n"

    def _load(self, model: str) -> str:
        service, format = self._service, self.exchange().headers.get(ASKED_BY)
        if service is None or format is None:
            return ""
        state = next((each.state for each in service.members() if (each.model or each.name) == model), None)
        return "" if state is None else load_header(format.decode("latin-1"), state)

    def _terms(self, decision: Decision) -> str:
        """Every term of the decision as ASCII JSON, if asked for; infinite figures become null."""
        if not self.exchange().debugged:
            return ""
        terms = json.dumps(msgspec.json.decode(msgspec.json.encode(decision.terms)), separators=(",", ":"))
        return f"x-headgate-terms: {terms}\r\n{_price_of(decision)}"


def _price_of(decision: Decision) -> str:
    """Lambda, and what steers it."""
    if decision.numbers is None:
        return ""
    settings = decision.numbers.record().settings
    steered = settings["price_of"]
    return f"x-headgate-price: {settings['price']}{f'; {steered}' if steered else ''}\r\n"


#: Header lines by model and reason: as many as the pool has members, times the reasons there are.
_about: dict[tuple[str, str], str] = {}


def describe(model: str, reason: str) -> str:
    lines = f"x-headgate-model: {wire.header_text(model)}\r\nx-headgate-reason: {reason}\r\n"
    if len(_about) < 1_000:
        _about[model, reason] = lines
    return lines
