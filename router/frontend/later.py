"""An answer that somebody else makes: a coroutine of the pipeline, a thread, an engine."""

import asyncio
from collections.abc import Callable

from router.errors import RouterError
from router.frontend import wire
from router.frontend.exchange import Exchange


class Later:
    """The `Stream` of an exchange until `answer`, has come. What was asked for goes on without its client."""

    def __init__(
        self,
        exchange: Exchange,
        answer: "asyncio.Future[bytes]",
        type_of: Callable[[bytes], str] = lambda answer: wire.JSON,
    ) -> None:
        """`type_of`: the content type of an answer."""
        self._type_of = type_of
        self._exchange: Exchange | None = exchange
        exchange.stream = self
        answer.add_done_callback(self._answered)

    def gone(self) -> None:
        self._exchange = None

    def cut(self, error: RouterError) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.refuse(error)

    def _answered(self, answer: "asyncio.Future[bytes]") -> None:
        error = None if answer.cancelled() else answer.exception()
        exchange, self._exchange = self._exchange, None
        if exchange is None or answer.cancelled():
            return
        if isinstance(error, Exception):
            exchange.answer_error(error)
        else:
            exchange.respond(200, answer.result(), self._type_of(answer.result()))
