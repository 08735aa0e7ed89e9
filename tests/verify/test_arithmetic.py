"""Sums that texts write out, found and worked out again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.verify.arithmetic import equations, evaluate, numbers, tokens


@pytest.mark.parametrize(
    ("text", "left", "right", "holds"),
    [
        ("so 16 - 3 = 13 eggs", 16 - 3, 13, True),
        ("1500 - 1500/4 = 1375", 1125, 1375, False),
        ("10 minutes * 3 puzzles = 30 minutes", 30, 30, True),
        ("3 x 4 = 12", 12, 12, True),
        ("3 packs x 4 = 13 rolls", 12, 13, False),
        ("2 * (27 + 3) = 60", 60, 60, True),
        ("2 + 3 * 4 = 14", 14, 14, True),
        ("7 - 3 - 2 = 2", 2, 2, True),
        ("20 / 1.5 = 13.33", 20 / 1.5, 13.33, True),  # rounded as written
        ("73 / 8 = 9", 9.125, 9, False),  # rounded, but not as written
        ("20% * 50 = 10", 10, 10, True),
        ("240 / 600 = 40", 0.4, 40, True),  # percent, unsaid
        ("$1,200 + $300 = $1,500", 1500, 1500, True),
        ("-6 + 3 = -3", -3, -3, True),
        ("all of them (3 + 4 = 7)", 7, 7, True),
        ("5 \\times 3 = 15", 15, 15, True),
        ("8 ÷ 2 = 4", 4, 4, True),
        ("9 − 2 = 7", 7, 7, True),
        ("0.6 \\* 10 = 6", 6, 6, True),
    ],
)
def test_a_sum_is_worked_out(text: str, left: float, right: float, holds: bool) -> None:
    (found,) = equations(tokens(text))
    assert (found.left, found.right, found.holds) == (pytest.approx(left), pytest.approx(right), holds)


def test_a_chain_is_checked_link_by_link() -> None:
    found = equations(tokens("<<500*105+250*150=52500+37500=80000>>80,000"))
    assert [one.holds for one in found] == [True, False]
    assert found[0].operands == (500, 105, 250, 150)
    assert found[0].operators == "*+*"


@pytest.mark.parametrize(
    "text",
    [
        "x = 5",
        "x * 4 + 8 = 40",  # algebra is no sum
        "2x + 4y = 70",
        "6s + 9 = 3s + 27",
        "12 / 0 = 0",
        "they sold 93 loaves and 39 cakes = nothing",
        "= 4",
        "3 + = 4",
        "5 = 5",
        "",
    ],
)
def test_what_is_no_sum_is_passed_over(text: str) -> None:
    assert equations(tokens(text)) == []


@pytest.mark.parametrize("text", ["1 2", "+", "(1", "1)", "1 +", "", "1 / 0", "()"])
def test_what_has_no_value(text: str) -> None:
    assert evaluate(tokens(text)) is None


def test_numbers() -> None:
    assert numbers(tokens("$1,234.50, 5%, .5 and 7")) == [1234.5, 0.05, 0.5, 7]


@given(st.text(alphabet=st.sampled_from("0123456789+-*/=().,x% \n<>"), max_size=200))
def test_any_text_is_read(text: str) -> None:
    for one in equations(tokens(text)):
        assert one.operators
        assert one.holds in (True, False)


@given(st.integers(0, 999), st.integers(1, 999), st.sampled_from("+-*"))
def test_right_sums_hold_and_wrong_ones_do_not(a: int, b: int, sign: str) -> None:
    value = {"+": a + b, "-": a - b, "*": a * b}[sign]
    (right,) = equations(tokens(f"{a} {sign} {b} = {value}"))
    (wrong,) = equations(tokens(f"{a} {sign} {b} = {value * 3 + 7}"))
    assert right.holds
    assert not wrong.holds
