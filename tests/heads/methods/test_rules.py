"""Rules by hand: what each condition means, and that no text makes the default ones slow."""

import time

import numpy as np
import pytest

from router.errors import ConfigError
from router.heads.methods.rules import READ, QueryRule, Rules, rules_of
from router.learn.routers.rules import DEFAULT


def holds(rule: QueryRule, text: str) -> bool:
    return bool(Rules([rule]).matches([[(text, 1.0)]])[0, 0])


@pytest.mark.parametrize(
    ("rule", "yes", "no"),
    [
        (
            QueryRule(name="r", words=("prove", "step by step")),
            ["Prove it.", "go STEP by step"],
            ["proven", "improve", ""],
        ),
        (QueryRule(name="r", words=("c++",)), ["in C++.", "c++"], ["c+", "objc++"]),
        (QueryRule(name="r", pattern=r"\bdef \w+\("), ["def f(x)"], ["undef f(", "def (x)"]),
        (QueryRule(name="r", longer=3), ["abcd"], ["abc", ""]),
        (QueryRule(name="r", shorter=3), ["ab", ""], ["abc"]),
        (QueryRule(name="r", foreign=0.5), ["北京", "привет a", "ab 北京"], ["", "12", "naïve", "abc 北"]),
        (QueryRule(name="r", words=("why",), longer=10), ["why is it so"], ["why", "a long text without"]),
    ],
)
def test_conditions(rule: QueryRule, yes: list[str], no: list[str]) -> None:
    assert [holds(rule, text) for text in yes] == [True] * len(yes)
    assert [holds(rule, text) for text in no] == [False] * len(no)


def test_a_conversation_counts_by_its_weights() -> None:
    rules = Rules([QueryRule(name="r", words=("why",))])
    found = rules.matches([[("why", 3.0), ("what", 1.0)], [("what", 1.0), ("why", 0.0)], []])
    np.testing.assert_allclose(found[:, 0], [0.75, 0, 0])


def test_length_is_of_the_whole_text_words_of_its_beginning() -> None:
    text = "a " * READ + "why"
    assert holds(QueryRule(name="r", longer=2 * READ), text)
    assert not holds(QueryRule(name="r", words=("why",)), text)


UNITS = [
    "\n",
    " ",
    "?",
    "? ",
    "1",
    "1 ",
    "- x",
    "1. ",
    "\t",
    "SELECT ",
    "return ",
    "def ",
    "$",
    "=",
    "= 1",
    "; ",
    "{",
    "x^",
]


@pytest.mark.parametrize("unit", [*UNITS, "\\", "`", "not", "\u0301", "北", "why ", "class a"])
def test_no_text_makes_the_default_rules_slow(unit: str) -> None:
    rules = Rules(DEFAULT)
    text = unit * (READ // len(unit)) + "!"
    start = time.thread_time()
    rules.matches([[(text, 1.0)]])
    assert time.thread_time() - start < 0.15


def test_a_file_of_something_else() -> None:
    with pytest.raises(ConfigError, match=r"x: expected `rules: \[\.\.\.\]`, a list of rules, got list"):
        rules_of([], "x")
    with pytest.raises(ConfigError, match="x: rules: Expected `array`, got `int`"):
        rules_of({"rules": 1}, "x")
