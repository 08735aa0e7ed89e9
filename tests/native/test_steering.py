"""The share of one member, held decision by decision: against a twin, on any traffic, with tokens and canaries."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from router.native import policy as native
from router.native.steering import Steering
from router.policy import Settings
from router.types import MemberState, Query, Scores, Snapshot

GAIN, WINDOW, ALWAYS = 0.05, 256, 1e6
ASKED = Query(kind="chat", model="auto", turns=())


class Twin:
    """csrc/steering.hpp again, of requests alone: a member's favour from the margins that it had."""

    def __init__(self, share: float) -> None:
        self.share, self.owed = share, 0.0
        self.margins: list[float] = []

    @property
    def favour(self) -> float:
        level = self.share + GAIN * self.owed
        if level <= 0 or level >= 1:
            return -ALWAYS if level <= 0 else ALWAYS
        ordered = sorted(self.margins)
        if not ordered:
            return -0.0
        below = math.floor((1 - level) * len(ordered) + 0.5)
        if below == 0 or below >= len(ordered):
            return -ordered[0 if below == 0 else -1]
        return -(ordered[below - 1] + ordered[below]) / 2

    def note(self, margin: float, chosen: bool) -> None:
        self.margins = [*self.margins, margin][-WINDOW:]
        self.owed += self.share - (1.0 if chosen else 0.0)


def pool(favour: float, **second: object) -> Snapshot:
    return Snapshot((MemberState(name="a"), MemberState(name="b", favour=favour, **second)))  # type: ignore[arg-type]


def held(steering: Steering, quality: Sequence[tuple[float, float]]) -> int:
    """How many of these requests the second member got."""
    chosen = 0
    for one in quality:
        numbers = native.decide(ASKED, Scores(one, 10), pool(steering.favour), Settings())
        numbers.note(steering)
        chosen += numbers.member
    return chosen


def sharing(share: float, *, by_tokens: bool = False) -> Steering:
    steering = Steering()
    steering.hold(1, share, by_tokens)
    steering.adds = True
    return steering


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.floats(0.02, 0.98), st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=400))
def test_the_favour_is_the_twins_after_every_decision(share: float, quality: list[tuple[float, float]]) -> None:
    steering, twin = sharing(share), Twin(share)
    for one in quality:
        assert steering.favour == twin.favour
        numbers = native.decide(ASKED, Scores(one, 10), pool(steering.favour), Settings())
        numbers.note(steering)
        terms, margin = numbers.terms(), numbers.decision("d").margin
        if numbers.member == 1:
            twin.note(margin - terms[1].favour, True)
        else:
            twin.note(terms[1].utility - terms[1].favour - terms[0].utility, False)
    assert steering.owed == pytest.approx(twin.owed, abs=1e-9)


