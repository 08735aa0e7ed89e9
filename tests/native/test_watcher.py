"""The watch on rows of an engine's steps: figures against float64, and where an answer is stopped."""

import math

import numpy as np
import pytest

from router.native.row_statistics import ORDER_FLOATS, STATE_FLOATS, Watcher
from tests.native.watched_rows import Table, figures_of, log_probabilities

LOGPROB, ENTROPY, MARGIN, TOKENS = range(4)


@pytest.fixture
def table():
    return Table(lambda table: Watcher(*table.arrays, stop=table.stop, hidden=table.hidden).watch)


def rows_of(count, vocabulary=300, seed=0):
    return np.random.default_rng(seed).normal(0, 3, (count, vocabulary)).astype(np.float32)


def test_figures_equal_float64(table):
    answer = rows_of(40)
    table.begin(5)
    for made, row in enumerate(answer):
        assert table.step({5: (row, made)}) == 0
        assert table.figures(5, made + 1) == pytest.approx(figures_of(answer[: made + 1]), rel=2e-5, abs=2e-5)


@pytest.mark.parametrize(("statistic", "sign"), [(LOGPROB, -1), (MARGIN, -1), (ENTROPY, 1)])
def test_it_stops_in_the_step_that_crosses_the_boundary(table, statistic, sign):
    answer = rows_of(60, seed=statistic)
    name = {LOGPROB: "recent_logprob", MARGIN: "recent_margin", ENTROPY: "recent_entropy"}[statistic]
    seen = [figures_of(answer[: made + 1])[name] for made in range(60)]
    bound = sorted(seen[20:])[20]
    first = next(at for at in range(9, 60) if (seen[at] - bound) * sign > 1e-5)
    table.begin(2, statistic=statistic, knots=[(10, bound)])
    for made in range(first):
        assert table.step({2: (answer[made], made)}) == 0
    assert table.step({2: (answer[first], first)}) == 1
    assert table.figures(2, first + 1)["fired"] == 1
    assert np.flatnonzero(np.isfinite(table.logits[0])).tolist() == [table.stop]


def test_the_boundary_is_straight_between_its_knots_and_stays_behind_the_last(table):
    """A statistic that stays as it is, against a bound that rises."""
    row = rows_of(1)[0]
    level = figures_of([row])["recent_logprob"]
    for knots, wanted in [
        ([(10, level - 1), (20, level + 1)], 16),
        ([(4, level - 1), (8, level - 0.5), (9, level + 0.1)], 9),
        ([(4, level + 1)], 4),
        ([(4, level - 1)], None),
        ([(4, level - 3), (30, level - 1), (60, level - 1)], None),
        ([], None),
    ]:
        table.begin(0, knots=knots)
        stopped = next((made + 1 for made in range(80) if table.step({0: (row, made)})), None)
        assert stopped == wanted


def test_tokens_alone_stop_it_where_there_are_as_many(table):
    table.begin(0, statistic=TOKENS, knots=[(7, 0)])
    assert [made for made, row in enumerate(rows_of(8)) if table.step({0: (row, made)})] == [7]


def test_it_waits_for_a_safe_place(table):
    answer = rows_of(30)
    table.places[:] = 0
    table.places[answer[23].argmax()] = 1
    table.begin(0, statistic=TOKENS, knots=[(3, 0)])
    assert next(made for made, row in enumerate(answer) if table.step({0: (row, made)})) == 23


def test_a_blank_alone_is_a_safe_place_behind_what_does_not_end_in_white_space(table):
    answer = rows_of(30)
    likeliest = answer.argmax(axis=1)
    assert len(set(likeliest[[8, 9, 19, 20]].tolist())) == 4
    table.places[:] = 0
    table.places[likeliest[[9, 20]]] = 2
    table.places[likeliest[8]] = 4
    table.begin(0, statistic=TOKENS, knots=[(3, 0)])
    assert next(made for made, row in enumerate(answer) if table.step({0: (row, made)})) == 20


