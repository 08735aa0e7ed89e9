"""The plan: by property, against a twin that leaves nothing out, and against drawn worlds."""

import itertools
import math
from collections.abc import Sequence

import msgspec
import numpy as np
import plan_twin as twin
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from router.native import plan as native
from router.native import policy
from router.policy.plan import Option, Plan, plan, words

quality = st.floats(0.02, 0.98)
cost = st.floats(0, 0.01)
spread = st.sampled_from([0.0, 0.0, 0.01, 0.1]) | st.floats(0, 0.3)
price = st.sampled_from([0.0, 1.0, 30.0, 100.0]) | st.floats(0, 300)
correlation = st.sampled_from([0.0, 0.3, 0.9, 1.0]) | st.floats(0, 1)
EPSILON = 1e-6


@st.composite
def option(draw: st.DrawFn) -> Option:
    return Option(draw(quality), draw(cost), draw(spread))


@st.composite
def several(draw: st.DrawFn, least: int = 1, most: int = 5) -> list[Option]:
    """Of which at most one has answered."""
    found = draw(st.lists(option(), min_size=least, max_size=most))
    if len(found) > 1 and draw(st.booleans()):
        found[0] = msgspec.structs.replace(found[0], run=True)
    return found


def worth(found: Plan) -> float:
    """Of going on as planned, or stopping."""
    return max(value for value in (found.value_next, found.value_stop) if value is not None)


def changed(options: Sequence[Option], at: int, **fields: float | bool) -> list[Option]:
    return [msgspec.structs.replace(one, **fields) if i == at else one for i, one in enumerate(options)]


odd = st.sampled_from([0.0, -0.0, 1.0, -1.0, 5e-324, 1e300, math.inf, -math.inf, math.nan])


@hypothesis_settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(quality | odd, cost | odd), min_size=1, max_size=8), price | odd, correlation)
def test_without_spreads_and_answers_the_next_model_is_the_decision_s(
    rows: list[tuple[float, float]], at: float, rho: float
) -> None:
    out = np.full(1, -7, np.int32)
    qualities, costs = (np.array([column], np.float64) for column in zip(*rows, strict=True))
    policy.best(qualities, costs, at, out)
    found = plan([Option(q, c) for q, c in rows], at, rho)
    assert (found.next, found.then, found.answer, found.value_stop) == (out[0], -1, -1, None)
    q, c = rows[found.next]
    assert np.array(found.value_next).tobytes() == np.array(q - at * c + 0.0).tobytes() or math.isnan(q - at * c)


@hypothesis_settings(max_examples=150, deadline=None)
@given(several(most=4), price, correlation)
def test_it_is_the_best_of_all_courses_of_one_and_two_models(options: list[Option], at: float, rho: float) -> None:
    expected, found = twin.courses(options, at, rho), plan(options, at, rho)
    best = max(expected.values(), default=None)
    assert (found.value_next is None) == (best is None)
    if best is not None:
        assert found.value_next == pytest.approx(best, abs=2e-5)
    for course in found.courses:
        assert course.value == pytest.approx(expected[course.models], abs=2e-5)
    stop = twin.fallback(options)
    assert found.value_stop == stop
    if stop is not None and best is not None and abs(best - stop) > 2e-5:
        assert (found.next < 0) == (best < stop)


@hypothesis_settings(max_examples=300, deadline=None)
@given(several(), price, correlation, st.data())
def test_more_spread_is_never_worth_less(options: list[Option], at: float, rho: float, data: st.DataObject) -> None:
    which = data.draw(st.integers(0, len(options) - 1))
    wider = changed(options, which, spread=options[which].spread + data.draw(st.floats(0, 0.2)))
    # With a common factor, a wider spread also follows it more closely: alone it is worth no less.
    assert worth(plan(wider, at)) >= worth(plan(options, at)) - EPSILON
    assert worth(plan(wider[which : which + 1], at, rho)) >= worth(plan(options[which : which + 1], at, rho)) - EPSILON


