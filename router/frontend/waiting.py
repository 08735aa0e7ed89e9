"""Requests of one connection that wait for the answer before theirs: in order, within bounds, counted by the door."""

from router.frontend.door import Door
from router.frontend.exchange import Exchange

#: Of requests that wait, and of their bytes; beyond, we stop parsing and reading.
MAX_WAITING = 8
MAX_WAITING_BYTES = 64 * 1024


class Waiting:
    """The queue behind the exchange under way."""

    __slots__ = ("_door", "_exchanges", "parsed_bytes")

    def __init__(self, door: Door) -> None:
        self._door = door
        self._exchanges: list[Exchange] = []
        self.parsed_bytes = 0  #: parsed behind the exchange under way, of requests that are not whole too

    def __len__(self) -> int:
        return len(self._exchanges)

    @property
    def full(self) -> bool:
        return len(self._exchanges) >= MAX_WAITING or self.parsed_bytes >= MAX_WAITING_BYTES

    def add(self, exchange: Exchange) -> None:
        """The door counts its body already: the reader has counted it as it came."""
        self._exchanges.append(exchange)

    def next(self) -> Exchange:
        """The first one, no longer counted: what the pipeline holds, it bounds itself."""
        exchange = self._exchanges.pop(0)
        if not self._exchanges:
            self.parsed_bytes = 0
        self._door.body_bytes -= len(exchange.body)
        return exchange

    def none_under_way(self) -> None:
        """Nothing is answered at present: with none waiting either, the bound on bytes starts anew."""
        if not self._exchanges:
            self.parsed_bytes = 0

    def clear(self) -> None:
        """None of them will be run."""
        for exchange in self._exchanges:
            self._door.body_bytes -= len(exchange.body)
        self._exchanges.clear()
        self.parsed_bytes = 0