def test_it_waits_for_the_least_number_of_tokens(table):
    table.begin(0, statistic=TOKENS, knots=[(3, 0)], min_tokens=12)
    assert next(made for made, row in enumerate(rows_of(30)) if table.step({0: (row, made)})) == 12


def test_nothing_is_watched_after_it_stopped(table):
    answer = rows_of(6)
    table.begin(0, statistic=TOKENS, knots=[(3, 0)])
    for made in range(4):
        table.step({0: (answer[made], made)})
    before = table.states.copy()
    assert table.step({0: (answer[4], 4)}) == 0  # the row that an asynchronous engine has begun already
    np.testing.assert_array_equal(table.states, before)
    assert table.figures(0, 4)["fired"] == 1


def test_a_row_after_the_answers_end_leaves_the_figures_of_its_end(table):
    answer = rows_of(6)
    table.begin(0)
    for made in range(6):
        table.step({0: (answer[made], made)})
    assert table.figures(0, 5) == pytest.approx(figures_of(answer[:5]), rel=2e-5, abs=2e-5)


def test_a_step_that_is_done_anew_counts_once(table):
    """Rows of an unfinished prompt, and the last step of an answer that was put off."""
    answer, other = rows_of(5), rows_of(5, seed=9)
    table.begin(0, keep_first=True)
    for row in other[:3]:
        table.step({0: (row, 0)})
    for made in range(3):
        table.step({0: (answer[made], made)})
    table.step({0: (other[3], 3)})
    for made in range(3, 5):
        table.step({0: (answer[made], made)})
    assert table.figures(0, 5) == pytest.approx(figures_of(answer), rel=2e-5, abs=2e-5)
    wanted = log_probabilities(answer[0])[table.first_ids]
    np.testing.assert_allclose(table.kept[0], wanted, rtol=1e-5, atol=1e-5)


def test_a_stop_on_a_row_of_an_unfinished_prompt_is_no_stop(table):
    table.begin(0, statistic=TOKENS, knots=[(0, 0)])
    answer = rows_of(2)
    assert table.step({0: (answer[0], 0)}) == 1
    assert table.step({0: (answer[1], 0)}) == 1  # the prompt's last row: the step anew, and this one counts
    assert table.figures(0, 1)["likeliest"] == answer[1].argmax()


def test_a_slot_that_is_anothers_by_now_is_left_alone(table):
    table.begin(0)
    table.step({0: (rows_of(1)[0], 0)})
    before = table.states.copy()
    table.orders[0, 0] += 1
    assert table.step({0: (rows_of(1)[0], 1)}) == 0
    np.testing.assert_array_equal(table.states, before)


def test_an_answer_of_which_a_step_is_missing_is_not_watched_any_more(table):
    table.begin(0, statistic=TOKENS, knots=[(0, 0)], min_tokens=1)
    table.step({0: (rows_of(1)[0], 0)})
    assert table.step({0: (rows_of(1)[0], 4)}) == 0


def test_a_row_that_is_no_row_of_an_answer_is_not_watched(table):
    table.begin(0, statistic=TOKENS, knots=[(0, 0)])
    assert table.step({0: (rows_of(1)[0], -1)}) == 0
    assert not table.states.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_no_distribution_ends_the_watch_and_not_the_answer(table, bad):
    answer = rows_of(4)
    answer[1, 17] = bad
    table.begin(0, statistic=TOKENS, knots=[(1, 0)])
    assert [table.step({0: (row, made)}) for made, row in enumerate(answer)] == [0, 0, 0, 0]
    assert table.figures(0, 2)["broken"] == 1


def test_the_first_tokens_logits_are_weighed_and_it_stops_below_the_bound(table):
    row = rows_of(1)[0]
    weights = np.random.default_rng(1).normal(0, 0.1, len(table.first_ids)).astype(np.float32)
    odds = 0.25 + float(weights @ log_probabilities(row)[table.first_ids])
    table.begin(0, weights=weights, bias=0.25, bound=odds - 0.01)
    assert table.step({0: (row, 0)}) == 0
    assert table.figures(0, 1)["estimate"] == pytest.approx(odds, abs=1e-4)
    table.begin(0, weights=weights, bias=0.25, bound=odds + 0.01)
    assert table.step({0: (row, 0)}) == 1
    assert table.figures(0, 1)["fired"] == 2
    table.begin(0, weights=weights, bias=0.25, bound=odds + 0.01, min_tokens=1)
    assert table.step({0: (row, 0)}) == 0


