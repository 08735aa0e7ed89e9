"""What the ledger tells at a tick: records are made for whoever reads them, and for nobody else."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from router.config import Journal as Settings
from router.observe.journal import Journal
from router.observe.record import SCHEMA_VERSION, Record
from router.observe.tick import Answered, Tick, Told
from tests.observe.scripted_ledger import ScriptedLedger

encode = msgspec.json.Encoder().encode_lines
decode = msgspec.json.Decoder(Record).decode_lines


def record(id: str, **fields: Any) -> Record:
    known: dict[str, Any] = {"request_id": "r", "time_s": 1.0, "kind": "chat", "asked": "auto", "end": "finish"}
    return Record(**{"version": SCHEMA_VERSION, "id": id, "status": 200, **known, **fields})


class Ends:
    """Native ones: how often their records were made is counted."""

    def __init__(self, *records: Record) -> None:
        self._records = records
        self.made = 0

    def __len__(self) -> int:
        return len(self._records)

    def records(self) -> list[Record]:
        self.made += 1
        return list(self._records)

    def lines(self) -> bytes:
        return encode(self._records)

    def answered(self) -> Iterator[Answered]:
        return ((each.id, each.model, each.key_id) for each in self._records)

    def told(self, *, costs: bool) -> Iterator[Told]:
        return iter(())


class Source:
    def __init__(self, told: Tick) -> None:
        self._told = told

    def take(self, *, wanted: bool) -> Tick:
        return self._told


def test_records_come_in_the_order_of_their_ends_and_are_made_once() -> None:
    ends = Ends(record("third", total_s=3.0), record("first", total_s=1.0))
    told = Tick([record("second", total_s=2.0)], [ends])
    assert len(told) == 3
    assert ends.made == 0
    assert [each.id for each in told] == ["first", "second", "third"]
    assert (told[0].id, [each.id for each in told[1:]]) == ("first", ["second", "third"])
    assert ends.made == 1


def test_lines_and_answers_are_told_of_all_without_making_a_record() -> None:
    ends = Ends(record("native", model="m", key_id="k"))
    told = Tick([record("made", model="n"), record("unanswered")]).joined(Tick([], [ends]))
    assert [each.id for each in decode(told.lines(encode))] == ["made", "unanswered", "native"]
    assert list(told.answered()) == [("made", "n", ""), ("native", "m", "k")]
    assert ends.made == 0


def test_nothing_ended_is_no_line() -> None:
    assert not Tick([])
    assert Tick([]).lines(encode) == b""


async def test_a_journal_writes_native_ends_without_their_records(tmp_path: Any) -> None:
    ledger, ends = ScriptedLedger(), Ends(record("d1"), record("d2"))
    journal = Journal(Settings(path=str(tmp_path / "journal")), ledger)
    ledger.gather(Source(Tick([], [ends])))
    ledger.tell()
    await journal.close()
    (segment,) = (tmp_path / "journal").glob("*.jsonl")
    assert [each.id for each in decode(segment.read_bytes())] == ["d1", "d2"]
    assert ends.made == 0


async def test_a_source_that_raises_keeps_no_record_of_others_from_being_told() -> None:
    class Broken:
        def take(self, *, wanted: bool) -> Tick:
            raise ValueError("a scripted bug")

    ledger, told = ScriptedLedger(), list[Record]()

    def keep(records: Sequence[Record]) -> None:
        told.extend(records)

    ledger.subscribe(keep)
    ledger.gather(Broken())
    ledger.gather(Source(Tick([], [Ends(record("d1"))])))
    ledger.ended(record("d2"))
    ledger.tell()
    assert sorted(each.id for each in told) == ["d1", "d2"]
