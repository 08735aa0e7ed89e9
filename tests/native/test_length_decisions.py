"""The length of a query's answer decides: alike from a request's bytes and from a query, and again from a record."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from router import heads
from router.artefacts import artefact as artefacts
from router.artefacts.artefact import Artefact, Metadata, ModelRecord
from router.config import Limits
from router.features.conversation import segments
from router.heads import Claim
from router.heads.methods.mf import MfHead
from router.native.fleet import Fleet
from router.native.lane import Lane, LaneLoad
from router.native.policy import numbers_of
from router.native.request import BaseRequest, Requests
from router.native.slots import Slots
from router.pipeline.intake import Intake
from router.policy import Settings, decide
from router.types import DecisionNumbers, MemberState, Query, Snapshot, Timings, Turn, Usage
from tests.native.conftest import Small

NAMES = ("small", "large")
SETTINGS = Settings(price=1.0)
#: By the lengths, `large` answers a query with `hello` in short and is chosen; any other at length, and is too dear.
HELLO, OTHER = "hello", "theme"


@pytest.fixture
def head(make_model: Callable[..., Small], tmp_path: Path) -> MfHead:
    model = make_model(models=2, columns=16, shape_rows=128)
    base = model.spec.bases[0]
    table = np.zeros_like(model.table)
    (hello,) = model.encoder.pieces(HELLO)
    table[base + hello, 0] = 1
    arrays: dict[str, Any] = {
        "table": table, "vocab": model.vocab, "vectors": np.zeros((2, 16), np.float32),
        "bias": np.array([0.0, 1.0], np.float32),
        "lengths": np.zeros((2, 16), np.float32), "length_bias": np.log([100, 500]).astype(np.float32),
        "length_sd": np.full(2, 0.3, np.float32),
        "length_range": np.tile(np.array([0.0, 10.0], np.float32), (2, 1)),
    }  # fmt: skip
    arrays["lengths"][1, 0] = -3.0
    records = tuple(ModelRecord(name=name) for name in NAMES)
    path = tmp_path / "x.safetensors"
    artefacts.write(path, Artefact(meta=Metadata(format=1, encoder=model.spec, models=records), arrays=arrays))
    made = heads.load(path, [Claim(name=name) for name in NAMES])
    assert isinstance(made, MfHead)
    return made


def intake(head: MfHead, loads: list[LaneLoad]) -> Intake:
    lanes = [Lane(load, 1e-2) for load in loads]
    for lane in lanes:
        lane.ready = True
        lane.described(frozenset({"chat"}), 4096)
    requests = Requests(Slots(8, 1 << 20, lambda: None), None, "a", "b")
    made = Intake(requests, BaseRequest, Fleet([[lane] for lane in lanes], NAMES), count().__next__, count().__next__,
                  Limits())  # fmt: skip
    made.decide_by(head.scorer, head.turns, {"auto": SETTINGS}, lambda name: SETTINGS)
    return made


def body(text: str, **fields: Any) -> bytes:
    return msgspec.json.encode({"model": "auto", "messages": [{"role": "user", "content": text}], **fields})


def by_query(head: MfHead, loads: list[LaneLoad], text: str, max_tokens: int | None = None) -> Any:
    query = Query(kind="chat", model="auto", turns=(Turn("user", text),), max_tokens=max_tokens)
    states = tuple(
        MemberState(name=name, capabilities=frozenset({"chat"}), context_tokens=4096, usd_per_s=1e-2, **load.figures())
        for name, load in zip(NAMES, loads, strict=True)
    )
    return decide(query, head.score(segments(query.turns, head.turns)), Snapshot(states), SETTINGS)


def test_a_short_answer_is_worth_the_large_models_price_and_a_long_one_is_not(head: MfHead) -> None:
    loads = [LaneLoad(0, 1e5, 0.01), LaneLoad(0, 1e5, 0.1)]
    served = intake(head, loads)
    for text, max_tokens, expected in ((HELLO, None, "large"), (OTHER, None, "small"), (OTHER, 20, "large")):
        fields = {} if max_tokens is None else {"max_tokens": max_tokens}
        assert served.decide(body(text, **fields)) == expected
        assert by_query(head, loads, text, max_tokens).model == expected


def test_the_members_level_moves_the_decision_and_a_record_of_it_decides_again(head: MfHead) -> None:
    loads = [LaneLoad(0, 1e5, 0.01), LaneLoad(0, 1e5, 0.1)]
    assert intake(head, loads).decide(body(HELLO)) == "large"
    told = head.score([(HELLO, 1.0)])
    for id in range(1, 200):  # it answers at ten times the length
        loads[1].submitted(5, id, -1.0, told.output_tokens[1], told.output_log_sd[1])
        loads[1].answered(Usage(5, round(10 * told.output_tokens[1]), 0), Timings(), id)
        loads[1].ended()
    assert intake(head, loads).decide(body(HELLO)) == "small"
    decision = by_query(head, loads, HELLO)
    assert decision.model == "small"
    kept = msgspec.json.decode(msgspec.json.encode(decision.numbers.record()), type=DecisionNumbers)
    assert kept.members["output_surplus"][1] > 5
    assert numbers_of(kept).terms() == decision.terms
