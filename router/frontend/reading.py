"""A large body that is read in a thread: for some hundred milliseconds, in which the other streams go on."""

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from router.dialects.decode import read
from router.errors import DeadlineExceeded, RouterError
from router.frontend.exchange import Exchange
from router.gate.permit import Permit
from router.pipeline.threads import Threads
from router.types import Kind, Query

#: Called with what `read` returns, and the permit. What it raises becomes the answer.
Then: TypeAlias = Callable[[Exchange, Query, bytes, Permit], None]


class Reading:
    """The `Stream` of an exchange until its answer is under way. It holds the permit, or waits for its turn."""

    def __init__(self, exchange: Exchange, kind: Kind | Callable[[bytes], Kind], permit: Permit, then: Then) -> None:
        """`kind`: or what tells it, called in the thread."""
        self._exchange = exchange
        self._kind = kind
        self._permit = permit
        self._then = then
        self._body = exchange.body
        self._over = False  #: its exchange needs it no more
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, threads: Threads, time_left: tuple[float, DeadlineExceeded] | None) -> None:
        """`time_left`: seconds, and the answer where it is not read by then. Past already, the body is read first."""
        future = threads.run(Reading._read, self)
        if self._permit.waiting:
            self._permit.wait(lambda: None, self.cut)  # where its turn comes first, the request begins once it is read
        self._exchange.stream = self
        self._exchange.body = b""
        if time_left is not None and time_left[0] > 0:
            self._timer = asyncio.get_running_loop().call_later(time_left[0], self.cut, time_left[1])
        future.add_done_callback(self._go_on)

    # Stream

    def gone(self) -> None:
        if self._over:
            return
        self._end()
        self._permit.settle()
        self._exchange.count_gone()

    def cut(self, error: RouterError) -> None:
        if not self._over:
            self._end()
            self._permit.settle()
            self._exchange.refuse(error)

    # Within

    def _read(self) -> tuple[Query, bytes] | None:
        """In the thread. None where nobody waits for it any more."""
        body, exchange = self._body, self._exchange
        if self._over:
            return None
        kind = self._kind if isinstance(self._kind, str) else self._kind(body)
        return read(kind, body, exchange.request_id, exchange.key_id, exchange.received_s)

    def _go_on(self, future: "asyncio.Future[tuple[Query, bytes] | None]") -> None:
        exchange, error = self._exchange, future.exception()
        if self._over:
            return
        self._end()
        try:
            if isinstance(error, Exception):
                # Not raised once more: it, and the body with its frames, would wait for the cycle collector.
                self._permit.settle()
                exchange.answer_error(error)
            else:
                exchange.answer_by(lambda _: self._submit(future))
        except Exception as bug:  # whatever it is, the connection ends with it
            exchange.connection.broke(bug)

    def _submit(self, future: "asyncio.Future[tuple[Query, bytes] | None]") -> None:
        try:
            found = future.result()
            assert found is not None
            self._then(self._exchange, *found, self._permit)
        except BaseException:
            self._permit.settle()
            raise

    def _end(self) -> None:
        self._over = True
        self._body = b""
        self._exchange.stream = None
        if self._timer is not None:
            self._timer.cancel()
