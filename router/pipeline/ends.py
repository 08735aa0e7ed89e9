"""Answers that native code has seen to their end, as the ledger tells them: lines natively, records where asked for."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec

from router.native.policy import numbers_of
from router.native.record_line import RecordLines
from router.observe.record import SCHEMA_VERSION, Record, tpot_s
from router.observe.tick import Answered, Told
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

    def told(self, *, costs: bool) -> Iterator[Told]:
        """`costs`: of one of them, the last, with what it cost: a record takes twenty times as long."""
        last = self._finished[-1] if self._finished and costs else None
        for each in self._finished:
            if each.numbers is None:
                continue
            if each is last and (record := self._record_of(each)) is not None and record.decision is not None:
                yield told_of(record)
                continue
            first_token_s, total_s = each.timings
            prompt, completion, _ = each.usage
            yield Told(
                each.numbers.models[each.member],
                each.first_s if each.stream else first_token_s or None,
                tpot_s(completion, first_token_s, total_s),
                prompt + completion,
                None,
                None,
                each.numbers,
            )

    def _records(self, requests: Sequence[Request]) -> list[Record]:
        return [record for each in requests if (record := self._record_of(each)) is not None]

    def answered(self) -> list[Answered]:
        return [
            (each.decision_id, each.numbers.models[each.member], each.key_id)
            for each in self._finished
            if each.numbers is not None
        ]


def told_of(record: Record) -> Told:
    """What its record says, the decision's own numbers included."""
    decision, expected_usd, numbers = record.decision, None, None
    assert decision is not None
    if (kept := decision.numbers) is not None:
        numbers = numbers_of(kept)
        if decision.model == record.model and numbers.member >= 0:
            gpu_s, usd_per_s = numbers.column("gpu_s")[numbers.member], kept.members.get("usd_per_s", ())
            expected_usd = _product(gpu_s, usd_per_s[numbers.member]) if usd_per_s else None
    tokens = record.prompt_tokens + record.completion_tokens
    return Told(record.model, record.ttft_s, record.tpot_s, tokens, record.cost_usd, expected_usd, numbers)


def _product(one: object, other: object) -> float | None:
    """None where one of them is no number."""
    return one * other if isinstance(one, float) and isinstance(other, int | float) else None
