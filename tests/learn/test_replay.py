"""A journal's decisions made again: alike by the config that made them, and each difference counted by its reason."""

from typing import Any

import msgspec
import pytest

from router.config import Config, Limits, Member, Routing, Server
from router.learn.replay import Change, Changed, Replay, Replayed
from router.observe.journal import FeedbackLine, Line
from router.observe.journal.lines import migrate
from router.observe.record import SCHEMA_VERSION, Decided, Record
from router.pipeline.decider import Decider
from router.policy import decide
from router.types import MemberState, Query, Snapshot, Turn

POOL = (
    Member(name="small", model="s", strength=0.44, usd_per_hour=1.0, gpu_share=0.5),
    Member(name="middle", model="m", strength=0.55, usd_per_hour=2.0, gpu_share=0.5),
    Member(name="large", model="l", strength=0.63, usd_per_hour=8.0, gpu_share=0.5),
)
ASKED = ("auto", "small", "l", "router-mf-0.4", "router-mf-0.99", "headgate/auto")


def config(*names: str, price: float = 50.0, **branches: Any) -> Config:
    pool = tuple(one for name in names or ("small", "middle", "large") for one in POOL if one.name == name)
    return Config(pool=pool, routing=Routing(price=price), **branches)


def journal(config: Config, *, prompts: bool = False) -> list[Line]:
    """As a server by `config` would write it: queries of all kinds, on members of differing load."""
    decider = Decider(config)
    lines: list[Line] = []
    for i in range(60):
        turns = (
            Turn("user", f"What is {i} + {i * i}?" if i % 2 else "Prove that there are infinitely many primes. " * i),
        )
        query = Query(kind="chat", model=ASKED[i % len(ASKED)], turns=turns, max_tokens=50 + i if i % 3 else None)
        members = tuple(
            MemberState(
                name=member.name, context_tokens=8192, capabilities=frozenset({"chat"}), waiting=i % 4,
                prefill_tokens_per_s=9e3 / (at + 1), time_per_output_token_s=0.01 * (at + 1),
                mean_output_tokens=100 + i, usd_per_s=member.usd_per_hour / 3600 * 0.5,
            )
            for at, member in enumerate(config.pool)
        )  # fmt: skip
        settings = decider.names.settings_of(query)
        decision = decide(query, decider.scoring.score(query), Snapshot(members), settings, id=f"d{i}")
        assert decision.numbers is not None
        numbers, kept = decision.numbers.record(), turns if prompts else None
        decided = Decided(model=decision.model, member=decision.member, reason=decision.reason, numbers=numbers)
        lines.append(
            Record(
                version=SCHEMA_VERSION, id=f"d{i}", request_id="r", time_s=1.0, kind="chat", asked=query.model,
                end="finish", status=200, model=decision.model, turns=kept, decision=decided,
            )
        )  # fmt: skip
    return lines


def replay(lines: list[Line], config: Config, **options: Any) -> Replayed:
    made = Replay(config, **options)
    for line in lines:
        made.add(line)
    return made.report()


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    return journal(config(), prompts=True)


def chosen(lines: list[Line]) -> dict[str, int]:
    models = [line.model for line in lines if isinstance(line, Record)]
    return {model: models.count(model) for model in models}


@pytest.mark.parametrize("order", [("small", "middle", "large"), ("large", "small", "middle")])
@pytest.mark.parametrize("score_again", [False, True])
def test_the_config_that_decided_decides_alike_whatever_the_order_of_its_pool(
    lines: list[Line], order: tuple[str, ...], score_again: bool
) -> None:
    assert set(chosen(lines)) == {"small", "middle", "large"}
    found = replay(lines, config(*order), score_again=score_again)
    assert (found.decisions, found.alike, found.changes, found.refused, found.undecidable) == (60, 60, (), {}, {})
    assert found.quality_before == found.quality_after > 0
    assert found.cost_usd_before == found.cost_usd_after > 0
    assert found.scores == ("default" if score_again else "recorded")
    assert replay(lines, config(*order), reprice=True).alike == 60


def test_at_another_price_decisions_change_and_what_that_is_worth_is_told(lines: list[Line]) -> None:
    found = replay(lines, config(price=0.0), ids=2)
    assert 0 < found.alike < found.decisions == 60
    assert all(isinstance(change, Change) and change.quality > 0 for change in found.changes)
    assert sum(change.decisions for change in found.changes) == 60 - found.alike
    assert found.quality_after - found.quality_before == pytest.approx(sum(one.quality for one in found.changes))
    assert found.cost_usd_after - found.cost_usd_before == pytest.approx(sum(one.cost_usd for one in found.changes))
    assert found.quality_after > found.quality_before
    assert found.cost_usd_after > found.cost_usd_before
    records = {line.id: line for line in lines if isinstance(line, Record)}
    assert len(found.changed) == 2
    for one in found.changed:
        assert isinstance(one, Changed)
        assert records[one.id].model == one.before != one.after


