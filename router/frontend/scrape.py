"""An answer to `/metrics`: at once, or when the engines have given theirs."""

import asyncio

from router.errors import RouterError
from router.frontend.exchange import Exchange
from router.observe.metrics import CONTENT_TYPE, Metrics


def show_metrics(exchange: Exchange, metrics: Metrics) -> None:
    page = metrics.whole_page()
    if isinstance(page, bytes):
        exchange.respond(200, page, CONTENT_TYPE)
    else:
        Scrape(exchange).begin(page)


class Scrape:
    """The `Stream` of an exchange until the page is made, which others may wait for too."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._over = False

    def begin(self, page: "asyncio.Task[bytes]") -> None:
        self._exchange.stream = self
        page.add_done_callback(self._made)

    # Stream

    def gone(self) -> None:
        if not self._over:
            self._end()
            self._exchange.count_gone()

    def cut(self, error: RouterError) -> None:
        if not self._over:
            self._end()
            self._exchange.refuse(error)

    # Within

    def _made(self, page: "asyncio.Task[bytes]") -> None:
        if self._over:
            return
        self._end()
        try:
            self._exchange.answer_by(lambda exchange: exchange.respond(200, page.result(), CONTENT_TYPE))
        except Exception as bug:
            self._exchange.connection.broke(bug)

    def _end(self) -> None:
        self._over = True
        self._exchange.stream = None
