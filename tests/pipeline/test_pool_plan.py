"""What a pool becomes by one change, and which members go on."""

import re
from typing import Any

import pytest

from router.config import Member, engines_of
from router.errors import BadRequest, Conflict
from router.pipeline import pool_plan as plans


def member(name: str, **fields: Any) -> Member:
    return Member(name=name, model=fields.pop("model", "m"), **fields)


SMALL, LARGE = member("small"), member("large")
CANARY = member("next", model="n", replaces="large", weight=0.2, strength=0.7)


def names(plan: plans.Plan) -> list[str]:
    return [each.name for each in plan.pool]


def test_a_promoted_canary_has_the_place_and_the_name_of_its_member_and_goes_on() -> None:
    pool = (member("large", also=("big",)), SMALL, CANARY)
    for name in ("large", "next"):
        plan = plans.promote(pool, name)
        assert names(plan) == ["large", "small"]
        assert plan.kept == {"large": "next", "small": "small"}
        assert plan.pool[0] == member("large", model="n", strength=0.7, also=("big",))


def test_a_replacement_under_another_name_stands_in_the_same_place_and_is_started() -> None:
    plan = plans.replace((SMALL, LARGE), "small", (member("tiny"),))
    assert (names(plan), plan.kept) == (["tiny", "large"], {"large": "large"})


def test_a_replacement_under_the_same_name_has_its_other_names_too_unless_it_says_others() -> None:
    pool = (member("large", also=("big",)), SMALL)
    assert plans.replace(pool, "large", (member("large", model="n"),)).pool[0].also == ("big",)
    assert plans.replace(pool, "large", (member("large", also=("huge",)),)).pool[0].also == ("huge",)
    assert plans.replace(pool, "large", (member("other"),)).pool[0].also == ()


def test_a_replaced_canary_stays_a_canary_of_the_same_weight() -> None:
    plan = plans.replace((LARGE, CANARY), "next", (member("next", model="o"),))
    assert plan.pool[1] == member("next", model="o", replaces="large", weight=0.2)


@pytest.mark.parametrize("change", [plans.remove, lambda pool, name: plans.replace(pool, name, (member("x"),))])
def test_a_member_with_a_canary_stays_until_that_is_promoted_or_gone(change: Any) -> None:
    with pytest.raises(Conflict, match="'large' has a canary, 'next': `promote` it or `rollback` first"):
        change((SMALL, LARGE, CANARY), "large")


def test_a_file_that_says_what_it_said_changes_nothing_whatever_was_changed_since() -> None:
    assert plans.reread((LARGE,), (SMALL, LARGE), (SMALL, LARGE)) is None


def test_a_file_is_read_as_a_difference_to_what_it_said_before() -> None:
    there = (SMALL, LARGE, member("by hand"))
    plan = plans.reread(there, (SMALL, LARGE), (member("large", strength=0.5), member("new")))
    assert plan is not None
    assert names(plan) == ["large", "by hand", "new"]
    assert plan.kept == {"large": "large", "by hand": "by hand"}  # its strength is taken over while it runs


@pytest.mark.parametrize(
    ("fields", "goes_on"),
    [({"usd_per_hour": 9.0}, True), ({"like": "x"}, True), ({"also": ("a",)}, True), ({"model": "other"}, False),
     ({"engine_args": {"seed": 1}}, False), ({"env": {"A": "b"}}, False)],
)  # fmt: skip
def test_only_what_makes_another_engine_is_started_anew(fields: dict[str, Any], goes_on: bool) -> None:
    plan = plans.reread((SMALL, LARGE), (SMALL, LARGE), (SMALL, member("large", **fields)))
    assert plan is not None
    assert ("large" in plan.kept) == goes_on


def test_a_weight_that_changes_is_taken_over_by_the_canary_that_runs() -> None:
    after = member("next", model="n", replaces="large", weight=0.5, strength=0.7)
    plan = plans.reread((LARGE, CANARY), (LARGE, CANARY), (LARGE, after))
    assert plan is not None
    assert plan.kept == {"large": "large", "next": "next"}
    assert plan.pool[1].weight == 0.5


# Several engines of one model


def engines(name: str, count: int, **fields: Any) -> tuple[Member, ...]:
    return engines_of(member(name, replicas=count, **fields))


def test_a_model_of_several_engines_is_added_replaced_and_removed_as_one() -> None:
    pool = (*engines("small", 2), LARGE)
    assert names(plans.add((LARGE,), engines("small", 2))) == ["large", "small/0", "small/1"]
    plan = plans.replace(pool, "small", engines("small", 3, model="n"))
    assert (names(plan), plan.kept) == (["small/0", "small/1", "small/2", "large"], {"large": "large"})
    assert names(plans.replace(pool, "small", (member("tiny"),))) == ["tiny", "large"]
    assert names(plans.remove(pool, "small")) == ["large"]
    with pytest.raises(Conflict, match="there is a member 'small' already"):
        plans.add(pool, (member("small"),))


@pytest.mark.parametrize("change", [plans.remove, lambda pool, name: plans.replace(pool, name, (member("x"),))])
def test_one_engine_of_several_is_no_member_that_changes(change: Any) -> None:
    why = "'small/1' is one of several engines of 'small': `replicas` of that says how many there are"
    with pytest.raises(BadRequest, match=re.escape(why)):
        change((*engines("small", 2), LARGE), "small/1")


def test_a_promoted_canary_of_several_engines_gives_each_the_name_of_one_of_its_model() -> None:
    for old in (engines("large", 3, also=("big",)), (member("large", also=("big",)),)):
        pool = (*old, SMALL, *engines("next", 2, model="n", replaces="large", weight=0.2))
        plan = plans.promote(pool, "large")
        assert names(plan) == ["large/0", "large/1", "small"]
        assert plan.kept == {"large/0": "next/0", "large/1": "next/1", "small": "small"}
        assert {(each.replica_of, each.model, each.also, each.replaces) for each in plan.pool[:2]} == {
            ("large", "n", ("big",), "")
        }
        assert names(plans.roll_back(pool, "next")) == [*(each.name for each in old), "small"]


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        (2, 3, {"small/0": "small/0", "small/1": "small/1"}),
        (3, 2, {"small/0": "small/0", "small/1": "small/1"}),
        (1, 2, {"small/0": "small"}),
        (2, 1, {"small": "small/0"}),
    ],
)
def test_where_a_file_says_another_number_of_engines_those_that_there_are_go_on(
    before: int, after: int, kept: dict[str, str]
) -> None:
    old, new = (*engines("small", before), LARGE), (*engines("small", after), LARGE)
    plan = plans.reread(old, old, new)
    assert plan is not None
    assert plan.kept == {"large": "large", **kept}
    assert sorted(names(plan)) == sorted(each.name for each in new)
