"""What the ledger's record says of a request: every end, every leg, and the numbers to decide again by."""

from typing import Any

import msgspec
import pytest

from router.errors import EngineFailed, Overloaded
from router.ipc.messages import Done
from router.native.policy import numbers_of
from router.observe.record import Record
from router.pipeline.record import record_of
from router.policy import decide_again
from router.pool.base import Failure
from router.types import Timings, Usage

DONE = Done(id=1, usage=Usage(10, 5, 4), finish_reason="length", timings=Timings(first_token_s=0.1, total_s=0.5))


def told(two: Any) -> list[Record]:
    records: list[Record] = []
    two.router.ledger.subscribe(records.extend)
    return records


def again(record: Record) -> str:
    """The model that the policy chooses by what was recorded."""
    found = record.decision
    assert found is not None
    assert found.numbers is not None
    return decide_again(numbers_of(found.numbers)).model


async def test_a_finished_answer(two: Any) -> None:
    kit = two()
    records = told(kit)
    kit.submit(max_tokens=50, session_id="s", key_id="k", request_id="r", stream=True)
    call = kit.large.calls[0]
    call.receiver.chunk(b"data: x\n\n")
    call.receiver.done(DONE)
    kit.router.ledger.tell()
    (record,) = records
    assert (record.end, record.status, record.error, record.finish_reason) == ("finish", 200, "", "length")
    assert (record.request_id, record.session_id, record.key_id, record.asked) == ("r", "s", "k", "auto")
    assert (record.model, record.prompt_tokens, record.completion_tokens, record.cached_tokens) == ("large", 10, 5, 4)
    assert record.tpot_s == pytest.approx(0.1)
    assert record.ttft_s is not None
    assert 0 < record.ttft_s <= record.total_s
    assert (record.engine_s, record.cost_usd) == (None, None)  # the member's rates are not known yet
    assert record.turns is None
    (leg,) = record.legs
    assert (leg.model, leg.end, leg.retried, leg.decision) == ("large", "finish", False, None)
    decision = record.decision
    assert decision is not None
    assert (decision.model, decision.reason) == ("large", "utility")
    numbers = decision.numbers
    assert numbers is not None
    assert (numbers.models, numbers.scores["quality"]) == (("small", "large"), (0.4, 0.8))
    assert [numbers.question[name] for name in ("prompt_tokens", "max_tokens", "needs")] == [10, 50, "chat"]
    assert again(record) == "large"
    assert msgspec.json.decode(msgspec.json.encode(record), type=Record) == record


async def test_a_retry_is_two_legs_and_one_record(two: Any) -> None:
    kit = two()
    records = told(kit)
    kit.submit()
    kit.large.calls[0].receiver.fail(Failure(EngineFailed("lost"), retryable=True, lost=True))
    call = kit.small.calls[0]
    call.receiver.chunk(b"{}")
    call.receiver.done(DONE)
    kit.router.ledger.tell()
    (record,) = records
    first, second = record.legs
    assert (first.model, first.end, first.error, first.lost, first.retried) == (
        "large", "error", EngineFailed.type, True, True,
    )  # fmt: skip
    assert (second.model, second.end, second.error) == ("small", "finish", "")
    assert second.decision is not None
    assert (second.decision.reason, second.decision.numbers and second.decision.numbers.excluded) == ("retry", (1,))
    assert (record.model, record.decision and record.decision.model) == ("small", "large")
    assert 0 <= first.begun_s <= first.ended_s <= second.begun_s <= second.ended_s <= record.total_s


async def test_an_error_a_cancel_and_a_receivers_own_error_end_as_such(two: Any) -> None:
    for act, expected in (
        (lambda kit, ticket: kit.large.calls[0].receiver.fail(Failure(EngineFailed("x"))), ("error", 502)),
        (lambda kit, ticket: ticket.cancel(), ("cancel", 499)),
        (lambda kit, ticket: ticket.cancel(Overloaded("slow")), ("error", 429)),
    ):
        kit = two()
        records = told(kit)
        act(kit, kit.submit())
        kit.router.ledger.tell()
        (record,) = records
        assert (record.end, record.status) == expected
        assert record.error
        assert (record.model, record.streamed, record.engine_s, record.cost_usd) == ("", False, None, None)
        assert record.legs[0].end == record.end


async def test_a_refused_request_is_in_no_record(two: Any) -> None:
    kit = two()
    records = told(kit)
    kit.small.phase = kit.large.phase = "restarting"
    with pytest.raises(Exception, match="no model of the pool"):
        kit.submit()
    kit.router.ledger.tell()
    assert records == []


@pytest.mark.parametrize("usd_per_s", [0.0, 0.001])
async def test_engine_seconds_are_the_answers_tokens_at_the_members_rates(two: Any, usd_per_s: float) -> None:
    kit = two()
    records = told(kit)
    kit.large.fields |= {"usd_per_s": usd_per_s, "prefill_tokens_per_s": 1000.0, "time_per_output_token_s": 0.03}
    kit.submit()
    call = kit.large.calls[0]
    call.receiver.chunk(b"{}")
    call.receiver.done(DONE)
    kit.router.ledger.tell()
    assert records[0].engine_s == pytest.approx(6 / 1000 + 5 * 0.03)
    assert records[0].cost_usd == (pytest.approx(records[0].engine_s * usd_per_s) if usd_per_s else None)


async def test_a_request_whose_end_cannot_be_read_does_not_take_the_others_of_its_tick_along(
    two: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kit = two()
    records = told(kit)

    def record_or_raise(request: Any, *, wanted: bool) -> Record:
        if request.query.request_id == "1":
            raise ValueError("a scripted bug")
        return record_of(request, wanted=wanted)

    monkeypatch.setattr("router.pipeline.record.record_of", record_or_raise)
    for number in range(3):
        kit.sink = type(kit.sink)()
        kit.submit(request_id=str(number))
        kit.large.calls[-1].receiver.chunk(b"{}")
        kit.large.calls[-1].receiver.done(DONE)
    kit.router.ledger.tell()
    assert [record.request_id for record in records] == ["0", "2"]
    assert "the end of a request could not be read: it is in no record" in caplog.text