@hypothesis_settings(max_examples=300, deadline=None)
@given(several(), price, st.floats(0, 100), correlation)
def test_a_higher_price_spends_no_more_is_worth_no_more_and_starts_nothing(
    options: list[Option], at: float, more: float, rho: float
) -> None:
    low, high = plan(options, at, rho), plan(options, at + more, rho)
    assert worth(high) <= worth(low) + EPSILON
    assert more * (high.cost_usd - low.cost_usd) <= EPSILON
    if low.next < 0:
        assert high.next < 0


def test_of_two_courses_that_are_worth_the_same_the_order_of_the_options_does_not_settle_the_value() -> None:
    options = [Option(quality=q, cost_usd=0.0, spread=s) for q, s in ((0.5, 0.0), (0.5, 0.09375), (0.625, 0.09375))]
    values = [worth(plan(list(order), 0.0, 0.0)) for order in itertools.permutations(options)]
    assert values == pytest.approx([values[0]] * 6, abs=1e-12)


@hypothesis_settings(max_examples=200, deadline=None)
@given(several(), price, correlation, st.randoms(use_true_random=False))
def test_the_order_of_the_options_does_not_matter(options: list[Option], at: float, rho: float, random: object) -> None:
    places = list(range(len(options)))
    random.shuffle(places)  # type: ignore[attr-defined]
    found, other = plan(options, at, rho), plan([options[i] for i in places], at, rho)
    assert worth(other) == pytest.approx(worth(found), abs=1e-12)
    assert sorted(course.value for course in other.courses)[-1:] == pytest.approx(
        sorted(course.value for course in found.courses)[-1:], abs=1e-12
    )


@hypothesis_settings(max_examples=200, deadline=None)
@given(several(least=2), price, st.floats(0, 10), correlation)
def test_what_is_spent_does_not_matter(options: list[Option], at: float, spent: float, rho: float) -> None:
    done = changed(options, 0, run=True)
    assert plan(changed(done, 0, cost_usd=spent), at, rho) == plan(done, at, rho)


@hypothesis_settings(max_examples=300, deadline=None)
@given(several(), price, st.floats(0, 0.3), st.data())
def test_a_better_model_is_never_worth_less(options: list[Option], at: float, more: float, data: st.DataObject) -> None:
    which = data.draw(st.integers(0, len(options) - 1))
    best = min(options[which].quality + more, 0.98)
    # A label that is nearly sure leaves little to learn of it: compare at one and the same spread.
    kept = min(twin.spread_of(options[which]), math.sqrt(best * (1 - best)))
    same = changed(options, which, spread=kept)
    rho = data.draw(correlation)
    assert worth(plan(changed(same, which, quality=best), at, rho)) >= worth(plan(same, at, rho)) - EPSILON


@hypothesis_settings(max_examples=200, deadline=None)
@given(several(), price, correlation)
def test_a_plan_is_worth_no_less_than_paying_for_a_whole_set_and_no_more_than_the_bound(
    options: list[Option], at: float, rho: float
) -> None:
    found = plan(options, at, rho)
    assert worth(found) <= native.most_value(options, at, rho) + EPSILON
    left = [i for i, one in enumerate(options) if not one.run]
    for size in (1, 2):
        for members in itertools.combinations(left, size):
            assert native.fixed_value(options, members, at, rho) <= worth(found) + 2e-5


