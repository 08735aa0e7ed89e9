"""An answer to `/metrics`: at once, or when the engines have given theirs."""

import asyncio

from router.frontend.exchange import Exchange
from router.frontend.later import Waiting
from router.observe.metrics import CONTENT_TYPE, Metrics


def show_metrics(exchange: Exchange, metrics: Metrics) -> None:
    page = metrics.whole_page()
    if isinstance(page, bytes):
        exchange.respond(200, page, CONTENT_TYPE)
    else:
        Scrape(exchange, page)


class Scrape(Waiting):
    """The `Stream` of an exchange until the page is made, which others may wait for too."""

    def __init__(self, exchange: Exchange, page: "asyncio.Task[bytes]") -> None:
        super().__init__(exchange)
        page.add_done_callback(self._made)

    def gone(self) -> None:
        if (exchange := self._taken()) is not None:
            exchange.count_gone()

    # Within

    def _made(self, page: "asyncio.Task[bytes]") -> None:
        exchange = self._taken()
        if exchange is None:
            return
        try:
            exchange.answer_by(lambda exchange: exchange.respond(200, page.result(), CONTENT_TYPE))
        except Exception as bug:
            exchange.connection.broke(bug)
