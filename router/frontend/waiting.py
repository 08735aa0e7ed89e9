"""Requests of one connection that wait for the answer before theirs: in order, within bounds, counted by the
listener."""

from router.frontend.exchange import Exchange
from router.frontend.listener import Listener

#: Of requests that wait, and of their bytes; beyond, we stop parsing and reading.
MAX_WAITING = 8
MAX_WAITING_BYTES = 64 * 1024


class Waiting:
    """The queue behind the exchange under way."""

    __slots__ = ("_listener", "exchanges", "parsed_bytes")

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        #: Added to as they are read; the listener counts their bodies already: the reader has counted them as they
        #: came.
        self.exchanges: list[Exchange] = []
        self.parsed_bytes = 0  #: parsed behind the exchange under way, of requests that are not whole too

    @property
    def full(self) -> bool:
        return len(self.exchanges) >= MAX_WAITING or self.parsed_bytes >= MAX_WAITING_BYTES

    def next(self) -> Exchange:
        """The first one, no longer counted: what the pipeline holds, it bounds itself."""
        exchange = self.exchanges.pop(0)
        if not self.exchanges:
            self.parsed_bytes = 0
        self._listener.body_bytes -= len(exchange.body)
        return exchange

    def clear(self) -> None:
        """None of them will be run."""
        for exchange in self.exchanges:
            self._listener.body_bytes -= len(exchange.body)
            if exchange.incoming is not None:
                exchange.incoming.abandon()
        self.exchanges.clear()
        self.parsed_bytes = 0
