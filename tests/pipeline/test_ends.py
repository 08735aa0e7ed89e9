"""The journal's line that native code writes of an answer says what the record of the same answer says."""

import math
import random
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from router.native.policy import Numbers, Refused, decide
from router.native.record_line import RecordLines
from router.observe.record import SCHEMA_VERSION, Record
from router.pipeline.ends import FinishedEnds
from router.pipeline.record import record_of
from router.policy.settings import Settings
from router.types import MemberState, Query, Scores, Snapshot

NAMES = ("small", 'a "quoted"\\one', "größer\u2028", "tab\tand\x01")
ABLE = frozenset({"chat", "completions", "tools"})


def member(draw: random.Random, name: str) -> MemberState:
    def rate(most: float) -> float:
        return draw.choice([0.0, most, draw.random() * most, 1e-7 * most])

    return MemberState(
        name=name,
        ready=draw.random() < 0.9,
        breaker_open=draw.random() < 0.1,
        context_tokens=draw.choice([0, 32_768]),
        capabilities=draw.choice([frozenset[str](), ABLE, frozenset({"chat"})]),
        waiting=draw.choice([0, 3]),
        prefix_hit=rate(1.0),
        prefill_tokens_per_s=rate(50_000.0),
        time_per_output_token_s=rate(0.02),
        mean_output_tokens=rate(400.0),
        queued_gpu_s=draw.choice([0.0, -0.0, math.inf, draw.random()]),
        usd_per_s=rate(0.0011),
        replicas=draw.choice([0, 12]),
        replica=draw.choice([0, 11]),
        finish_s=rate(9.0),
    )


def numbers_of(draw: random.Random, count: int = 2) -> Numbers | None:
    """Of one decision that chose a member, if it did."""
    query = Query(
        kind="chat",
        model="auto",
        turns=(),
        choices=draw.choice([1, 2]),
        max_tokens=draw.choice([None, 0, 50]),
        needs=draw.choice([frozenset[str](), frozenset({"tools"})]),
        slo_ttft_s=draw.choice([None, 0.5]),
    )
    settings = Settings(
        rule=draw.choice(["utility", "threshold", "pinned"]),
        price=draw.choice([0.0, 100.0, draw.random()]),
        threshold=draw.choice([0.5, draw.random()]),
        strong=count - 1,
        pinned=draw.randrange(count),
        slo_ttft_s=draw.choice([None, 1.0]),
        excluded=frozenset({1}) if draw.random() < 0.2 else frozenset(),
    )
    scores = Scores(tuple(draw.choice([0.0, 1.0, draw.random()]) for _ in range(count)), draw.choice([0, 9_000]))
    snapshot = Snapshot(tuple(member(draw, NAMES[i % len(NAMES)]) for i in range(count)))
    found = decide(query, scores, snapshot, settings)
    return found if found.member >= 0 else None


def answer(numbers: Numbers, draw: random.Random, **fields: Any) -> Any:
    """A request that native code has seen to its end, and what Python says of it."""
    received_s = float(draw.randrange(1_000_000))
    overhead_s = draw.randrange(1000) / 2**20  # sums of it are exact
    known = {
        "numbers": numbers,
        "finished": True,
        "member": numbers.member,
        "decision_id": f"d-{draw.randrange(1000):x}",
        "told_id": draw.choice(["0123456789abcdef", 'of a "client"', ""]),
        "asked": draw.choice([b"", b"auto", 'über "alles"'.encode()]),
        "key_id": draw.choice(["", "12ab34cd"]),
        "session_id": draw.choice(["", "a\\b"]),
        "finish_reason": draw.choice(["", None, "stop", "lengthÄ"]),
        "stream": draw.random() < 0.5,
        "received_s": received_s,
        "overhead_s": overhead_s,
        "first_s": draw.random(),
        "ended_s": received_s + draw.random() * 10,
        "usage": draw.choice([(120, 16, 0), (120, 1, 64), (0, 0, 0), (5, 9, 80)]),
        "timings": draw.choice([(0.01, 0.1), (0.0, 0.0), (0.3, 0.1), (0.0, 2.0)]),
        "phase": "finished",
        "permit": None,
        "error": None,
        "course": None,
        "requests": SimpleNamespace(keeps_bodies=False),
    }
    made = SimpleNamespace(**{**known, **fields})
    leg = {"begun_s": received_s + overhead_s, "ended_s": None, "error": None, "lost": False, "retried": False}
    leg |= {"usage": None, "why": "", "figures": None, "dropped": False}
    decision = numbers.decision(made.decision_id)
    engine = "" if numbers.replica < 0 else f"{decision.model}/{numbers.replica}"
    made.legs = [SimpleNamespace(decision=decision, engine=engine, **leg)]
    made.decision = made.legs[0].decision
    made.query = Query(
        kind="chat",
        model=made.asked.decode() or "auto",
        turns=(),
        stream=made.stream,
        request_id=made.told_id,
        key_id=made.key_id,
        session_id=made.session_id,
    )
    return made