def test_a_model_that_the_config_lacks_is_passed_over_and_refused_to_who_asked_for_it(lines: list[Line]) -> None:
    found = replay(lines, config("small", "middle"))
    assert found.not_in_config == ("large",)
    assert found.refused == {"model_not_found": 10}
    assert found.decisions == 50
    assert {change.before for change in found.changes} == {"large"}
    assert {change.after for change in found.changes} <= {"small", "middle"}


def test_a_model_that_no_decision_knew_is_never_chosen_and_named(lines: list[Line]) -> None:
    huge = Member(name="huge", model="h", strength=0.9)
    found = replay(lines, Config(pool=(*POOL, huge), routing=Routing(price=50.0)))
    assert (found.alike, found.not_in_journal, found.not_in_config) == (60, ("huge",), ())


def test_records_that_do_not_tell_enough_are_counted_by_reason(lines: list[Line]) -> None:
    first = lines[0]
    assert isinstance(first, Record)
    assert first.decision is not None
    assert first.decision.numbers is not None
    replace = msgspec.structs.replace
    numbers = first.decision.numbers
    broken = [
        replace(numbers, members=numbers.members | {"usd_per_s": (1.0,)}),
        replace(numbers, question={"prompt_tokens": "many"}),
    ]
    others = [replace(first, decision=replace(first.decision, numbers=each)) for each in broken]
    others.append(replace(first, decision=replace(first.decision, member=7)))
    others.append(replace(first, decision=replace(first.decision, numbers=replace(numbers, models=("x", "y", "z")))))
    others.append(replace(first, decision=None))
    old = migrate({"type": "decision", "id": "d", "model": "small"})
    found = replay([*others, old, FeedbackLine(id="d0", score=1), first], config())
    assert found.decisions == 1
    why = found.undecidable
    assert sum(count for reason, count in why.items() if reason.startswith("its numbers do not fit together")) == 3
    assert why["the config has none of its models (x, y, z)"] == 1
    assert why["its decision's numbers are not in it: none was made, or an early release wrote it"] == 2
    unkept = replay([replace(first, turns=None)], config(), score_again=True)
    assert unkept.undecidable == {"its prompt was not kept, and cannot be scored again": 1}


@pytest.mark.parametrize(
    ("column", "value"), [("scores", {"quality": ("nan", 0.5, 0.5)}), ("members", {"usd_per_s": ("inf", 0.1, 0.1)})]
)
def test_a_record_whose_quality_or_cost_is_not_finite_leaves_the_sums_as_they_are(
    lines: list[Line], column: str, value: dict[str, Any]
) -> None:
    good = next(line for line in lines if isinstance(line, Record) and line.decision and line.decision.member == 0)
    assert good.decision is not None
    assert good.decision.numbers is not None
    numbers = good.decision.numbers
    bad = msgspec.structs.replace(numbers, **{column: getattr(numbers, column) | value})
    hostile = msgspec.structs.replace(good, decision=msgspec.structs.replace(good.decision, numbers=bad))
    found = replay([good, hostile], config())
    assert (found.decisions, found.undecidable) == (1, {"its quality or its cost is no finite number": 1})
    assert found == msgspec.structs.replace(replay([good], config()), undecidable=found.undecidable)


def test_what_no_model_may_take_by_the_other_config_is_refused(lines: list[Line]) -> None:
    found = replay(lines, config(server=Server(limits=Limits(waiting=1))))
    assert found.refused == {"overloaded": 45}
    assert found.decisions == 15


def test_repriced_members_cost_what_the_config_says(lines: list[Line]) -> None:
    free = tuple(msgspec.structs.replace(member, usd_per_hour=0.0) for member in POOL)
    found = replay(lines, Config(pool=free, routing=Routing(price=50.0)), reprice=True)
    assert (found.prices, found.cost_usd_before, found.cost_usd_after) == ("config", 0.0, 0.0)
    assert found.alike < 60
    at_no_price = replay(lines, config(price=0.0))
    assert {(one.before, one.after): one.decisions for one in found.changes} == {
        (one.before, one.after): one.decisions for one in at_no_price.changes
    }


def test_the_scores_of_another_checkpoint_are_used_only_where_they_are_asked_for(lines: list[Line]) -> None:
    guess = tuple(msgspec.structs.replace(member, strength=0.5) for member in POOL)
    recorded = replay(lines, Config(pool=guess, routing=Routing(price=0.0)))
    asked = replay(lines, Config(pool=guess, routing=Routing(price=0.0)), score_again=True)
    assert recorded.quality_before != asked.quality_before
