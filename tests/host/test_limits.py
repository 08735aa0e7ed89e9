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
