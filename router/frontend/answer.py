"""The pipeline's `Sink` for one HTTP request: what its answer's head says, its end, its errors in their dialect.

The bytes of heads, chunks and ends are written by `reply`.
"""

import json
from time import perf_counter

import msgspec

from router.errors import EngineFailed, RouterError
from router.frontend import failure, wire
from router.frontend.exchange import Exchange
from router.frontend.reply import Reply, lines
from router.gate.permit import Permit
from router.ipc.messages import Done
from router.native.express import Passage
from router.pipeline.base import Service, Ticket
from router.types import Decision, Query


class Answer(Reply):
    """Created by an inference route; ends its exchange exactly once. `kind` and options are those of `query`."""

    # On the class, not set for each, as in `Exchange`.
    _decision: Decision | None = None
    _ticket: Ticket | None = None
    _permit: Permit | None = None
    _overhead_s = 0.0

    def __init__(self, exchange: Exchange, query: Query) -> None:
        door = exchange.connection.door
        super().__init__(exchange.connection, query.stream, exchange.old_client, door.limits.body_bytes)
        self._exchange = exchange
        self._door = door

    def submit(self, service: Service, query: Query, permit: Permit) -> None:
        """Raises what the service refuses with."""
        exchange = self._exchange
        self._ticket = service.submit(query, exchange.body, self, traceparent=exchange.traceparent, permit=permit)
        self._permit = permit
        exchange.stream, exchange.accepted = self, True
        exchange.body = b""  # the pipeline keeps its own reference for as long as a retry may need it
        self._overhead_s = perf_counter() - exchange.received_s
        self._door.metrics.overhead(self._overhead_s)

    def take_over(self, service: Service, query: Query, passage: Passage) -> Ticket:
        """Go on where `passage` stands."""
        exchange = self._exchange
        self._overhead_s = passage.overhead_s
        ticket = self._ticket = service.resume(passage, query, self)
        exchange.stream, exchange.accepted = self, True
        if passage.started:
            self._decision = passage.decision
            self.resume(self.stream, passage.answer or b"")
        return ticket

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
        exchange, decision = self._exchange, self._decision
        if decision is None:
            self.fail(EngineFailed("the engine finished without an answer"))
            return
        self._close()
        model = decision.model
        if self.stream:
            self.end()
            exchange.finish(200, model)
        else:
            exchange.respond(200, self.collected(), headers=self._headers(decision), model=model)

    def fail(self, error: RouterError) -> None:
        if self.over:
            return
        self._close()
        exchange, decision = self._exchange, self._decision
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
        if not self.over:
            self._cancel(error)
            self.fail(error)

    def _cancel(self, why: RouterError | None = None) -> None:
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            ticket.cancel(why)

    def _close(self) -> None:
        self.close()
        self._ticket = None  # the ticket holds us: left standing, the two would wait for the cycle collector
        if self._permit is not None:
            self._permit.settle()

    def _stream_head(self, decision: Decision) -> bytes:
        exchange = self._exchange
        # Without chunks only the connection's end can end the answer.
        exchange.keep_alive = exchange.keep_alive and not exchange.old_client and not self._door.draining
        extra = self._door.date + self._headers(decision) + exchange.cors
        return wire.stream_head(extra, keep_alive=exchange.keep_alive, old_client=exchange.old_client)

    def _headers(self, decision: Decision) -> str:
        about = _about.get((decision.model, decision.reason)) or describe(decision.model, decision.reason)
        request_id = self._exchange.request_id
        said = lines(request_id, about, self._overhead_s, decision.id, decision.score, decision.threshold)
        return said + self._terms(decision) if self._exchange.explained else said

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