def test_without_weights_nothing_is_estimated(table):
    table.begin(0, bound=math.inf)
    assert table.step({0: (rows_of(1)[0], 0)}) == 0
    assert "estimate" not in table.figures(0, 1)


def test_many_answers_in_one_step_do_not_mix(table):
    answers = {slot: rows_of(8, seed=slot) for slot in (0, 3, 7, 11)}
    for slot in answers:
        table.begin(slot, statistic=TOKENS, knots=[(slot, 0)])
    for made in range(8):
        asked = {slot: (rows[made], made) for slot, rows in answers.items() if made <= slot}
        assert table.step(asked) == sum(slot == made for slot in asked)
        for at, slot in enumerate(asked):
            assert (np.isfinite(table.logits[at]).sum() == 1) == (slot == made)
    for slot, rows in answers.items():
        seen = min(slot + 1, 8)
        assert table.figures(slot, seen) == pytest.approx(
            figures_of(rows[:seen]) | {"fired": float(slot < 8)}, rel=2e-5, abs=2e-5
        )


def test_the_reserved_token_is_never_sampled_of_a_watched_row(table):
    table.hidden = table.stop
    table.begin(0)
    row = rows_of(1)[0]
    row[table.stop] = 50
    table.step({0: (row, 0)})
    assert table.logits[0, table.stop] == -np.inf
    assert np.isfinite(table.logits[0]).sum() == len(row) - 1
    assert table.logits[0].argmax() != table.stop


def arrays(**changed):
    whole = {
        "orders": np.zeros((2, ORDER_FLOATS), np.float32),
        "states": np.zeros((2, 2, STATE_FLOATS), np.float32),
        "weights": np.zeros((2, 4), np.float32),
        "kept": np.zeros((2, 4), np.float32),
        "first_ids": np.arange(4, dtype=np.int32),
        "places": np.zeros(9, np.uint8),
    }
    return list((whole | changed).values())


@pytest.mark.parametrize(
    ("changed", "more", "message"),
    [
        ({"orders": np.zeros((2, 5), np.float32)}, {}, r"orders: expected shape \[2, 32\], got \[2, 5\]"),
        ({"states": np.zeros((2, 16), np.float32)}, {}, r"states: expected shape \[2, 2, 16\], got \[2, 16\]"),
        ({"kept": np.zeros((2, 5), np.float32)}, {}, r"kept: expected shape \[2, 4\], got \[2, 5\]"),
        ({"first_ids": np.array([0, 1, 2, 9], np.int32)}, {}, "first_ids: expected tokens from 0 to 8"),
        ({}, {"stop": 9}, "stop, hidden: expected tokens from 0 to 8, got 9 and -1"),
    ],
)
def test_refused(changed, more, message):
    with pytest.raises(ValueError, match=message):
        Watcher(*arrays(**changed), **{"stop": 1} | more)


def test_rows_that_are_not_there_are_refused():
    watcher = Watcher(*arrays(), stop=1)
    one = np.zeros(1, np.float32)
    with pytest.raises(ValueError, match="rows: expected rows from 0 to 0, got 1"):
        watcher.watch(np.zeros((1, 9), np.float32), np.ones(1, np.int32), np.zeros(1, np.int32), one, one)
    with pytest.raises(ValueError, match="logits: expected rows of 9 neighbouring values, got 8"):
        watcher.watch(np.zeros((1, 8), np.float32), np.zeros(1, np.int32), np.zeros(1, np.int32), one, one)
    with pytest.raises(ValueError, match="slots, generations, made: expected 1 of each, one a row"):
        watcher.watch(np.zeros((1, 9), np.float32), np.zeros(1, np.int32), np.zeros(2, np.int32), one, one)
