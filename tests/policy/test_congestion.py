"""A device's price on simulated time: fluid queues of any slope, steps of load, jumps of the clock, odd figures."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from router.policy.congestion import DevicePrice, Pressure, surcharge_of

TICK_S, FLUID_S = 0.5, 0.05
MOST = 1_000.0


class Queue:
    """A fluid queue: seconds of work wait, and what comes beyond what is done falls with the price's logarithm."""

    def __init__(self, slope: float, balanced: float) -> None:
        """`balanced`: the logarithm at which as much comes as is done."""
        self.slope, self.balanced, self.wait_s = slope, balanced, 0.0

    def pass_by(self, price: DevicePrice) -> None:
        beyond = max(self.slope * (self.balanced - math.log(price.factor)), -1.0)
        for _ in range(round(TICK_S / FLUID_S)):
            self.wait_s = max(0.0, self.wait_s + FLUID_S * beyond)
        price.step(TICK_S, Pressure(wait_s=self.wait_s))

    @property
    def target(self) -> float:
        return math.exp(max(self.balanced, 0.0))


def settled(price: DevicePrice, queue: Queue, seconds: float = 120.0) -> tuple[float, float]:
    """After how long the price stays within 5 % of its target, and between what it swings after a minute, over it."""
    ratios = []
    for _ in range(round(seconds / TICK_S)):
        queue.pass_by(price)
        ratios.append(price.factor / queue.target)
    last = max((i + 1 for i, ratio in enumerate(ratios) if abs(ratio - 1) > 0.05), default=0)
    late = ratios[round(60 / TICK_S) :]
    return last * TICK_S, max(late) - min(late)


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.sampled_from([0.1, 0.3, 1.0, 2.0]), st.floats(0.25, 6.0), st.floats(0.1, 3.0), st.floats(-1.0, 3.0))
def test_after_a_step_in_load_the_price_settles_within_a_minute_and_swings_no_more(
    goal_s: float, slope: float, first: float, then: float
) -> None:
    # A load that fills the queue to its goal within 20 s: before that there is nothing that a price could answer.
    assume(all(balanced < 0.04 or slope * balanced >= goal_s / 20 for balanced in (first, then)))
    price, queue = DevicePrice(goal_s, MOST), Queue(slope, first)
    for balanced in (first, then):
        queue.balanced = balanced
        settle_s, swing = settled(price, queue)
        assert (settle_s <= 60, swing <= 0.05) == (True, True), (settle_s, swing, balanced)
    if then > 0.1:
        assert queue.wait_s == pytest.approx(goal_s, rel=0.2, abs=0.05)


def test_without_a_queue_the_price_is_the_bought_one_and_with_half_the_wait_too() -> None:
    price = DevicePrice(1.0, MOST)
    for wait_s in [0.0] * 100 + [0.5] * 100:
        price.step(TICK_S, Pressure(wait_s=wait_s))
        assert (price.factor, price.cause) == (1.0, "")


def test_after_an_hour_over_its_limits_the_price_is_back_in_a_minute() -> None:
    """More comes than any price could turn away: it stays at the most, and winds nothing up."""
    price, queue = DevicePrice(1.0, MOST), Queue(1.0, 20.0)
    for _ in range(7200):
        queue.pass_by(price)
    assert price.factor == pytest.approx(MOST)
    queue.balanced, queue.wait_s = 0.7, 5.0  # the load fell, and the queue was answered
    settle_s, swing = settled(price, queue)
    assert (settle_s <= 60, swing <= 0.05) == (True, True), settle_s


@pytest.mark.parametrize(
    ("pressure", "cause"),
    [
        ({"wait_s": 3.0}, "slo_ttft"),
        ({"output_token": 1.5}, "slo_tpot"),
        ({"missed": 3.0}, "slo_missed"),
        ({"wait_s": 1.1, "missed": 4.0}, "slo_missed"),
    ],
)
def test_the_cause_is_what_is_most_at_risk(pressure: dict[str, float], cause: str) -> None:
    price = DevicePrice(1.0, MOST, "slo_ttft")
    for _ in range(40):
        price.step(TICK_S, Pressure(**pressure))
    assert (price.factor > 2, price.cause) == (True, cause)


odd = st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 0.0, 1e300, 5e-324, 0.5, 2.0])


@hypothesis_settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(odd, odd, odd, odd), max_size=50), st.floats(0.001, 1e5), st.floats(1, 1e6))
def test_odd_timings_and_a_clock_that_jumps_leave_a_price_between_the_bought_one_and_the_most(
    steps: list[tuple[float, float, float, float]], goal_s: float, most: float
) -> None:
    price = DevicePrice(goal_s, most)
    for dt_s, wait_s, token, missed in steps:
        before = price.factor
        price.step(dt_s, Pressure(wait_s=wait_s, output_token=token, missed=missed))
        assert 1.0 <= price.factor <= most * (1 + 1e-9)
        assert price.factor == before or 0 < dt_s < math.inf
    price = DevicePrice(1.0, MOST)
    for _ in range(20):
        price.step(TICK_S, Pressure(wait_s=2.0))
    risen = price.factor
    price.step(3_600.0, Pressure(wait_s=2.0))
    assert risen < price.factor < 5 * risen  # as of two seconds, not of an hour


def test_a_wait_that_is_no_number_is_passed_over() -> None:
    price = DevicePrice(1.0, MOST)
    for _ in range(20):
        price.step(TICK_S, Pressure(wait_s=2.0))
    wait_s = price.wait_s
    price.step(TICK_S, Pressure(wait_s=math.nan))
    assert price.wait_s == wait_s


def test_a_member_on_several_devices_pays_their_mean_by_what_they_cost() -> None:
    dear, cheap = DevicePrice(1.0, MOST), DevicePrice(1.0, MOST)
    for _ in range(20):
        dear.step(TICK_S, Pressure(wait_s=1.5))
    assert surcharge_of([(3.0, dear), (1.0, cheap)]) == (pytest.approx(0.75 * (dear.factor - 1)), "queue")
    assert surcharge_of([(0.0, dear), (0.0, cheap)]) == (pytest.approx(0.5 * (dear.factor - 1)), "queue")
    assert surcharge_of([]) == (0.0, "")


def test_another_goal_goes_on_from_the_price_there_is() -> None:
    price = DevicePrice(1.0, MOST)
    for _ in range(100):
        price.step(TICK_S, Pressure(wait_s=2.0))
    before = price.factor
    price.aim(2.0, MOST, "slo_ttft")
    assert price.factor == before
    price.aim(2.0, 3.0, "slo_ttft")
    price.step(TICK_S, Pressure(wait_s=2.0))
    assert price.factor <= 3.0
    price.rest()
    assert (price.factor, price.cause) == (1.0, "")
