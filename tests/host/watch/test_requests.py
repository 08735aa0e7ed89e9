"""Slots of the table for answers, and what is read of them at their end."""

import logging
import math

import msgspec
import numpy as np
import pytest

from router.host.watch.requests import MOST_STOP_IDS, Watches
from router.host.watch.table import KEY
from router.native.row_statistics import Watcher
from router.watched import WatchSettings

STOP = 7


@pytest.fixture
def watches(table):
    return Watches(table, text_of=lambda token: f" t{token}")


@pytest.fixture
def engine(table):
    """Makes an answer of rows of logits; how many of its steps stopped it."""
    watcher = Watcher(
        table.orders, table.states, table.weights, table.kept, table.first_ids, table.places, stop=STOP, hidden=STOP
    )

    def make(watch, rows):
        _, slot, generation = watch.extra_args[KEY]
        return sum(
            watcher.watch(
                row[None, :].copy(),
                np.zeros(1, np.int32),
                np.array([slot], np.int32),
                np.array([generation], np.float32),
                np.array([made], np.float32),
            )
            for made, row in enumerate(rows)
        )

    return make


def settings(**given):
    return msgspec.json.encode(WatchSettings(**given))


def rows_of(count):
    return np.random.default_rng(0).normal(0, 3, (count, 300)).astype(np.float32)


def test_an_answers_figures_are_those_of_all_its_tokens(watches, engine):
    watch = watches.begin(settings(keep_first=True))
    assert (watch.stop, watch.figures(0), watch.first_logits(0)) == (STOP, None, b"")
    rows = rows_of(5)
    assert engine(watch, rows) == 0
    figures = watch.figures(5)
    tops = [row.max() - np.log(np.exp(row.astype(float) - 0).sum()) for row in rows]
    assert figures.tokens == 5
    assert figures.mean_logprob == pytest.approx(np.mean(tops), abs=1e-4)
    assert figures.first_logprob == pytest.approx(tops[0], abs=1e-4)
    assert not watch.stopped("stop", None, 5)
    assert len(watch.first_logits(5)) == 2 * 20


def test_a_row_after_the_end_is_not_counted(watches, engine):
    watch = watches.begin(settings())
    engine(watch, rows_of(6))
    assert watch.figures(5).tokens == 5


def test_tokens_that_a_stop_string_drops_leave_the_nearest_figures_after(watches, engine):
    watch = watches.begin(settings())
    engine(watch, rows_of(9))
    assert watch.figures(3).tokens == 8


def test_a_stop_of_ours_is_told_from_every_other_end(watches, engine):
    watch = watches.begin(settings(statistic="tokens", knots=((3, 0),)))
    assert engine(watch, rows_of(4)) == 1
    assert watch.stopped("stop", STOP, 4)
    assert not watch.stopped("stop", "stop text", 4)
    assert not watch.stopped("stop", None, 4)
    assert not watch.stopped("length", None, 4)
    assert not watch.stopped("stop", STOP, 9)
    assert watch.why(4) == "watch: tokens after 3 tokens"
    assert watch.look(4) == f" t{rows_of(4)[3].argmax()}"


def test_why_tells_the_statistic(watches, engine):
    watch = watches.begin(settings(statistic="entropy", knots=((2, 0.5),)))
    engine(watch, rows_of(2))
    assert watch.why(2) == f"watch: entropy {watch.figures(2).recent_entropy:.3f} after 1 tokens"
    first = watches.begin(settings(first_bound=0.0, first_weights=(0.0,) * 20, first_bias=-2.0))
    assert engine(first, rows_of(1)) == 1
    assert first.why(1) == "watch: log odds -2.00 by the first token"


def test_where_the_models_own_end_stops_rows_the_table_alone_tells(table, engine):
    watches = Watches(table, stop_is_end=True)
    watch = watches.begin(settings(statistic="tokens", knots=((3, 0),)))
    engine(watch, rows_of(4))
    assert watch.stopped("stop", None, 4)
    other = watches.begin(settings())
    engine(other, rows_of(4))
    assert not other.stopped("stop", None, 4)


