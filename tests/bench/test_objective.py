"""The objective bench: steered prices reach what arithmetic says on simulated time, shares are held on real prompts."""

import json
import random
import subprocess
import sys

import objective
import pytest
import steered_pool as simulated
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from steered_pool import SteeredPool, Traffic

from router.config import Objective
from tests.conftest import WORK_S


@pytest.mark.parametrize("name", objective.STEPS)
def test_after_each_step_in_load_the_price_is_within_5_percent_of_its_target_in_a_minute_and_stays(name: str) -> None:
    aim, traffics = objective.STEPS[name]
    for samples in SteeredPool(aim).run(traffics[:2]):
        assert simulated.settle_s(samples) <= 60
        assert simulated.swing(samples) <= 0.05


def test_by_random_traffic_the_mean_price_is_the_one_that_arithmetic_says() -> None:
    aim, traffics = objective.STEPS["price"]
    samples = list(SteeredPool(aim, even=False).run(traffics[:2]))[-1]
    late = [each.price for each in samples if each.time_s > 60]
    assert sum(late) / len(late) == pytest.approx(samples[-1].target, rel=0.1)


def test_a_full_small_device_beside_an_idle_large_one_sends_it_what_it_cannot_do() -> None:
    """And a price that does not follow the load leaves the queue to grow."""
    steered, fixed = (SteeredPool(Objective(congestion=on)) for on in (True, False))
    for pool in (steered, fixed):
        list(pool.run((Traffic(240, seconds=90.0),)))
    last = next(steered.run((Traffic(240, seconds=30.0),)))[-20:]
    assert sum(each.small for each in last) / len(last) == pytest.approx(simulated.SMALL.per_s / 240, rel=0.05)
    waits = [pool.engines[0].state(pool._now_s, 0.0).queued_gpu_s for pool in (steered, fixed)]
    assert waits[0] < 2 < 10 < waits[1]


def test_after_a_long_budget_that_cannot_be_held_lambda_is_right_within_a_minute() -> None:
    """For ten minutes less than the cheapest member costs, then one that can be: nothing was wound up."""
    impossible = Objective(kind="budget", usd_per_hour=10.0, congestion=False)
    possible = Objective(kind="budget", usd_per_hour=180.0, congestion=False)
    pool = SteeredPool(impossible)
    list(pool.run((Traffic(100, seconds=600.0),)))
    assert "cannot be held" in pool.prices.goal.broken
    pool.objective = possible
    pool.prices.aim(possible, simulated.LAMBDA)
    samples = next(pool.run((Traffic(100),)))
    assert simulated.settle_s(samples) <= 60
    assert pool.prices.goal.broken == ""


@hypothesis_settings(max_examples=20, deadline=None)
@given(st.sampled_from(objective.SHARES), st.integers(0, 1000))
def test_a_share_comes_out_of_1000_requests_within_2_points(share: float, seed: int) -> None:
    drawn = random.Random(seed)
    level = drawn.uniform(-0.5, 0.5)
    qualities = [(0.5, 0.5 + level * (i > drawn.randrange(1000)) + drawn.gauss(0, 0.1)) for i in range(1000)]
    assert objective.share_error(qualities, share) <= 2


def test_shares_are_held_within_2_points_on_each_traffic_at_hand_mixed_and_in_sequence(shared_data) -> None:
    found = objective.sharing(shared_data, objective.REQUESTS)
    assert set(found["share_errors"]) == {
        f"{name}, {order}" for name in (*objective.TABLES, "all") for order in ("in sequence", "mixed")
    }
    assert max(found["share_errors"].values()) == found["share_err"] <= 2


def test_figures(root) -> None:
    command = [sys.executable, str(root / "bench" / "objective.py"), "--quick", "--data", str(root / "no such folder")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WORK_S, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert 0 <= figures["settle_s"] < 180
    assert 0 <= figures["swing"] <= figures["swing_random"]
    assert figures["share_err"] is None
    assert 0 < figures["decide_us"] < 1e4
    assert figures["goals"] == {}
