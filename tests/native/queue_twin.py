"""The order of `native.waiting.FairQueue` in plain Python: everything is looked for among all that waits."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Row:
    item: Any
    key: str
    priority: int
    order: tuple[float, float, int]  #: deadline, since, number


@dataclass
class Level:
    served: int = 0  #: the round of who was served last
    rounds: dict[str, int] = field(default_factory=dict)  #: in which a key's next one is due
    reached: dict[str, int] = field(default_factory=dict)  #: when a key's count last grew


class Twin:
    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.levels: dict[int, Level] = {}
        self.number = 0

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, item: Any, key: str, priority: int = 0, deadline_s: float = float("inf"), since_s: float = 0) -> None:
        self.number += 1
        level = self.levels.setdefault(priority, Level())
        if not self._of(priority, key):
            level.rounds[key] = max(level.rounds.get(key, 0), level.served)
        level.reached[key] = self.number
        self.rows.append(Row(item, key, priority, (deadline_s, since_s, self.number)))

    def _of(self, priority: int, key: str) -> list[Row]:
        return [row for row in self.rows if row.priority == priority and row.key == key]

    def first(self) -> Row:
        priority = min(row.priority for row in self.rows)
        level = self.levels[priority]
        heads = [
            min(self._of(priority, key), key=lambda row: row.order)
            for key in {row.key for row in self.rows if row.priority == priority}
        ]
        return min(heads, key=lambda row: (level.rounds[row.key], row.order))

    def next(self) -> Any:
        row = self.first()
        level = self.levels[row.priority]
        level.served = level.rounds[row.key]
        level.rounds[row.key] += 1
        self._take(row)
        return row.item

    def lasts(self) -> list[Any]:
        """The last one of each key that has most waiting: of several keys the queue may give any."""
        priority = max(row.priority for row in self.rows)
        counts = {row.key: len(self._of(priority, row.key)) for row in self.rows if row.priority == priority}
        most = [key for key, count in counts.items() if count == max(counts.values())]
        return [max(self._of(priority, key), key=lambda row: row.order).item for key in most]

    def remove(self, item: Any) -> None:
        self._take(next(row for row in self.rows if row.item is item))

    def _take(self, row: Row) -> None:
        self.rows.remove(row)
        if not any(other.priority == row.priority for other in self.rows):
            del self.levels[row.priority]  # nobody waits there: nothing is remembered
