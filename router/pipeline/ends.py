"""Answers that native code has seen to their end, as the ledger tells them: lines natively, records where asked for."""

import logging
import time
from collections.abc import Callable, Sequence

import msgspec

from router.native.record_line import RecordLines
from router.observe.record import SCHEMA_VERSION, Record
from router.observe.tick import Answered
from router.pipeline.request import Request

log = logging.getLogger("headgate.ledger")

_writer = RecordLines(SCHEMA_VERSION)
_encode = msgspec.json.Encoder().encode_lines


class FinishedEnds:
    """Of one tick (`observe.tick.Ends`). Read before the loop's next turn, from its thread."""

    def __init__(self, finished: Sequence[Request], record_of: Callable[[Request], Record | None]) -> None:
        """`finished`: complete answers, of whose body nothing is kept. `record_of`: None where it has none."""
        self._finished = finished
        self._record_of = record_of

    def __len__(self) -> int:
        return len(self._finished)

    def records(self) -> list[Record]:
        return self._records(self._finished)

    def lines(self) -> bytes:
        epoch_s = time.time() - time.perf_counter()
        slow: list[Request] = []
        put = _writer.put
        for each in self._finished:
            try:
                put(each, epoch_s)
            except Exception:
                log.exception("the line of request %s could not be written natively", each.told_id)
                slow.append(each)
        return _writer.take() + _encode(self._records(slow)) if slow else _writer.take()

    def _records(self, requests: Sequence[Request]) -> list[Record]:
        return [record for each in requests if (record := self._record_of(each)) is not None]

    def answered(self) -> list[Answered]:
        return [
            (each.decision_id, each.numbers.models[each.member], each.key_id)
            for each in self._finished
            if each.numbers is not None
        ]
