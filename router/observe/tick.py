"""What the ledger tells at one tick: the records of the requests that ended, made only for whoever reads them.

Native code can write the journal's line of an answer, and name it, without its record, which takes twenty times longer.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, overload

from router.observe.record import Record
from router.types import Numbers

#: A request of whose answer something had come: the decision's id, the model that answered, the key's id.
Answered = tuple[str, str, str]


class Told(NamedTuple):
    """An answer that is complete, as prices go by it."""

    model: str  #: that answered
    ttft_s: float | None
    tpot_s: float | None
    tokens: int  #: of prompt and answer
    cost_usd: float | None  #: None: not known, or not asked for
    expected_usd: float | None  #: as it was decided; None: likewise
    numbers: Numbers | None  #: of the decision; None: none are kept


class Ends(Protocol):
    """Requests that ended, known to native code."""

    def __len__(self) -> int: ...

    def records(self) -> list[Record]: ...

    def lines(self) -> bytes:
        """Of all their records, as JSON."""

    def answered(self) -> Iterable[Answered]: ...

    def told(self, *, costs: bool) -> Iterable[Told]: ...


class Tick(Sequence[Record]):
    """The records of one tick, in the order in which the requests ended."""

    def __init__(self, records: Sequence[Record], ends: Sequence[Ends] = ()) -> None:
        """`ends`: those whose records nobody has made."""
        self._made = records
        self._ends = ends
        self._all: list[Record] | None = None

    def __len__(self) -> int:
        return len(self._made) + sum(len(each) for each in self._ends)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records())

    @overload
    def __getitem__(self, at: int) -> Record: ...
    @overload
    def __getitem__(self, at: slice) -> list[Record]: ...
    def __getitem__(self, at: int | slice) -> Record | list[Record]:
        return self._records()[at]

    def joined(self, other: "Tick") -> "Tick":
        return Tick([*self._made, *other._made], [*self._ends, *other._ends])

    def lines(self, encode: Callable[[Sequence[Record]], bytes]) -> bytes:
        """Of all, in any order. `encode` writes those of records that are there, and raises what it likes."""
        return b"".join([encode(self._made) if self._made else b"", *(each.lines() for each in self._ends)])

    def answered(self) -> Iterator[Answered]:
        """Of all, in any order."""
        for record in self._made:
            if record.id and record.model:
                yield record.id, record.model, record.key_id
        for each in self._ends:
            yield from each.answered()

    def told(self, told_of: Callable[[Record], Told], *, costs: bool) -> Iterator[Told]:
        """Of all that are complete, in any order. `told_of` reads records that are there; of others `costs` asks what
        one of them cost."""
        for record in self._made:
            if record.end == "finish" and record.decision is not None:
                yield told_of(record)
        for each in self._ends:
            yield from each.told(costs=costs)

    def _records(self) -> list[Record]:
        if self._all is None:
            made = [*self._made, *(record for each in self._ends for record in each.records())]
            self._all = sorted(made, key=_ended_s)
        return self._all


def _ended_s(record: Record) -> float:
    return record.time_s + record.total_s
