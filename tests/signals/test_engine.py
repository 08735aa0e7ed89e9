"""RE2's patterns. Skipped where it is not installed."""

import time

import pytest

from router.errors import ConfigError
from router.signals import engine


@pytest.fixture(autouse=True)
def re2() -> None:
    pytest.importorskip("re2")


def test_a_pattern_finds_in_whatever_case_and_in_half_characters() -> None:
    pattern = engine.compiled("foo(bar)+$", "w")
    assert pattern.search("a FOObarbar")
    assert not pattern.search("foo")
    assert pattern.search("\ud800 foobar")


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "w: expected a regular expression of RE2: missing ): ("),
        ("(?=a)", "it has neither looking around nor back-references"),
        (r"(a)\1", "it has neither looking around nor back-references"),
    ],
)
def test_what_is_no_pattern_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        engine.compiled(pattern, "w")
    assert why in str(refused.value)


def test_a_pattern_that_backtracking_would_take_for_ever_takes_milliseconds() -> None:
    pattern = engine.compiled("(a+)+b", "w")
    begun = time.process_time()
    assert not pattern.search("a" * 1_000_000)
    assert time.process_time() - begun < 1
