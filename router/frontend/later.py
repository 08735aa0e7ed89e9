"""An answer that somebody else makes: a coroutine of the pipeline, a thread, an engine."""

import asyncio
from collections.abc import Callable

from router.errors import RouterError
from router.frontend import wire
from router.frontend.exchange import Exchange


class Waiting:
    """The `Stream` of an exchange whose answer has not begun: its client may leave, or a drain may cut it."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange: Exchange | None = exchange
        exchange.stream = self

    def gone(self) -> None:
        self._exchange = None

    def cut(self, error: RouterError) -> None:
        if (exchange := self._taken()) is not None:
            exchange.refuse(error)

    def _taken(self) -> Exchange | None:
        """The exchange, once: whoever has it answers it."""
        exchange, self._exchange = self._exchange, None
        return exchange


class Later(Waiting):
    """The `Stream` of an exchange until `answer` has come. What was asked for goes on without its client."""

    def __init__(
        self,
        exchange: Exchange,
        answer: "asyncio.Future[bytes]",
        type_of: Callable[[bytes], str] = lambda answer: wire.JSON,
    ) -> None:
        """`type_of`: the content type of an answer."""
        super().__init__(exchange)
        self._type_of = type_of
        answer.add_done_callback(self._answered)

    def _answered(self, answer: "asyncio.Future[bytes]") -> None:
        error = None if answer.cancelled() else answer.exception()
        exchange = self._taken()
        if exchange is None or answer.cancelled():
            return
        if isinstance(error, Exception):
            exchange.answer_error(error)
        else:
            exchange.respond(200, answer.result(), self._type_of(answer.result()))
