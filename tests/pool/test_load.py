"""What a decision is told of a member's load, and what answers teach."""

import pytest

from router.config import Member
from router.ipc.messages import Load
from router.pool.load import LoadTracker, gpu_shares
from router.types import MemberState, Timings, Usage


def tracker(**member: float) -> LoadTracker:
    return LoadTracker(Member(name="m", model="x", usd_per_hour=3.6, **member), 0.5)


def state(load: LoadTracker) -> MemberState:
    return load.state(ready=True, breaker_open=False)


def test_money_is_the_share_of_the_gpu() -> None:
    assert state(tracker()).usd_per_s == pytest.approx(0.0005)


def test_what_was_submitted_since_the_last_frame_waits_too() -> None:
    load = tracker()
    load.reported(Load(running=2, waiting=1, prefill_tokens_per_s=100.0, time_per_output_token_s=0.01))
    load.submitted(50)
    load.submitted(30)
    before = state(load)
    assert (before.running, before.waiting) == (2, 3)
    load.reported(Load(running=4, waiting=0, prefill_tokens_per_s=100.0, time_per_output_token_s=0.01))
    assert (state(load).running, state(load).waiting) == (4, 0)
    assert load.in_flight == 2


def test_the_wait_ahead_is_prefill_and_slots() -> None:
    load = tracker(mean_output_tokens=100.0)
    load.reported(Load(running=10, waiting=0, prefill_tokens_per_s=1000.0, time_per_output_token_s=0.02))
    assert state(load).queued_gpu_s == 0.0
    load.submitted(500)
    assert state(load).queued_gpu_s == pytest.approx(0.5)
    load.reported(
        Load(running=10, waiting=5, prefix_hit=0.5, prefill_tokens_per_s=1000.0, time_per_output_token_s=0.02)
    )
    # Five prompts of 500 tokens, half of them cached; and each waits for one of ten answers of 2 s to end.
    assert state(load).queued_gpu_s == pytest.approx(5 * 500 * 0.5 / 1000 + 5 * 100 * 0.02 / 10)


def test_a_configured_rate_stands_above_a_reported_one() -> None:
    load = tracker(prefill_tokens_per_s=7.0, time_per_output_token_s=0.5)
    load.reported(Load(prefill_tokens_per_s=100.0, time_per_output_token_s=0.01))
    assert (state(load).prefill_tokens_per_s, state(load).time_per_output_token_s) == (7.0, 0.5)


def test_answers_teach_length_and_rates() -> None:
    load = tracker(mean_output_tokens=100.0)
    for _ in range(200):
        load.submitted(100)
        load.answered(Usage(110, 21, 10), Timings(0.5, 2.5))
        load.ended()
    learnt = state(load)
    assert learnt.mean_output_tokens == pytest.approx(21, abs=0.1)
    assert learnt.prefill_tokens_per_s == pytest.approx(200)
    assert learnt.time_per_output_token_s == pytest.approx(0.1)
    assert load.in_flight == 0


def test_answers_without_figures_teach_nothing() -> None:
    load = tracker()
    load.answered(Usage(), Timings())
    load.answered(Usage(10, 1, 10), Timings(0.0, 0.0))
    learnt = state(load)
    assert (learnt.prefill_tokens_per_s, learnt.time_per_output_token_s) == (0.0, 0.0)


def test_a_url_that_tells_no_load_waits_as_its_first_tokens_did() -> None:
    load = tracker()
    load.submitted(100)
    load.answered(Usage(100, 10, 0), Timings(0.4, 1.0))
    load.submitted(100)
    assert (state(load).running, state(load).waiting) == (2, 0)
    assert state(load).queued_gpu_s == pytest.approx(0.0, abs=1e-9)
    for _ in range(100):
        load.answered(Usage(100, 10, 0), Timings(2.0, 3.0))
    assert state(load).queued_gpu_s >= 0.0


def test_a_lost_engine_takes_its_queue_along_and_keeps_its_rates() -> None:
    load = tracker()
    load.reported(Load(running=5, waiting=9))
    load.answered(Usage(100, 11, 0), Timings(0.5, 1.5))
    load.forget()
    after = state(load)
    assert (after.running, after.waiting) == (0, 0)
    assert after.time_per_output_token_s == pytest.approx(0.1)


def test_snapshots_are_made_anew_only_after_a_change() -> None:
    load = tracker()
    first = state(load)
    assert state(load) is first
    assert load.state(ready=False, breaker_open=False) is not first
    load.submitted(1)
    assert state(load) is not first


def test_shares() -> None:
    pool = (
        Member(name="a", model="x"),
        Member(name="b", model="x", engine_args={"gpu-memory-utilization": 0.3}),
        Member(name="c", model="x", gpu_share=0.25),
        Member(name="d", kind="openai", url="http://x"),
    )
    assert gpu_shares(pool) == (1 / 3, 0.3, 0.25, 1.0)