def test_a_released_slot_is_its_own_no_more(watches, table, engine):
    watch = watches.begin(settings())
    engine(watch, rows_of(3))
    watch.release()
    watch.release()
    assert watch.figures(3) is None
    assert not table.orders[:, 0].any()
    before = table.states.copy()
    engine(watch, rows_of(4)[3:])  # a step that the engine had begun
    np.testing.assert_array_equal(table.states, before)
    again = [watches.begin(settings()) for _ in range(6)]
    assert len({each.extra_args[KEY][1] for each in again}) == 6
    assert all(each.figures(3) is None for each in again)


def test_more_answers_than_slots_are_answered_unwatched(watches, caplog):
    held = [watches.begin(settings()) for _ in range(6)]
    with caplog.at_level(logging.WARNING, "headgate.host"):
        assert watches.begin(settings()) is None
        assert watches.begin(settings()) is None
    assert [record.message for record in caplog.records] == [
        "an answer is not watched: 6 are watched already (said once)"
    ]
    held[2].release()
    assert watches.begin(settings()) is not None


@pytest.mark.parametrize(
    ("given", "request_", "why"),
    [
        ({}, {"n": 2}, "it has several choices"),
        ({}, {"keeps_stop": True}, "it asks for what ends it, `include_stop_str_in_output`"),
        ({}, {"stop_token_ids": [STOP]}, "its `stop_token_ids` are 64 or more, or hold the watch's"),
        ({}, {"stop_token_ids": range(100, 100 + MOST_STOP_IDS)}, "its `stop_token_ids` are 64 or more"),
        ({"first_weights": (1.0,) * 3}, {}, "first_weights: expected 20, got 3"),
        ({"knots": tuple((n, 0.0) for n in range(9))}, {}, "knots: expected at most 8 of finite numbers, got 9"),
        ({"knots": ((3, 0.0), (3, 1.0))}, {}, "knots: expected rising numbers of tokens"),
    ],
)
def test_what_cannot_be_watched_is_left_out_and_said(watches, caplog, given, request_, why):
    with caplog.at_level(logging.WARNING, "headgate.host"):
        assert watches.begin(settings(**given), **request_) is None
    assert why in caplog.text
    assert len([watches.begin(settings()) for _ in range(6)]) == 6  # no slot was lost


def test_an_answer_that_ignores_the_models_end_is_not_stopped_by_it(table, caplog):
    with caplog.at_level(logging.WARNING, "headgate.host"):
        assert Watches(table, stop_is_end=True).begin(settings(), ignore_eos=True) is None
    assert "it ignores the model's end" in caplog.text
    assert Watches(table).begin(settings(), ignore_eos=True) is not None


@pytest.mark.parametrize("wanted", [b"{", b"[]", b'{"statistic": "mood"}', b'{"knots": 3}', b"\xff"])
def test_settings_that_cannot_be_read_are_said(watches, caplog, wanted):
    with caplog.at_level(logging.WARNING, "headgate.host"):
        assert watches.begin(wanted) is None
    assert "an answer is not watched: its settings cannot be read:" in caplog.text


def test_orders_are_written_as_the_engine_reads_them(watches, table):
    watch = watches.begin(
        settings(statistic="margin", knots=((4, 0.5), (9, 2.5)), first_bound=-1.5, first_bias=0.25, keep_first=True),
        min_tokens=3,
    )
    _, slot, generation = watch.extra_args[KEY]
    order = table.orders[slot]
    assert order[:8].tolist() == [generation, 2, 2, 3, -1.5, 0.25, 0, 1]
    assert order[8:12].tolist() == [4, 0.5, 9, 2.5]
    bare = watches.begin(b"{}")
    assert table.orders[bare.extra_args[KEY][1], 4] == -math.inf
