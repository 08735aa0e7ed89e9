"""A ledger whose ends a test makes: its own source."""

from router.observe.ledger import Ledger
from router.observe.record import Record
from router.observe.tick import Tick


class ScriptedLedger(Ledger):
    def __init__(self) -> None:
        super().__init__()
        self._made: list[Record] = []
        self.gather(self)

    def ended(self, record: Record) -> None:
        self._made.append(record)
        self.wake()

    def take(self, *, wanted: bool) -> Tick:
        told, self._made = Tick(self._made), []
        return told
