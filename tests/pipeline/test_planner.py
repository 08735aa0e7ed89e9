"""What is put before the plan, with the real rule and the judge that nothing was trained for."""

from pathlib import Path
from typing import Any, Literal

import pytest

from router.config import Routing
from router.errors import ConfigError
from router.pipeline.legs.planner import Way, knots_left, statistic_of
from router.pipeline.legs.wiring import planner_of
from router.types import Query, Turn
from router.verify.evidence import Evidence
from router.watched import Figures, WatchSettings
from tests.pipeline.legs_world import World

PRICE = 100.0


def query(**fields: Any) -> Query:
    return Query(kind="chat", model="auto", turns=(Turn("user", "x"),), needs=frozenset({"chat"}), **fields)


def test_auto_without_a_verifier_decides_before_only_unless_a_request_asks() -> None:
    planner = planner_of(Routing())
    assert not planner.common
    assert planner.way(query()) is None
    assert planner.way(query(choice="cascade")) == Way(cascade=True)
    assert planner.way(query(choice="handoff")) == Way(handoff=True)


@pytest.mark.parametrize("choice", ["cascade", "handoff"])
def test_a_config_that_asks_for_legs_makes_them_common_and_a_request_may_refuse_them(
    choice: Literal["cascade", "handoff"],
) -> None:
    planner = planner_of(Routing(choice=choice))
    assert planner.common
    assert planner.way(query()) is not None
    assert planner.way(query(choice="before")) is None


async def test_a_draft_of_doubtful_figures_is_followed_and_one_of_sure_ones_is_not() -> None:
    world = World(choice="cascade", price=PRICE)
    planner = planner_of(Routing(choice="cascade"))
    decision = world.router.decide("What is it?", model="small")
    sure = planner.judged(decision, Evidence.of("x", "y", Figures(tokens=20, least_logprob=-0.1), "stop"))
    doubtful = planner.judged(decision, Evidence.of("x", "y", Figures(tokens=400, least_logprob=-9.0), "length"))
    assert doubtful < 0.2 < 0.6 < sure
    rest = world.router.decide("What is it?")
    large = next(i for i, term in enumerate(rest.terms) if term.model == "large")
    assert planner.after(rest, {"small": doubtful}, PRICE) == large
    assert planner.after(rest, {"small": 0.95}, PRICE) == -1


async def test_an_answer_that_runs_for_very_long_is_handed_over_and_one_that_just_began_is_not() -> None:
    world = World(quality=(0.7, 0.8))
    planner = planner_of(Routing(choice="handoff"))
    decision = world.router.decide("What is it?")
    small = next(i for i, term in enumerate(decision.terms) if term.model == "small")
    cheap, dear = sorted(term.cost_usd for term in decision.terms)
    price = 1.5 * 0.1 / (dear - cheap)  # at which the small one, .1 below the large one, is worth more

    def heir(tokens: int) -> int:
        able = [True, True]
        return planner.during(Way(handoff=True), decision, small, None, tokens, b"", price, able, stream=True)

    assert heir(2) == small
    assert heir(700) != small


@pytest.mark.parametrize(("way", "stream", "after"), [
    (Way(handoff=True), False, False), (Way(cascade=True, handoff=True), False, True),
    (Way(cascade=True, handoff=True), True, False),
])  # fmt: skip
async def test_a_boundary_counts_on_a_judgement_at_the_end_only_where_there_will_be_one(
    way: Way, stream: bool, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, planner = World(), planner_of(Routing(choice="handoff"))
    asked: list[bool] = []
    real = planner._rule.handover
    monkeypatch.setattr(
        planner._rule, "handover", lambda *a, after, **k: asked.append(after) or real(*a, after=after, **k)
    )
    decision = world.router.decide("What is it?", model="small")
    planner.opening(way, world.router.decide("What is it?", model="auto"), 0.0, [True, True], stream=stream)
    planner.opening(way, decision, 0.0, [True, True], stream=stream)
    assert set(asked) == {after}


async def test_nobody_who_cannot_go_on_with_a_text_is_chosen_for_it() -> None:
    world = World(price=1.0)
    decision = world.router.decide("What is it?")
    small = next(i for i, term in enumerate(decision.terms) if term.model == "small")
    able = [i == small for i in range(2)]
    planner = planner_of(Routing(choice="handoff"))
    assert planner.during(Way(handoff=True), decision, small, None, 700, b"", 1.0, able, stream=True) == small


def test_a_watch_that_was_overruled_pauses_and_then_goes_by_the_rest_of_its_boundary() -> None:
    watch = WatchSettings(statistic="logprob", knots=((10.0, -3.0), (50.0, -2.0), (200.0, -1.0)))
    assert knots_left(watch, 100) == WatchSettings(statistic="logprob", knots=((32.0, -2.0), (100.0, -1.0)))
    assert knots_left(watch, 300).knots == ((32.0, -1.0),)
    tokens = WatchSettings(statistic="tokens", knots=((64.0, 0.0),))
    assert knots_left(tokens, 64).knots == ()


def test_each_statistic_is_read_from_its_own_recent_mean() -> None:
    figures = Figures(recent_logprob=-1.0, recent_entropy=2.0, recent_margin=3.0)
    assert [statistic_of(name, figures) for name in ("logprob", "entropy", "margin", "tokens")] == [-1.0, 2.0, 3.0, 0.0]


async def test_a_verifier_that_cannot_be_read_is_refused_at_a_reload_and_all_stays_as_it_was(tmp_path: Path) -> None:
    world = World()
    before = world.router._desk.legs.planner
    with pytest.raises(ConfigError, match=r"nothing\.safetensors"):
        world.router.reload(Routing(verifier=str(tmp_path / "nothing.safetensors"), price=7.0))
    assert world.router._desk.legs.planner is before
    assert world.router.config.routing.price == 0.0