def record(request: Any) -> Record:
    return record_of(request, wanted=True)


def read(lines: bytes) -> list[Record]:
    assert lines.endswith(b"\n") or not lines
    return msgspec.json.Decoder(Record).decode_lines(lines)


def same(line: Record, made: Record) -> None:
    """All but the time of receipt to the last bit: two readings of two clocks are between them."""
    assert line.time_s == pytest.approx(made.time_s, abs=1.0)
    assert msgspec.structs.replace(line, time_s=made.time_s) == made


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_line_says_what_the_record_says_whatever_the_decision_and_the_answer_were(count: int) -> None:
    draw, seen, reasons = random.Random(count), 0, set()
    lines = RecordLines(SCHEMA_VERSION)
    for _ in range(2_000):
        numbers = numbers_of(draw, count)
        if numbers is None:
            continue
        request = answer(numbers, draw)
        lines.put(request, 1_000.0)
        (line,) = read(lines.take())
        assert line.time_s == pytest.approx(request.received_s + 1_000.0)
        made = record(request)
        assert msgspec.structs.replace(line, time_s=made.time_s) == made
        reasons.add(made.decision and made.decision.reason)
        seen += 1
    assert seen > 500
    assert reasons >= ({"utility", "threshold", "pinned", "only_candidate"} if count > 1 else {"only_candidate"})


@pytest.mark.parametrize(
    "value", [0.1, 1 / 3, 1e15, -1e15, 1e-5, 5e-324, 1.7976931348623157e308, 123456789012345.0, 2.0**53 + 2, -0.5]
)
def test_a_number_is_read_back_to_the_same_bits(value: float) -> None:
    draw = random.Random(1)
    scores, pool = Scores((0.5,), 1), Snapshot((MemberState(name="m", queued_gpu_s=value),))
    request = answer(decide(Query(kind="chat", model="auto", turns=()), scores, pool, Settings()), draw)
    lines = RecordLines(SCHEMA_VERSION)
    for _ in range(2):  # the second time from what was kept of the first
        lines.put(request, 0.0)
    for line in read(lines.take()):
        assert line.decision is not None
        assert line.decision.numbers is not None
        assert line.decision.numbers.members["queued_gpu_s"] == (value,)


def test_lines_of_a_tick_follow_one_another_and_models_may_change_between() -> None:
    draw = random.Random(3)
    some = [found for count in (2, 3, 2) for _ in range(20) if (found := numbers_of(draw, count)) is not None]
    requests = [answer(numbers, draw, told_id=str(i)) for i, numbers in enumerate(some)]
    assert {len(numbers.models) for numbers in some} == {2, 3}
    ends = FinishedEnds(requests, record)
    assert len(ends) == len(requests)
    for line, request in zip(read(ends.lines()), requests, strict=True):
        same(line, record(request))
    assert [each.request_id for each in ends.records()] == [request.told_id for request in requests]
    assert ends.answered() == [(request.decision.id, request.decision.model, request.key_id) for request in requests]


def test_what_native_code_cannot_write_is_written_from_its_record_and_the_others_natively(
    caplog: pytest.LogCaptureFixture,
) -> None:
    draw = random.Random(4)
    numbers = decide(
        Query(kind="chat", model="auto", turns=()), Scores((0.5,), 1), Snapshot((MemberState(name="m"),)), Settings()
    )
    odd = answer(numbers, draw, told_id="odd", first_s=None)  # no number
    requests = [answer(numbers, draw, told_id="one"), odd, answer(numbers, draw, told_id="two")]
    found = read(FinishedEnds(requests, record).lines())
    assert [each.request_id for each in found] == ["one", "two", "odd"]
    assert "the line of request odd could not be written natively" in caplog.text


def test_an_answer_that_is_not_complete_has_no_line() -> None:
    draw = random.Random(5)
    numbers = decide(
        Query(kind="chat", model="auto", turns=()), Scores((0.5,), 1), Snapshot((MemberState(name="m"),)), Settings()
    )
    lines = RecordLines(SCHEMA_VERSION)
    with pytest.raises(ValueError, match="expected an answer that is complete"):
        lines.put(answer(numbers, draw, finished=False), 0.0)
    assert lines.take() == b""


def test_a_decision_that_chose_no_member_has_no_line() -> None:
    pool = Snapshot((MemberState(name="m", ready=False),))
    numbers = decide(Query(kind="chat", model="auto", turns=()), Scores((0.5,), 1), pool, Settings())
    with pytest.raises(Refused):
        numbers.decision("d")
    request = SimpleNamespace(numbers=numbers, finished=True)
    with pytest.raises(ValueError, match="expected an answer that is complete"):
        RecordLines(SCHEMA_VERSION).put(request, 0.0)  # type: ignore[arg-type]
