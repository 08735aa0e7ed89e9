"""Moments of requests: by rate, with bursts, by a recorded trace."""

import json

import numpy as np
import pytest

from router.errors import ConfigError
from router.learn.bench import arrivals
from router.learn.bench.arrivals import Arrivals, Burst


def test_evenly_spaced_requests_stand_one_over_the_rate_apart():
    assert arrivals.planned(Arrivals(poisson=False), 4.0, 1.0, 0).tolist() == [0.0, 0.25, 0.5, 0.75]


def test_poisson_has_the_rate_and_the_spread_of_independent_requests_and_a_seed_repeats_it():
    moments = arrivals.planned(Arrivals(), 50.0, 400.0, 1)
    gaps = np.diff(moments)
    assert len(moments) == pytest.approx(20_000, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.03)
    assert moments.max() < 400.0
    assert moments.tolist() == arrivals.planned(Arrivals(), 50.0, 400.0, 1).tolist()
    assert moments[0] != arrivals.planned(Arrivals(), 50.0, 400.0, 2)[0]


def test_a_burst_has_its_factor_of_the_rate_at_the_end_of_each_period():
    moments = arrivals.planned(Arrivals(poisson=False, burst=Burst(5.0, 2.0, 10.0)), 10.0, 20.0, 0)
    counts, _ = np.histogram(moments, bins=[0, 8, 10, 18, 20])
    assert counts.tolist() == [80, 100, 80, 100]


def test_more_requests_than_can_be_planned_are_refused():
    with pytest.raises(ConfigError, match="--rate: expected at most 5000000 requests"):
        arrivals.planned(Arrivals(), 1e6, 100.0, 0)


def trace_of(tmp_path, rows):
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_trace_out_of_order_is_put_in_order_and_counted(tmp_path):
    path = trace_of(tmp_path, [{"at_s": 5.0}, {"at_s": 3.0, "prompt": "first"}, {"at_s": 9.0}])
    found = arrivals.trace(path, speed=2.0)
    assert [one.at_s for one in found.arrivals] == [0.0, 1.0, 3.0]
    assert (found.arrivals[0].prompt, found.moved) == ("first", 1)


@pytest.mark.parametrize(
    ("row", "at_s", "tokens"),
    [
        ({"timestamp": 27482, "input_length": 6955, "output_length": 52}, 27.482, (6955, 52)),
        ({"TIMESTAMP": "1970-01-01 00:01:40.5000000", "ContextTokens": 4, "GeneratedTokens": 5}, 100.5, (4, 5)),
        ({"type": "request", "time_s": 3.5, "prompt_tokens": 8, "completion_tokens": 2}, 3.5, (8, 2)),
    ],
)
def test_public_traces_and_the_journal_are_read(tmp_path, monkeypatch, row, at_s, tokens):
    first = {**row, next(key for key in row if key.lower() in ("timestamp", "time_s")): 0}
    found = arrivals.trace(trace_of(tmp_path, [first, row])).arrivals[1]
    assert found.at_s == pytest.approx(at_s, abs=86_400.0 if "TIMESTAMP" in row else 1e-9)  # a date has a time zone
    assert (found.input_tokens, found.output_tokens) == tokens


@pytest.mark.parametrize("value", ["NaN", -1, "soon", None, True])
def test_a_time_that_is_none_is_refused_with_its_row(tmp_path, value):
    with pytest.raises(ConfigError, match=r"trace\.jsonl:2: at_s: expected seconds from 0"):
        arrivals.trace(trace_of(tmp_path, [{"at_s": 1}, {"at_s": value}]))


def test_a_trace_without_times_is_refused_with_what_was_looked_for(tmp_path):
    with pytest.raises(ConfigError, match=r"trace\.jsonl:1: expected a time under one of at_s, time_s"):
        arrivals.trace(trace_of(tmp_path, [{"prompt": "x"}]))
