"""Figures that no engine can mean: they end no request, teach nothing and poison no decision."""

import math
from typing import Any

import pytest

from router.config import Member
from router.ipc.messages import Done, Load
from router.policy import Settings, decide
from router.pool.claims import plausible
from router.pool.load import LoadTracker
from router.types import MemberState, Query, Scores, Snapshot, Timings, Turn, Usage

COUNTS = [-1, -(2**63), 2**31, 2**63 - 1, 2**63, 2**64 - 1]
REALS = [math.nan, math.inf, -math.inf, -1.0, 1e300, -1e-300]


def tracker(**member: float) -> LoadTracker:
    return LoadTracker(Member(name="m", model="x", usd_per_hour=3.6, **member), 0.5)


def numbers(state: MemberState) -> list[float]:
    return [value for name in state.__struct_fields__ if isinstance(value := getattr(state, name), int | float)]


@pytest.mark.parametrize("count", COUNTS)
def test_a_count_of_tokens_out_of_bounds_is_taken_for_unknown(count: int) -> None:
    timings = Timings(0.1, 0.3)
    for given, expected in (
        (Usage(count, 5, 2), Usage(0, 5, 2)),
        (Usage(10, count, 2), Usage(10, 0, 2)),
        (Usage(10, 5, count), Usage(10, 5, 0)),
    ):
        assert plausible(Done(id=7, usage=given, timings=timings)) == Done(id=7, usage=expected, timings=timings)


@pytest.mark.parametrize("real", REALS)
def test_a_time_out_of_bounds_is_taken_for_unknown(real: float) -> None:
    usage = Usage(10, 5, 2)
    assert plausible(Done(id=7, usage=usage, timings=Timings(real, 0.3))).timings == Timings(0.0, 0.3)
    assert plausible(Done(id=7, usage=usage, timings=Timings(0.1, real))).timings == Timings(0.1, 0.0)


def test_figures_in_bounds_stay_the_same_object() -> None:
    done = Done(id=7, usage=Usage(1 << 30, 0, 0), timings=Timings(0.0, 1e7))
    assert plausible(done) is done


@pytest.mark.parametrize("count", COUNTS)
def test_a_load_frame_of_absurd_counts_counts_nothing(count: int) -> None:
    load = tracker()
    load.reported(Load(running=count, waiting=count))
    state = load.state(ready=True, breaker_open=False)
    assert (state.running, state.waiting, state.queued_gpu_s) == (0, 0, 0.0)


@pytest.mark.parametrize("real", REALS)
def test_a_load_frame_of_absurd_rates_leaves_them_unknown(real: float) -> None:
    load = tracker()
    load.submitted(100)
    load.reported(
        Load(
            running=3, waiting=5, kv_use=real, prefix_hit=real, prefill_tokens_per_s=real, time_per_output_token_s=real
        )
    )
    load.submitted(100)
    state = load.state(ready=True, breaker_open=False)
    assert (state.running, state.waiting) == (3, 6)
    assert (state.kv_use, state.prefix_hit) == (0.0, 0.0)
    assert (state.prefill_tokens_per_s, state.time_per_output_token_s) == (0.0, 0.0)


@pytest.mark.parametrize(("told", "taken"), [(0.5, 0.5), (1.0, 1.0), (1.0000001, 1.0), (1.1, 0.0)])
def test_a_share_that_was_rounded_above_one_is_one(told: float, taken: float) -> None:
    load = tracker()
    load.reported(Load(kv_use=told, prefix_hit=told))
    state = load.state(ready=True, breaker_open=False)
    assert (state.kv_use, state.prefix_hit) == (taken, taken)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("real", REALS)
def test_absurd_figures_of_an_answer_teach_nothing(count: int, real: float) -> None:
    load = tracker()
    load.answered(Usage(100, 11, 0), Timings(0.5, 1.5))
    before = load.state(ready=True, breaker_open=False)
    for usage in (Usage(count, 11, 0), Usage(100, count, 0), Usage(100, 11, count)):
        load.answered(usage, Timings(0.5, 1.5))
    for timings in (Timings(real, 1.5), Timings(0.5, real), Timings(real, real)):
        load.answered(Usage(100, 11, 0), timings)
    assert load.state(ready=True, breaker_open=False) == before


@pytest.mark.parametrize(
    "fields",
    [
        {"prefill_tokens_per_s": 1e-300},
        {"time_per_output_token_s": 1e300},
        {"prefix_hit": -1e300, "waiting": 2**62},
        {"prefill_tokens_per_s": math.nan, "time_per_output_token_s": math.inf, "prefix_hit": math.nan},
        {"prefill_tokens_per_s": 1e-3, "time_per_output_token_s": 1e7, "waiting": 1 << 30, "running": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("usd_per_hour", [0.0, 3.6])
def test_whatever_a_load_frame_claims_a_decision_has_finite_terms(fields: dict[str, Any], usd_per_hour: float) -> None:
    loads = [LoadTracker(Member(name=name, model="x", usd_per_hour=usd_per_hour), 0.5) for name in ("a", "b")]
    loads[0].submitted(1000)
    loads[0].reported(Load(**fields))
    loads[0].submitted(1000)
    states = tuple(load.state(ready=True, breaker_open=False) for load in loads)
    assert all(math.isfinite(value) for state in states for value in numbers(state))
    query = Query(kind="chat", model="auto", turns=(Turn("user", "x"),), needs=frozenset())
    decision = decide(
        query, Scores((0.5, 0.6), 100), Snapshot(states), Settings(price=0.0, most_waiting=1 << 62), id="d"
    )
    assert decision.model == "b"
    assert all(math.isfinite(value) for term in decision.terms for value in (term.cost_usd, term.wait_s, term.utility))
