"""Bounds on generated tokens."""

import pytest

from router.host.limits import TokenLimits


@pytest.mark.parametrize(
    ("asked", "clamps", "wanted"),
    [
        (None, True, 412),
        (5, True, 5),
        (412, False, 412),
        (413, True, 412),
        (413, False, None),  # earlier versions refuse
        (513, True, None),  # more than any context: vLLM refuses
        (0, True, None),
        (-1, True, None),
    ],
)
def test_asked(asked, clamps, wanted):
    assert TokenLimits(512, clamps, None, None).max_tokens(100, asked) == wanted


def test_the_models_own_bounds():
    assert TokenLimits(512, True, 50, None).max_tokens(100, None) == 50
    assert TokenLimits(512, True, 50, None).max_tokens(100, 60) == 60
    assert TokenLimits(512, True, 50, 30).max_tokens(100, 60) == 30


def test_a_full_context_is_left_to_vllm():
    assert TokenLimits(512, True, None, None).max_tokens(512, None) is None
    assert TokenLimits(512, True, None, None).max_tokens(600, 1) is None


@pytest.mark.parametrize(
    ("asked", "default", "override", "wanted"),
    [
        (50, None, None, 30),  # 20 were made before
        (20, None, None, 0),
        (5, None, None, 0),
        (None, 50, None, 30),
        (None, None, 40, 20),
        (None, None, None, 412),
        (1000, None, None, 412),  # what an engine with more room took is not refused in mid-answer
    ],
)
def test_what_other_engines_made_is_taken_off(asked, default, override, wanted):
    assert TokenLimits(512, False, default, override).left(100, asked, 20) == wanted


def test_nothing_is_left_of_a_full_context():
    assert TokenLimits(512, True, None, None).left(512, None, 20) == 0
    assert TokenLimits(512, True, None, None).left(600, 900, 20) == 0
