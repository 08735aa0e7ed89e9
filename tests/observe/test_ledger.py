"""The ledger: each record is told once, counted once, and one subscriber's fault is no other's."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from router.observe.metrics import Metrics
from router.observe.record import SCHEMA_VERSION, Record
from tests.observe.scripted_ledger import ScriptedLedger


def record(id: str = "d1", **fields: Any) -> Record:
    known: dict[str, Any] = {"request_id": "r", "time_s": 1.0, "kind": "chat", "asked": "auto", "end": "finish"}
    return Record(**{"version": SCHEMA_VERSION, "id": id, "status": 200, **known, **fields})


async def test_records_of_one_tick_are_told_together_in_the_order_of_their_ends() -> None:
    ledger, told = ScriptedLedger(), []
    ledger.subscribe(lambda records: told.append([each.id for each in records]))
    ledger.ended(record("late", total_s=9.0))
    ledger.ended(record("early", total_s=2.0))
    assert told == []
    await asyncio.sleep(0)
    assert told == [["early", "late"]]
    ledger.ended(record("next"))
    await asyncio.sleep(0)
    assert told == [["early", "late"], ["next"]]


async def test_a_subscriber_that_raises_is_logged_and_the_others_are_told(caplog: pytest.LogCaptureFixture) -> None:
    ledger, told = ScriptedLedger(), []

    def broken(records: Sequence[Record]) -> None:
        raise ValueError("a scripted bug")

    ledger.subscribe(broken)
    ledger.subscribe(told.extend)
    for id in ("d1", "d2"):
        ledger.ended(record(id))
        await asyncio.sleep(0)
    assert [each.id for each in told] == ["d1", "d2"]
    assert len(caplog.records) == 2


async def test_after_the_end_of_a_subscription_nothing_more_is_told() -> None:
    ledger, told = ScriptedLedger(), []
    end = ledger.subscribe(told.extend)
    assert ledger.wanted
    end()
    ledger.ended(record())
    await asyncio.sleep(0)
    assert (told, ledger.wanted) == ([], False)


def test_without_a_running_loop_a_record_is_told_at_once() -> None:
    ledger, told = ScriptedLedger(), []
    ledger.subscribe(told.extend)
    ledger.ended(record())
    assert len(told) == 1


async def test_what_is_held_is_called_once_the_keeper_says_so_and_without_one_at_the_tick() -> None:
    ledger, done, kept = ScriptedLedger(), [], []
    ledger.hold(lambda: done.append("without"))
    await asyncio.sleep(0)
    assert done == ["without"]
    ledger.keeper = kept.extend
    ledger.hold(lambda: done.append("kept"))
    await asyncio.sleep(0)
    assert done == ["without"]
    kept[0]()
    assert done == ["without", "kept"]


SHAPES: tuple[tuple[Record, Sequence[str]], ...] = (
    (
        record(model="m", stream=True, ttft_s=0.2, tpot_s=0.01, prompt_tokens=5, completion_tokens=3, total_s=0.5),
        (
            'headgate_requests_total{model="m",route="/v1/chat/completions",status="200"} 1.0',
            'headgate_tokens_total{model="m",type="completion"} 3.0',
            'headgate_time_to_first_token_seconds_sum{model="m"} 0.2',
            'headgate_time_per_output_token_seconds_sum{model="m"} 0.01',
            'headgate_request_seconds_sum{route="/v1/chat/completions"} 0.5',
        ),
    ),
    (
        record(end="error", status=502, error="engine_error", kind="messages"),
        (
            'headgate_requests_total{model="",route="/v1/messages",status="502"} 1.0',
            'headgate_errors_total{type="engine_error"} 1.0',
        ),
    ),
)


@pytest.mark.parametrize(("ended", "lines"), SHAPES, ids=["finish", "error"])
def test_the_metrics_count_what_the_record_says(ended: Record, lines: Sequence[str]) -> None:
    metrics = Metrics(process=False)
    metrics.ended(ended)
    page = metrics.render().decode()
    assert [line for line in lines if line not in page] == []


def test_of_a_source_that_raises_the_other_records_are_told(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def take(self, *, wanted: bool) -> list[Record]:
            raise ValueError("a scripted bug")

    ledger, told = ScriptedLedger(), []
    ledger.gather(Broken())
    ledger.subscribe(told.extend)
    ledger.ended(record())
    assert len(told) == 1
    assert "are in no record" in caplog.text
