"""All prices of a pool on simulated time: whose risk raises whose price, what is reached, and what is said of it."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from router.config import Objective
from router.policy.prices import Answers, MemberSeen, Prices, Seen

NOTHING = {
    "decided": 0.0, "all": 0.0, "spent_usd": 0.0, "least_usd": 0.0, "best_usd": 0.0, "quality": 0.0,
    "least_quality": 0.0, "best_quality": 0.0, "strong_quality": 0.0, "given": 0.0, "offered": 0.0,
}  # fmt: skip


def member(name: str, *devices: tuple[str, float], **seen: Any) -> MemberSeen:
    return MemberSeen(name=name, devices=devices, **seen)


SMALL, LARGE = member("small", ("0", 1.0)), member("large", ("1", 4.0))


class Clock:
    """Steps prices twice a second."""

    def __init__(self, prices: Prices) -> None:
        self.prices, self.now_s = prices, 100.0
        self.sums = dict(NOTHING)

    def pass_by(self, seconds: float, *members: MemberSeen, answers: Any = None, **grown: float) -> None:
        """`grown`: by how much sums grow a second."""
        for _ in range(round(2 * seconds)):
            self.now_s += 0.5
            self.sums = {name: value + grown.get(name, 0.0) / 2 for name, value in self.sums.items()}
            seen = Seen(members=members or (SMALL, LARGE), sums=self.sums, answers=answers or {})  # type: ignore[arg-type]
            self.prices.step(self.now_s, seen)


def of(**objective: Any) -> Clock:
    return Clock(Prices(Objective(**objective), 100.0))


def factors(clock: Clock) -> dict[str, float]:
    return {device.device: device.factor for device in clock.prices.told().devices}


def test_a_full_engine_raises_the_price_of_its_own_device_alone() -> None:
    clock = of()
    clock.pass_by(20, member("small", ("0", 1.0), wait_s=3.0), LARGE)
    assert (factors(clock)["0"] > 3, factors(clock)["1"]) == (True, 1.0)
    surcharge, cause = clock.prices.surcharge((("0", 1.0),))
    assert (surcharge, cause) == (pytest.approx(factors(clock)["0"] - 1), "queue")
    assert clock.prices.surcharge((("1", 4.0),)) == (0.0, "")


def test_engines_of_one_device_share_its_price_by_the_worst_of_them() -> None:
    clock = of()
    clock.pass_by(20, member("a", ("0", 1.0)), member("b", ("0", 1.0), wait_s=3.0), member("c", ("0", 1.0)))
    assert factors(clock)["0"] > 3


def test_an_engine_over_two_devices_puts_both_at_risk_and_pays_for_both() -> None:
    clock = of()
    both = (("0", 1.0), ("1", 1.0))
    clock.pass_by(20, member("wide", *both, wait_s=3.0), member("narrow", ("1", 1.0)))
    assert factors(clock)["0"] == factors(clock)["1"] > 3
    assert clock.prices.surcharge(both)[0] == pytest.approx(factors(clock)["0"] - 1)


def test_a_member_that_takes_no_requests_puts_no_device_at_risk() -> None:
    clock = of()
    clock.pass_by(20, member("small", ("0", 1.0), wait_s=99.0, takes_requests=False), LARGE)
    assert factors(clock) == {"0": 1.0, "1": 1.0}


def test_without_congestion_prices_are_the_bought_ones() -> None:
    clock = of(congestion=False)
    clock.pass_by(20, member("small", ("0", 1.0), wait_s=3.0), LARGE)
    assert factors(clock) == {"0": 1.0, "1": 1.0}


def test_a_device_without_members_is_forgotten_and_a_new_one_begins_at_its_bought_price() -> None:
    clock = of()
    clock.pass_by(20, member("small", ("0", 1.0), wait_s=3.0), LARGE)
    risen = factors(clock)["0"]
    clock.pass_by(0.5, member("small", ("0", 1.0), wait_s=3.0), member("new", ("2", 9.0)))
    assert factors(clock) == {"0": pytest.approx(risen, rel=0.2), "2": 1.0}


def test_a_reload_of_the_same_objective_changes_nothing_and_another_goes_on_from_the_devices_prices() -> None:
    clock = of()
    clock.pass_by(20, member("small", ("0", 1.0), wait_s=3.0), LARGE)
    risen = factors(clock)["0"]
    goal = clock.prices.goal
    clock.prices.aim(Objective(), 100.0)
    assert (clock.prices.goal is goal, factors(clock)["0"]) == (True, risen)
    clock.prices.aim(Objective(kind="slo", ttft_ms=500.0), 100.0)
    assert factors(clock)["0"] == risen
    clock.pass_by(5, member("small", ("0", 1.0), wait_s=3.0), LARGE)
    assert clock.prices.surcharge((("0", 1.0),))[1] == "slo_ttft"
    clock.prices.aim(Objective(congestion=False), 100.0)
    assert factors(clock)["0"] == 1.0


def test_lambda_goes_on_where_a_budget_is_changed_and_is_the_configured_one_where_it_is_taken_away() -> None:
    clock = of(kind="budget", usd_per_hour=36.0)
    clock.pass_by(60, all=50.0, decided=50.0, spent_usd=0.05, least_usd=0.01, best_usd=0.2, quality=25.0,
                  best_quality=40.0, strong_quality=40.0)  # fmt: skip
    risen = clock.prices.goal.price
    assert (risen > 1_000, clock.prices.told().price_of) == (True, "budget")
    clock.prices.aim(Objective(kind="budget", usd_per_hour=72.0), 100.0)
    assert clock.prices.goal.price == risen
    clock.prices.aim(Objective(), 100.0)
    assert (clock.prices.goal.price, clock.prices.told().price_of) == (100.0, "")


def test_a_budget_below_what_the_cheapest_costs_is_said_with_what_is_reached_and_winds_nothing_up() -> None:
    clock = of(kind="budget", usd_per_hour=36.0)
    clock.pass_by(120, all=50.0, decided=50.0, spent_usd=0.05, least_usd=0.05, best_usd=0.2, quality=25.0,
                  best_quality=40.0, strong_quality=40.0)  # fmt: skip
    told = clock.prices.told()
    assert told.broken == "a budget of $36 an hour cannot be held: the cheapest members take $180 an hour"
    assert (told.aim, told.reached) == (36.0, pytest.approx(180.0))
    assert told.price == pytest.approx(100.0)


def test_a_budget_with_room_lets_lambda_fall_until_every_request_takes_the_best() -> None:
    clock = of(kind="budget", usd_per_hour=3600.0)
    better = {"all": 50.0, "decided": 50.0, "spent_usd": 0.05, "least_usd": 0.01, "best_usd": 0.2, "best_quality": 40.0}
    clock.pass_by(60, **better, quality=30.0, strong_quality=40.0)
    fallen = clock.prices.goal.price
    assert fallen < 1.0
    clock.pass_by(60, **better, quality=40.0, strong_quality=40.0)
    rested = clock.prices.goal.price
    assert rested > fallen / 4  # it takes some seconds to see that nothing is to be won
    clock.pass_by(60, **better, quality=40.0, strong_quality=40.0)
    assert clock.prices.goal.price == rested


def test_an_hour_without_requests_leaves_lambda_where_it_was() -> None:
    clock = of(kind="budget", usd_per_hour=180.0)
    traffic = {"all": 50.0, "decided": 50.0, "spent_usd": 0.05, "least_usd": 0.01, "best_usd": 0.2, "quality": 25.0,
               "best_quality": 40.0, "strong_quality": 40.0}  # fmt: skip
    clock.pass_by(60, **traffic)
    before = clock.prices.goal.price
    clock.pass_by(3_600)
    assert clock.prices.goal.price == before
    clock.pass_by(20, **traffic)
    assert clock.prices.goal.price == pytest.approx(before, rel=0.7)


def test_a_quality_that_is_above_its_aim_raises_lambda_and_one_that_cannot_be_held_is_said() -> None:
    clock = of(kind="quality", of_strongest=0.9)
    sums = {"all": 50.0, "decided": 50.0, "spent_usd": 0.1, "least_usd": 0.01, "best_usd": 0.2, "least_quality": 25.0}
    clock.pass_by(30, **sums, quality=39.0, best_quality=40.0, strong_quality=40.0)
    assert clock.prices.goal.price > 110.0
    clock = of(kind="quality", of_strongest=0.9)
    clock.pass_by(60, **sums, quality=30.0, best_quality=30.0, strong_quality=40.0)
    said = "a predicted quality of 0.9 of the strongest member's cannot be held: 0.75 is reached"
    assert clock.prices.told().broken == said


def test_answers_outside_an_slo_that_were_not_foreseen_raise_the_price_and_are_said() -> None:
    clock = of(kind="slo", ttft_ms=500.0, attainment=0.9)
    clock.pass_by(30, answers={"small": Answers(10, 5, 5), "large": Answers(10, 0, 0)})
    told = clock.prices.told()
    assert {device.device: device.cause for device in told.devices} == {"0": "slo_missed", "1": ""}
    assert (told.aim, told.reached) == (0.9, pytest.approx(0.75))
    assert told.broken == "the SLO is not held: 75.0 % of the answers are within it, not 90 %"
    foreseen = of(kind="slo", ttft_ms=500.0, attainment=0.9)
    foreseen.pass_by(30, answers={"small": Answers(10, 5, 0)})
    assert factors(foreseen) == {"0": 1.0, "1": 1.0}


def test_slow_tokens_raise_the_price_where_the_slo_bounds_them() -> None:
    clock = of(kind="slo", tpot_ms=20.0)
    clock.pass_by(30, member("small", ("0", 1.0), output_token_s=0.03), LARGE)
    assert [(device.factor > 2, device.cause) for device in clock.prices.told().devices] == [
        (True, "slo_tpot"),
        (False, ""),
    ]
    assert clock.prices.shed_ttft_s is None


def test_what_is_missed_for_a_moment_is_not_said() -> None:
    clock = of(kind="slo", ttft_ms=500.0, attainment=0.9)
    clock.pass_by(5, answers={"small": Answers(10, 5, 5)})
    assert clock.prices.told().broken == ""


@pytest.mark.parametrize(
    ("objective", "shed_s"),
    [
        ({"kind": "slo", "ttft_ms": 300.0}, 0.3),
        ({"kind": "slo", "ttft_ms": 300.0, "shed": False}, None),
        ({"kind": "price"}, None),
    ],
)
def test_requests_are_refused_by_an_slo_alone_unless_it_says_otherwise(
    objective: dict[str, Any], shed_s: float | None
) -> None:
    assert of(**objective).prices.shed_ttft_s == shed_s


odd = st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 0.0, 1e300, 1.0])


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([
        {"kind": "price"}, {"kind": "budget", "usd_per_hour": 1.0}, {"kind": "quality", "of_strongest": 0.9},
        {"kind": "slo", "ttft_ms": 300.0, "tpot_ms": 30.0}, {"kind": "share", "member": "small", "share": 0.3},
    ]),
    st.lists(st.tuples(odd, odd, odd, odd, odd), max_size=30),
)  # fmt: skip
def test_odd_clocks_timings_and_sums_leave_every_price_finite_and_no_lower_than_bought(
    objective: dict[str, Any], steps: list[tuple[float, float, float, float, float]]
) -> None:
    prices = Prices(Objective(**objective), 100.0)
    sums = dict(NOTHING)
    for now_s, wait_s, token_s, sum_, ratio in steps:
        seen = Seen(
            members=(member("small", ("0", 1.0), wait_s=wait_s, output_token_s=token_s), LARGE),
            sums={name: value + sum_ for name, value in sums.items()},  # type: ignore[arg-type]
            spent_ratio=ratio,
        )
        prices.step(now_s, seen)
        assert 0 < prices.goal.price < math.inf
        assert all(1 <= device.factor <= 1_000 * (1 + 1e-9) for device in prices.told().devices)
