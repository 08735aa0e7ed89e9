"""One client connection: answers leave in the order of their requests, slow or silent clients are cut.

Knows neither HTTP's grammar (`reader`) nor what an answer says (`exchange`).
"""

import asyncio
from math import inf
from time import perf_counter

from router.errors import Overloaded, RequestTimeout, RouterError
from router.frontend import wire
from router.frontend.exchange import Active, ClientWriter, Exchange, exchange_of
from router.frontend.listener import Listener
from router.frontend.reader import BODY, DEAF, HEAD, IDLE, Reader
from router.frontend.stall import Stall
from router.frontend.waiting import Waiting
from router.native.steps import NO_ENGINE, PIPELINED, SCORING

#: How long we go on reading after an answer that closes the connection: closing at once would destroy the answer.
LINGER_S = 2.0


class Connection(ClientWriter, asyncio.Protocol):
    """`asyncio` protocol of a listener. Answers one exchange at a time."""

    __slots__ = (
        "_active",
        "_left",
        "_reader",
        "_reading",
        "_running",
        "_stall",
        "_timed",
        "_turn_due",
        "_unread_bytes",
        "_waiting",
        "deadline",
        "listener",
    )
    listener: Listener

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.deadline = inf
        self._reader: Reader | None = None  # made with the first byte: idle connections stay small
        self._active: Active | None = None
        self._waiting = Waiting(listener)
        self._left = PIPELINED  #: why the next request that is run did not take the native steps
        self._timed = IDLE  #: the reader's phase whose clock runs
        self._reading = True
        self._running = False
        self._turn_due = False  #: `go_on` will be called in a later turn of the loop
        self._unread_bytes = 0  #: that the listener counts
        self._stall: Stall | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.attach(transport)
        socket = transport.get_extra_info("socket")
        if socket is not None:
            self.socket = socket.fileno()
        listener = self.listener
        if listener.intake is not None:
            self.batch = listener.intake.batch
        listener.entered(self)
        if len(listener.connections) > listener.limits.connections:
            self._reader = Reader(self, listener)
            self._reader.refuse(Overloaded(f"more than {listener.limits.connections} connections are open"))
            self._go_on()
        elif listener.draining and not listener.patient:
            transport.close()
        else:
            self.deadline = listener.now + listener.tick_s + listener.limits.keepalive_s

    def connection_lost(self, exc: Exception | None) -> None:
        """Also called ahead of asyncio, as soon as we know."""
        if not self.open:
            return
        self.attach(None)
        self.stalled = False
        self.listener.left(self)
        self._let_go()

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if self._active is None and (reader is None or reader.phase == IDLE) and self._reading and self.open:
            intake = self.listener.intake
            if intake is not None:
                try:
                    answer = intake.take(self, data)
                except Exception as error:  # of a head in Python, for example; the connection goes on
                    self._count_left(SCORING)
                    route = self.listener.routes.find(data.split(b" ", 2)[1])
                    exchange = self._active = exchange_of(self, route)
                    if intake.given_id is not None:
                        exchange.request_id = intake.given_id.decode()
                    exchange.answer_error(error)
                    return
                if answer is not None:  # of a plain request, under way
                    self._active = answer  # type: ignore[assignment]
                    self.deadline = inf
                    return
                self._left = intake.left
            else:
                self._left = NO_ENGINE
        if reader is None:
            if not self.open:
                return
            reader = self._reader = Reader(self, self.listener)
        reader.read(data)
        self._go_on()

    def eof_received(self) -> None:
        """A client that ends its side is gone, as for other servers. asyncio closes the transport after this."""
        transport = self.flushed()
        if transport is None or not transport.get_write_buffer_size():
            self.connection_lost(None)
        else:  # what is out may still be read, and counts as long as it is not
            self._let_go()
            self._flush_within(self.listener.limits.write_timeout_s)

    def pause_writing(self) -> None:
        """The client does not keep up: nothing more of it is read or run before it has read what is there."""
        self.stalled = True
        if self._stall is None:
            self._stall = Stall()
        self._stall.begin(self.listener.now + self.listener.tick_s + self.listener.limits.write_timeout_s)
        if not self._running:
            self._pace()

    def resume_writing(self) -> None:
        self.stalled = False
        self._timed = IDLE  # the clock of what is half read starts again: we had stopped reading
        self._go_on()

    # What the reader uses

    def take(self, exchange: Exchange) -> None:
        """A complete request, or a refusal."""
        self.deadline = inf
        self._timed = IDLE
        self._waiting.exchanges.append(exchange)

    # What exchanges use

    def stream_slowly(self, data: bytes) -> None:
        """Keep up to `stream_buffer_bytes` for a client that reads slowly; beyond, the client is cut."""
        transport = self.flushed()
        if transport is not None and transport.get_write_buffer_size() > self.listener.limits.stream_buffer_bytes:
            self.cut_slow()
        else:
            self.write(data)

    def broke(self, error: Exception) -> None:
        """The transport did not take what was written."""
        self.listener.bug(error)
        self.abort()

    def body_taken(self) -> None:
        self._go_on()

    def replace(self, answer: Active, exchange: Exchange) -> None:
        """`answer` has an exchange now."""
        if self._active is answer:
            self._active = exchange

    def answered(self, exchange: Active) -> None:
        """`exchange` is wholly written: next, or close."""
        if exchange is not self._active:
            return
        self._active = None
        if not exchange.keep_alive:
            self._close_after(exchange.exchange())
        elif self._waiting.exchanges or not self._reading:
            self._go_on()
        elif self.open and not self._running:
            self._settle()

    # What the listener uses

    def left(self) -> None:
        """The sweep's call: the client closed its side while reading was paused."""
        if (transport := self.flushed()) is not None:
            self.eof_received()
            transport.close()

    def unsent_bytes(self) -> int:
        transport = self.flushed()
        return 0 if transport is None else transport.get_write_buffer_size()

    def cut_slow(self) -> None:
        self.listener.metrics.error("slow_client")
        self.abort()

    def go_on(self) -> None:
        """`Turns`' call: what had to wait for this turn goes on."""
        self._turn_due = False
        self._go_on()

    def overdue(self, now: float) -> None:
        """The sweep's call: a deadline has passed, or the client reads too slowly."""
        transport = self.flushed()
        if transport is None or self._turn_due:
            return
        if self.stalled:
            taken = self.written - transport.get_write_buffer_size()
            if self._stall is not None and self._stall.over(taken, now, self.listener.limits.write_timeout_s):
                self.cut_slow()
            return
        if now < self.deadline:
            return  # it was late as the sweep began
        self.deadline = inf
        reader = self._reader
        if reader is not None and (reader.phase == HEAD or reader.phase == BODY):
            part = "head" if reader.phase == HEAD else "body"
            reader.refuse(RequestTimeout(f"the request's {part} took too long"))
            self._go_on()
        elif transport.get_write_buffer_size():
            self.abort()
        else:
            transport.close()

    def drain(self) -> None:
        """Close if nothing is under way; else the running answer closes."""
        reader = self._reader
        idle = reader is None or reader.phase == IDLE
        transport = self.flushed()
        if idle and self._active is None and self._reading and transport is not None:
            transport.close()

    def cut(self, error: RouterError) -> None:
        """End the running answer with `error`, then close."""
        self._waiting.clear()
        active = None if self._active is None else self._active.exchange()
        if active is not None and active.stream is not None:
            active.keep_alive = False
            active.stream.cut(error)
        elif (transport := self.flushed()) is not None:
            transport.close()

    def abort(self) -> None:
        transport = self.flushed()
        if transport is not None:
            try:
                self.connection_lost(None)
            finally:  # whatever that raises, the socket is closed
                transport.abort()

    # Within

    def _go_on(self) -> None:
        """Parse and answer what was read, as far as the answer under way, the client and this turn's time allow."""
        if self._running or self._turn_due or not self.open:
            return
        reader, waiting, turns = self._reader, self._waiting, self.listener.turns
        exchanges = waiting.exchanges
        if self._active is None and not exchanges:
            waiting.parsed_bytes = 0  # the bound on them starts anew
        self._running = True
        begun = now = perf_counter()
        until, worked = begun + turns.share(), False
        try:
            while not self.stalled:
                may_run = self._active is None and len(exchanges) > 0
                if not may_run and (
                    reader is None
                    or not reader.unread.size
                    or (self._active is not None and waiting.full)
                    or reader.held
                ):
                    break
                if now >= until:
                    self._turn_due = True
                    turns.later(self, first=not worked)
                    break
                worked = True
                if not may_run and reader is not None:
                    size = reader.step()
                    if self._active is None:
                        may_run = len(exchanges) > 0  # what was parsed is answered at once
                    else:
                        waiting.parsed_bytes += size
                if may_run:
                    exchange = self._active = waiting.next()
                    self._count_left(self._left)
                    exchange.run()
                now = perf_counter()
        except Exception as error:  # whoever called us has others to serve
            self.broke(error)
            now = perf_counter()
        finally:
            self._running = False
            turns.spent_s += now - begun
        behind = exchanges or waiting.parsed_bytes or self._unread_bytes or self._turn_due or self.stalled
        if behind or self._active is None or not self._reading:  # else one request alone is under way
            self._pace()

    def _count_left(self, cause: int) -> None:
        self._left = PIPELINED
        if self.listener.steps is not None:
            self.listener.steps.count(cause)

    def _pace(self) -> None:
        """Read more once all is parsed, and while the client reads its answers. With nothing to do, wait for it."""
        if not self.open:
            return
        reader = self._reader
        unread = 0 if reader is None else reader.unread.size
        if unread or self._unread_bytes:
            self._count_unread(unread)
            if reader is not None and unread and self.listener.body_bytes > self.listener.limits.pending_bytes:
                reader.refuse(Overloaded("the requests that are being read fill their share of memory"))
                unread = 0
                self._count_unread(0)
                self._go_on()
        held = reader is not None and reader.held
        if (unread > 0 or self._turn_due or self._waiting.full or self.stalled or held) is self._reading:
            self._read_on(not self._reading)
        if self._active is None and not self._turn_due and not self.stalled:
            self._settle()

    def _count_unread(self, size: int) -> None:
        """In the bound on all bodies: the reader holds what was read and not parsed."""
        self.listener.body_bytes += size - self._unread_bytes
        self._unread_bytes = size

    def _let_go(self) -> None:
        """Of all that is read, waits or is under way."""
        reader, self._reader = self._reader, None  # it holds us: the two would wait for the cycle collector
        if reader is not None:
            reader.close()
        self.deadline = inf
        self.listener.held.discard(self)
        if self._unread_bytes:
            self._count_unread(0)
        if self._waiting.exchanges:
            self._waiting.clear()
        active, self._active = self._active, None
        if active is not None:
            active.gone()

    def _flush_within(self, seconds: float) -> None:
        """What is out has to be read by then."""
        self.deadline = self.listener.now + self.listener.tick_s + seconds

    def _settle(self) -> None:
        """All answers are out: wait for the next request, or for the rest of one."""
        reader, listener = self._reader, self.listener
        if reader is None or reader.phase == IDLE:
            self.deadline = listener.now + listener.tick_s + listener.limits.keepalive_s
            if listener.draining and not listener.patient:
                self.drain()
        elif reader.phase != DEAF:
            self._await_rest(reader)

    def _await_rest(self, reader: Reader) -> None:
        """Start the clock of a request's head or body, once, and tell a client that asks to go ahead."""
        if self._timed == reader.phase and not reader.passes_on:
            return
        self._timed = reader.phase
        limits = self.listener.limits
        allowed_s = limits.header_timeout_s if reader.phase == HEAD else limits.body_timeout_s
        self.deadline = self.listener.now + self.listener.tick_s + allowed_s
        if reader.phase == BODY and reader.continue_due:
            reader.continue_due = False
            self.write(wire.CONTINUE)

    def _read_on(self, reading: bool) -> None:
        if (transport := self.flushed()) is None or transport.is_closing():
            return
        self._reading = reading
        if reading:
            self.listener.held.discard(self)
            transport.resume_reading()
        else:
            self.listener.held.add(self)
            transport.pause_reading()

    def _close_after(self, exchange: Exchange) -> None:
        transport = self.flushed()
        self._waiting.clear()
        if self._reader is not None:
            self._reader.close()
        self._count_unread(0)
        if transport is None:
            return
        if exchange.error is None:
            self._flush_within(self.listener.limits.write_timeout_s)
            transport.close()
            return
        # The client may still be sending: end our side, and discard its bytes until it has seen the answer.
        self._flush_within(LINGER_S)
        if not self._reading:
            self._read_on(True)
        if transport.can_write_eof():
            transport.write_eof()
