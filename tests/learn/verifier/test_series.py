"""An answer's figures from its tokens one by one: as csrc/watch.hpp keeps them."""

import math
import random

import pytest

from router.learn.verifier.series import Series, figures, moving_means
from router.watched import Figures


def test_figures_of_four_tokens_by_hand() -> None:
    found = figures(Series(logprobs=(-1, -3, 0, -2), entropies=(1, 2, 3, 4), margins=(4, 2, 6, 8)))
    assert found == Figures(
        tokens=4, mean_logprob=-1.5, least_logprob=-3, recent_logprob=-1.5, mean_entropy=2.5, recent_entropy=2.5,
        mean_margin=5, least_margin=2, recent_margin=5, first_logprob=-1, first_entropy=1,
    )  # fmt: skip


def test_from_the_sixteenth_token_on_the_latest_weighs_a_sixteenth() -> None:
    values = [random.Random(0).uniform(-5, 0) for _ in range(40)]
    found = moving_means(values)
    assert found[15] == pytest.approx(sum(values[:16]) / 16)
    assert found[16] == pytest.approx(15 / 16 * found[15] + values[16] / 16)
    assert found[39] == pytest.approx(15 / 16 * found[38] + values[39] / 16)


def test_figures_after_some_tokens_are_those_of_the_answer_so_far() -> None:
    values = (-0.5, -1.5, -0.25, -9.0)
    assert figures(Series(logprobs=values), 3).least_logprob == -1.5
    assert figures(Series(logprobs=values), 3).tokens == 3


def test_what_is_not_told_is_unknown_and_of_no_tokens_nothing_is() -> None:
    found = figures(Series(logprobs=(-1.0,)))
    assert math.isnan(found.mean_entropy)
    assert math.isnan(found.least_margin)
    assert figures(Series(logprobs=())) == Figures()
