"""A member's level of answer lengths, learnt from its answers: against the twin, and what it is right about."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.native.lane import LaneLoad
from router.types import Timings, Usage
from tests.native import lengths_twin as twin


def answer(load: LaneLoad, id: int, told: tuple[float, float], real: int, *, cut: bool = False) -> None:
    load.submitted(10, id, -1.0, *told)
    load.answered(Usage(10, real, 0), Timings(0.1, 1.0), id, cut)
    load.ended()


def surplus(load: LaneLoad) -> float:
    return load.figures()["output_surplus"]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 1e-3, 1.0, 180.5, 3e4, 2.0**31, -5.0, math.inf, math.nan]) | st.floats(0.01, 1e6),
            st.sampled_from([0.0, 0.01, 0.5, 9.0, -1.0, math.inf, math.nan]),
            st.sampled_from([0, 1, 200, 10**6, 2**30]),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_the_level_equals_the_twins_after_any_answers(answers: list[tuple[float, float, int, bool]]) -> None:
    load, expected = LaneLoad(), twin.Level()
    for id, (tokens, log_sd, real, cut) in enumerate(answers, start=1):
        answer(load, id, (tokens, log_sd), real, cut=cut)
        expected.learn(tokens, log_sd, real, cut=cut)
        assert surplus(load) == pytest.approx(expected.surplus, rel=1e-9, abs=1e-12)
    assert -0.96 < surplus(load) < 19.1


def drawn(rng: random.Random, mean: float, log_sd: float) -> int:
    return max(1, round(mean * math.exp(rng.gauss(-(log_sd**2) / 2, log_sd))))


def test_answers_half_as_long_again_as_predicted_correct_the_level_by_a_half() -> None:
    rng, load = random.Random(1), LaneLoad()
    for id in range(1, 401):
        mean = rng.uniform(50, 500)
        answer(load, id, (mean, 0.4), drawn(rng, 1.5 * mean, 0.4))
    assert surplus(load) == pytest.approx(0.5, abs=0.2)
    assert load.model().lengths == 400
    assert 0.1 < load.model().error_length < 0.5


def test_answers_that_max_tokens_cuts_do_not_make_the_level_low() -> None:
    """Half of them are cut: to take those for whole answers, or to leave them out, would tell of shorter ones."""
    rng, load, naive = random.Random(2), LaneLoad(), LaneLoad()
    seen = []
    for id in range(1, 2001):
        real, most = drawn(rng, 200.0, 0.5), 176  # the median
        answer(load, id, (200.0, 0.5), min(real, most), cut=real > most)
        answer(naive, id, (200.0, 0.5), min(real, most))
        seen.append((surplus(load), surplus(naive)))
    level, wrong = (sum(each) / 1000 for each in zip(*seen[1000:], strict=True))
    assert abs(level) < 0.06
    assert wrong < -0.15
    assert load.model().lengths < 1100, "cut answers have no length to compare with"


def test_one_absurd_answer_moves_the_level_by_two_deviations_of_its_weight_at_most() -> None:
    load = LaneLoad()
    for id in range(1, 101):
        answer(load, id, (100.0, 0.2), 98)
    before = math.log1p(surplus(load))
    answer(load, 101, (100.0, 0.2), 2**30)
    assert math.log1p(surplus(load)) - before == pytest.approx(0.05 * 2 * 0.2)


def test_answers_without_a_length_or_a_prediction_teach_nothing() -> None:
    load = LaneLoad()
    answer(load, 1, (100.0, 0.2), 0)  # an asker's wish, as a judge's digit is
    answer(load, 2, (0.0, 0.0), 50)
    load.answered(Usage(10, 900, 0), Timings(0.1, 1.0), 77)  # of an id that was never submitted
    load.submitted(10, 5, -1.0, 100.0, 0.2)
    load.answered(Usage(10, 900, 0), Timings(0.1, 1.0), 5 + 1024)  # of another that fell in its place
    assert (surplus(load), load.model().lengths) == (0.0, 0)


def test_a_prediction_of_another_checkpoint_is_believed_after_some_answers() -> None:
    load = LaneLoad()
    for id in range(1, 1001):
        answer(load, id, (10.0, 0.3), 100)
    assert surplus(load) > 7
    for id in range(1001, 1401):
        answer(load, id, (100.0, 0.3), 100)
    assert surplus(load) == pytest.approx(0.05, abs=0.1)  # a mean of 100 has its median below