@pytest.mark.parametrize("rho", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_value_of_a_set_is_that_of_drawn_worlds(size: int, rho: float) -> None:
    options = [Option(0.4 + 0.07 * i, 0.001 * (i + 1), 0.05 + 0.04 * i) for i in range(size)]
    options.append(Option(0.45, 9.0, run=True))
    drawn = twin.draws(options, rho, 200_000).max(1)
    paid = sum(one.cost_usd for one in options[:size])
    expected = float(drawn.mean()) - 20 * paid
    found = native.fixed_value(options, range(size), 20, rho)
    assert found == pytest.approx(expected, abs=5 * float(drawn.std()) / math.sqrt(len(drawn)) + 1e-4)


def test_running_first_one_then_another_is_worth_what_drawn_worlds_say() -> None:
    options = [Option(0.55, 0.001, 0.2), Option(0.8, 0.004, 0.1)]
    found = plan(options, 100, 0.3)
    assert (found.next, found.then, found.set) == (0, 1, (0, 1))
    seen = twin.draws(options, 0.3, 200_000)
    # What is then thought of the second, and so whether it is run: the rule of one step, on the drawn world.
    moved = 0.8 + 0.3 * 0.1 * (seen[:, 0] - 0.55) / 0.2
    own = 0.1 * math.sqrt(1 - 0.3**2)
    asked = np.array([twin.above(d, own) > 0.4 for d in (moved - seen[:, 0])[:50_000]])
    seen = seen[:50_000]
    kept = np.where(asked, seen.max(1), seen[:, 0]).mean() - 0.1 - 0.4 * asked.mean()
    assert found.value_next == pytest.approx(kept, abs=0.004)
    assert found.cost_usd == pytest.approx(0.001 + 0.004 * asked.mean(), abs=0.0001)


def test_going_one_model_further_at_a_time_loses_little_against_the_best_of_all_plans() -> None:
    """Eight independent models, each plan followed to its end in drawn worlds."""
    rng = np.random.default_rng(3)
    losses, count = [], 40
    for _ in range(12):
        options = [
            Option(float(q), float(c), float(s))
            for q, c, s in zip(
                rng.uniform(0.3, 0.8, 8), rng.uniform(2e-4, 2e-3, 8), rng.uniform(0.05, 0.25, 8), strict=True
            )
        ]
        worlds = twin.draws(options, 0.0, count, int(rng.integers(1 << 30)))
        got = np.mean([followed(options, world.tolist(), 50.0) for world in worlds])
        losses.append(twin.best_of_independent(options, 50.0, worlds) - got)
    # On the same worlds, so that most of the noise falls away.
    assert np.mean(losses) < 0.02


def followed(options: list[Option], world: Sequence[float], at: float) -> float:
    spent = 0.0
    while (found := plan(options, at)).next >= 0:
        spent += options[found.next].cost_usd
        options = changed(options, found.next, run=True, quality=world[found.next])
    return options[found.answer].quality - at * spent


def test_an_answer_that_disappoints_lowers_what_is_thought_of_the_others_by_the_correlation() -> None:
    seen = [Option(0.3, 0.0, 0.2, run=True, prior=0.5), Option(0.7, 0.001, 0.1)]
    moved = plan(seen, 0, 0.5)
    # One deviation lower: .7 - .5 * .1 = .65, with a spread of .1 * sqrt(1 - .5 ** 2).
    assert moved.value_next == pytest.approx(0.3 + twin.above(0.35, 0.1 * math.sqrt(0.75)), abs=1e-12)
    assert plan(changed(seen, 0, prior=None), 0, 0.5).value_next == pytest.approx(0.3 + twin.above(0.4, 0.1), abs=1e-12)
    assert plan(seen, 0, 0.0).value_next == pytest.approx(0.3 + twin.above(0.4, 0.1), abs=1e-12)


def test_two_answers_move_the_others_as_equicorrelated_normal_variables_do() -> None:
    rho, spreads, shift = 0.4, np.array([0.2, 0.1, 0.15]), np.array([0.1, -0.05])
    covariance = rho * np.outer(spreads, spreads) + (1 - rho) * np.diag(spreads**2)
    weights = np.linalg.solve(covariance[:2, :2], covariance[:2, 2])
    mean, variance = 0.6 + weights @ shift, covariance[2, 2] - weights @ covariance[:2, 2]
    options = [
        Option(0.5 + shift[0], 0, 0.2, run=True, prior=0.5),
        Option(0.4 + shift[1], 0, 0.1, run=True, prior=0.4),
        Option(0.6, 0.001, 0.15),
    ]
    expected = 0.6 + twin.above(mean - 0.6, math.sqrt(variance))
    assert plan(options, 0, rho).value_next == pytest.approx(expected, abs=1e-12)


def test_a_model_that_is_excluded_is_not_run_and_its_answer_still_counts() -> None:
    options = [Option(0.9, 0.0, 0.2, excluded=True), Option(0.4, 0.0, 0.2), Option(0.5, 1.0, run=True, excluded=True)]
    found = plan(options, 1.0)
    assert (found.next, found.answer, found.set) == (1, 2, (1, 2))
    nothing = plan(options[:1], 1.0)
    assert (nothing.next, nothing.answer, nothing.value_next, nothing.value_stop) == (-1, -1, None, None)
    assert words(nothing, ["a"]) == "nothing can be run"


def test_a_favour_is_worth_running_a_model_next_and_is_paid_once() -> None:
    options = [Option(0.5, 0.001, favour=0.2), Option(0.6, 0.001, favour=0.0)]
    assert plan(options, 1.0).next == 0
    assert plan(changed(options, 0, favour=0.05), 1.0).next == 1


@pytest.mark.parametrize(
    ("options", "rho", "message"),
    [
        ([Option(0.5, 0, -0.1)], 0.0, "spread: expected a number of at least 0, got -0.1"),
        ([Option(0.5, 0, math.nan)], 0.0, "spread: expected a number of at least 0, got nan"),
        ([Option(0.5, 0)], 1.5, "correlation: expected 0 to 1, got 1.5"),
        ([Option("x", 0)], 0.0, "quality: expected a number, got 'x'"),  # type: ignore[arg-type]
        ([Option(0.5, 0, prior="x")], 0.0, "prior: expected a number or None, got 'x'"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_number_of_an_option_is_refused_by_name(options: list[Option], rho: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(options, 1.0, rho)


def test_a_plan_is_told_in_words() -> None:
    names = ["small", "large"]
    drafts = plan([Option(0.55, 0.001, 0.2), Option(0.8, 0.004)], 100)
    assert words(drafts, names) == f"run small, then large where its answer asks for it: worth {drafts.value_next:.3f}"
    stops = plan([Option(0.9, 0, 0.2, run=True), Option(0.8, 0.004)], 100)
    assert words(stops, names) == "stop with the answer of small: worth 0.900; the best way on is worth 0.500"


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.lists(several(least=3, most=3), min_size=1, max_size=4), price, correlation)
def test_many_rows_are_planned_as_each_of_them_alone(rows: list[list[Option]], at: float, rho: float) -> None:
    columns = [
        np.array([[getattr(one, name) for one in row] for row in rows], kind)
        for name, kind in (("quality", np.float64), ("cost_usd", np.float64), ("spread", np.float64), ("run", np.uint8))
    ]
    out = np.full(len(rows), -7, np.int32)
    native.plan_rows(*columns, at, rho, out)
    assert out.tolist() == [plan(row, at, rho).next for row in rows]
    with pytest.raises(ValueError, match=r"out: expected \d rows of 3 models"):
        native.plan_rows(*columns, at, rho, np.zeros(len(rows) + 1, np.int32))


def test_every_number_of_an_option_is_read() -> None:
    assert set(native.NAMES) == {*Option.__struct_fields__}


def test_a_model_without_spread_is_looked_at_first_only_alone() -> None:
    """Its evidence would change nothing: it cannot be worth running before another."""
    found = plan([Option(0.5, 0.0), Option(0.5, 0.0, 0.2)], 0.0)
    assert (found.next, found.then) == (1, 0)