@hypothesis_settings(max_examples=100, deadline=None)
@given(
    st.floats(0.01, 0.99),
    st.lists(st.tuples(st.floats(-1, 1), st.integers(1, 300), st.floats(0, 0.5)), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
def test_a_share_is_never_off_by_more_than_21_requests_whatever_traffic_follows_whatever(
    share: float, stretches: list[tuple[float, int, float]], random: object
) -> None:
    """Stretches of requests whose margins lie elsewhere than before, are all alike, or fall all the time."""
    steering = sharing(share)
    margins = [
        level + width * (random.random() - 0.5)  # type: ignore[attr-defined]
        for level, count, width in stretches
        for _ in range(count)
    ]
    chosen = held(steering, [(0.5, 0.5 + margin) for margin in margins])
    assert abs(chosen - share * len(margins)) <= 1 / GAIN + 1 + 1e-6
    assert steering.owed == pytest.approx(share * len(margins) - chosen, abs=1e-6)


def test_among_requests_of_one_traffic_those_of_the_highest_margin_go_to_the_member() -> None:
    steering = sharing(0.25)
    margins = [((i * 7919) % 1000) / 1000 - 0.5 for i in range(2000)]
    high = low = 0
    for margin in margins:
        numbers = native.decide(ASKED, Scores((0.5, 0.5 + margin), 10), pool(steering.favour), Settings())
        numbers.note(steering)
        high += numbers.member == 1 and margin > 0.25
        low += numbers.member == 1 and margin <= 0.1
    assert high >= 0.8 * 500
    assert low <= 0.05 * 500


def test_requests_without_a_choice_owe_nothing() -> None:
    steering = sharing(0.5)
    away = Snapshot((MemberState(name="a"), MemberState(name="b", ready=False)))
    pinned = Settings(rule="pinned", pinned=0)
    for _ in range(500):
        native.decide(ASKED, Scores((0.9, 0.1), 10), away, Settings()).note(steering)
        native.decide(ASKED, Scores((0.9, 0.1), 10), pool(0.0), pinned).note(steering)
    assert (steering.owed, steering.sums()["offered"], steering.sums()["all"]) == (0.0, 0.0, 1000.0)
    assert abs(held(steering, [(0.9, 0.1)] * 100) - 50) <= 21


def test_a_canary_counts_as_the_member_that_it_stands_for() -> None:
    steering = sharing(0.5)
    canary = MemberState(name="c", canary_of=1, canary_weight=1.0)
    for _ in range(100):
        states = (*pool(steering.favour).members, canary)
        native.decide(ASKED, Scores((0.4, 0.6, 0.5), 10), Snapshot(states), Settings(), 0.5).note(steering)
    assert abs(steering.sums()["given"] - 50) <= 21
    assert steering.sums()["offered"] == 100


def test_a_share_of_tokens_weighs_requests_and_is_put_right_when_their_answers_end() -> None:
    """The member's answers are three times as long as they were thought to be."""
    steering = sharing(0.3, by_tokens=True)
    given_tokens = tokens = 0.0
    for i in range(3000):
        states = tuple(
            MemberState(name=name, mean_output_tokens=100.0, favour=favour)
            for name, favour in (("a", 0.0), ("b", steering.favour))
        )
        margin = ((i * 7919) % 1000) / 1000 - 0.5
        numbers = native.decide(ASKED, Scores((0.5, 0.5 + margin), 50), Snapshot(states), Settings())
        numbers.note(steering)
        took = 350.0 if numbers.member else 150.0
        numbers.settle(steering, took)
        tokens += took
        given_tokens += took * numbers.member
    assert given_tokens / tokens == pytest.approx(0.3, abs=0.02)
    assert steering.sums()["given"] / steering.sums()["offered"] == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("tokens", [math.nan, math.inf, -1.0])
def test_tokens_that_are_no_number_change_nothing(tokens: float) -> None:
    steering = sharing(0.3, by_tokens=True)
    numbers = native.decide(ASKED, Scores((0.5, 0.6), 50), pool(0.0), Settings())
    numbers.note(steering)
    owed = steering.owed
    numbers.settle(steering, tokens)
    assert steering.owed == owed


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, math.nan, math.inf])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share: expected above 0 and below 1, got"):
        Steering().hold(1, share)


def test_scores_and_prices_that_are_no_numbers_leave_the_share_as_it_is() -> None:
    steering = sharing(0.5)
    odd = MemberState(name="a", usd_per_s=math.inf)
    for _ in range(50):
        states = (odd, MemberState(name="b", favour=steering.favour))
        native.decide(ASKED, Scores((math.nan, 0.5), 10), Snapshot(states), Settings(price=1.0)).note(steering)
    assert math.isfinite(steering.owed)
    assert all(math.isfinite(value) for value in steering.sums().values())
    assert abs(held(steering, [(0.5, 0.6)] * 100) - 50) <= 71


def test_sums_say_what_was_spent_and_what_the_cheapest_and_the_best_would_have_cost() -> None:
    """At bought prices, whatever surcharge decided."""
    steering = Steering()
    steering.adds = True
    rates = {"prefill_tokens_per_s": 1000.0, "time_per_output_token_s": 0.01, "mean_output_tokens": 100.0}
    states = (
        MemberState(name="a", usd_per_s=0.001, surcharge=9.0, surcharge_of="queue", **rates),  # type: ignore[arg-type]
        MemberState(name="b", usd_per_s=0.004, **rates),  # type: ignore[arg-type]
    )
    native.decide(ASKED, Scores((0.5, 0.8), 0), Snapshot(states), Settings(price=0.0, strong=1)).note(steering)
    native.decide(ASKED, Scores((0.5, 0.8), 0), Snapshot(states), Settings(price=1e6, strong=1)).note(steering)
    sums = steering.sums()
    assert sums["spent_usd"] == pytest.approx(0.004 + 0.004)  # the surcharge makes `a` the dearer one
    assert (sums["least_usd"], sums["best_usd"]) == (pytest.approx(0.002), pytest.approx(0.008))
    assert (sums["quality"], sums["least_quality"]) == (pytest.approx(1.6), pytest.approx(1.0))
    assert (sums["best_quality"], sums["strong_quality"]) == (pytest.approx(1.6), pytest.approx(1.6))
    assert (sums["decided"], sums["all"]) == (2.0, 2.0)
