"""How much of a member batches may have."""

from typing import Any

import pytest

from router.pipeline.batch.slack import Seen, Slack, may_read, reading_bound, reads_s, slack


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({}, (16, 0)),
        ({"own": 10, "in_flight": 10}, (6, 0)),
        ({"own": 16, "in_flight": 16}, (0, 0)),
        ({"ready": False, "own": 3, "in_flight": 3}, (0, 0)),
        ({"live_waits": True, "own": 3, "in_flight": 3}, (0, 0)),
        # a quarter of the sequences stays free, and live requests come off the rest
        ({"most_running": 16}, (12, 0)),
        ({"most_running": 16, "own": 12, "in_flight": 12}, (0, 0)),
        ({"most_running": 16, "own": 12, "in_flight": 17}, (0, 5)),
        ({"most_running": 16, "own": 2, "in_flight": 40}, (0, 2)),
        ({"most_running": 256, "own": 4, "in_flight": 100}, (12, 0)),
        ({"most_running": 2}, (1, 0)),
        ({"most_running": 1}, (1, 0)),
        ({"most_running": 1, "own": 1, "in_flight": 2}, (0, 1)),
        # the KV cache
        ({"kv_use": 0.81, "own": 5, "in_flight": 5}, (0, 0)),
        ({"kv_use": 0.96, "own": 5, "in_flight": 5}, (0, 3)),
        ({"kv_use": 0.96, "own": 1, "in_flight": 1}, (0, 0)),
        ({"kv_use": 0.96, "own": 1, "in_flight": 2}, (0, 1)),
    ],
)
def test_slack(seen: dict[str, Any], expected: tuple[int, int]) -> None:
    assert slack(Seen(**seen), 16) == Slack(*expected)


def test_prompts_are_read_a_bounded_number_of_tokens_at_once_and_a_longer_one_alone() -> None:
    assert may_read(100, 0, 2048)
    assert may_read(100, 1948, 2048)
    assert not may_read(100, 1949, 2048)
    assert may_read(100_000, 0, 2048)
    assert not may_read(1, 100_000, 2048)
    assert reads_s(2_000, 1_000.0) == 4.0
    assert reads_s(2_000, 0.0) == 1.0  # not known yet


@pytest.mark.parametrize(
    ("prefill_tokens_per_s", "step_s", "expected"),
    [(20_000.0, 0.02, 400), (1e6, 0.02, 2_048), (10.0, 0.02, 1), (0.0, 0.02, 1), (20_000.0, 0.0, 1)],
    ids=["what one step's time reads", "the setting is the bound", "slow", "rate not known", "step not known"],
)
def test_beside_live_requests_lines_read_at_once_what_one_steps_time_reads(
    prefill_tokens_per_s: float, step_s: float, expected: int
) -> None:
    assert reading_bound(2_048, prefill_tokens_per_s, step_s) == expected
