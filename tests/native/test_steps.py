"""Counts of native steps: what is native falls from step to step by what left, and every cause has a name."""

import pytest

from router.native.steps import CAUSES, STEPS, Steps


def test_a_request_that_leaves_is_counted_once_at_the_step_where_it_left() -> None:
    steps = Steps()
    for step, why in (("head", "header"), ("head", "header"), ("admit", "key"), ("frame", "url")):
        steps.count(CAUSES.index((step, why)))
    rows = steps.rows()
    assert [row for row in rows if row[1] == "false"] == [
        ("head", "false", "header", 2),
        ("admit", "false", "key", 1),
        ("frame", "false", "url", 1),
    ]
    native = {step: count for step, is_native, _, count in rows if is_native == "true"}
    assert tuple(sorted(native, key=STEPS.index)) == STEPS
    assert native == {"head": 2, "body": 2, "admit": 1, "score": 1, "decide": 1, "frame": 0, "pass_on": 0, "end": 0}


@pytest.mark.parametrize("cause", [-1, 0, len(CAUSES)])
def test_an_unknown_cause_is_refused(cause: int) -> None:
    with pytest.raises(ValueError, match=rf"expected 1 to {len(CAUSES) - 1}, got {cause}"):
        Steps().count(cause)


def test_causes_are_few_and_no_two_are_alike() -> None:
    """They are labels of a metric."""
    assert len(set(CAUSES)) == len(CAUSES) < 40
    assert {step for step, _ in CAUSES[1:]} == set(STEPS)
