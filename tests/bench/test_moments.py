"""What the bench of decisions before, during and after an answer makes of turns, and which settings it runs."""

import argparse

import moments
import moments_curves
import pytest
from moments_asking import Reply, Turn, _statistic
from moments_curves import Point


def point(policy: str, scores: list[float], seconds: float, large: int = 0, small: int = 0, writer: str = "") -> Point:
    made = Point(policy, writer, 0.0)
    made.add(Turn(scores, seconds, {"small": small, "large": large}))
    return made


def test_turns_of_a_setting_are_summed():
    one = point("auto", [1.0, 0.0], 2.0, large=1, small=3)
    one.add(Turn([1.0, 1.0], 4.0, {"small": 1, "large": 5}))
    assert (one.accuracy, one.engine_s, one.large_share) == (0.75, 1.5, 0.6)


def test_of_settings_that_reach_an_accuracy_the_cheapest_counts_and_none_where_none_does():
    curve = moments_curves.by_policy(
        [point("auto", [1.0, 1.0], 8.0), point("auto", [1.0, 0.0], 1.0), point("auto", [1.0, 1.0], 6.0)]
    )["auto"]
    assert curve.cheapest(0.9).engine_s == 3.0
    assert curve.cheapest(1.1) is None
    assert curve.at(0.7).accuracy == 0.5
    assert curve.at(0.1) is None


def test_the_worst_gap_is_to_the_best_rival_at_no_higher_cost_with_its_noise():
    ours = moments_curves.by_policy([point("auto", [1.0, 1.0, 0.0, 0.0], 4.0), point("auto", [1.0] * 4, 8.0)])["auto"]
    rival = moments_curves.by_policy([point("length", [1.0, 1.0, 1.0, 0.0], 3.0)])["length"]
    gap, noise = moments_curves.worst_gap(ours, [rival])
    assert gap == -0.25
    assert noise == pytest.approx(0.5)
    assert moments_curves.worst_gap(ours, []) == (0.0, 0.0)


def test_figures_compare_engine_seconds_at_the_same_accuracy():
    curves = moments_curves.by_policy(
        [
            point("alone", [1.0, 0.0], 0.2, small=10, writer="s"),
            point("alone", [1.0, 1.0], 4.0, large=10, writer="l"),
            point("auto", [1.0, 1.0], 2.0, large=3, small=7), point("before", [1.0, 1.0], 3.0, large=8, small=2),
            point("least", [1.0, 1.0], 2.5), point("mean", [1.0, 0.0], 0.5), point("length", [1.0, 0.0], 0.5),
        ]
    )  # fmt: skip
    found = moments.figures(curves, "l")
    assert found["engine_vs_large"] == 0.5
    assert found["engine_vs_before"] == pytest.approx(2 / 3, abs=1e-4)
    assert found["engine_vs_cascade"] == 0.8
    assert found["engine_vs_length"] is None
    assert found["large_share"] == 0.3


def test_a_draft_is_judged_by_its_least_or_mean_log_probability():
    draft = Reply("x", "stop", {}, (-1.0, -3.0))
    assert (_statistic("least", draft), _statistic("mean", draft)) == (-3.0, -2.0)


@pytest.mark.parametrize("text", ["", "a", "1,-2", "nan"])
def test_numbers_that_are_none_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected numbers as in"):
        moments._numbers(text)


def test_rivals_are_set_for_each_model_that_may_write_the_draft_and_ours_for_each_price():
    args = moments.arguments().parse_args(["--prices", "1,2", "--shares", ".5", "--lengths", "8"])
    found = moments.settings(["s", "m", "l"], args)
    assert [one.writer for one in found if one.policy == "alone"] == ["s", "m", "l"]
    assert [one.parameter for one in found if one.policy == "auto"] == [1.0, 2.0]
    assert [(one.policy, one.writer) for one in found if one.parameter in (0.5, 8.0)] == [
        ("least", "s"), ("mean", "s"), ("length", "s"), ("least", "m"), ("mean", "m"), ("length", "m"),
    ]  # fmt: skip
