"""Rules of the config, where requests may have several legs."""

from router.config import Rule, When
from tests.pipeline.legs_world import Legs

ALL = When(tokens_over=0)


async def test_a_rule_that_says_how_models_are_chosen_gives_a_request_several_legs() -> None:
    world = Legs(choice="before", rules=(Rule(name="drafts", when=ALL, choice="cascade"),))
    world.ask()
    world["small"].tell("One", finish="stop")
    assert world.sink.text == ""
    world["small"].done(10, 1)
    world["large"].tell("Two", finish="stop")
    world["large"].done(10, 1)
    assert world.sink.text == "Two"
    assert [(leg.model, leg.why) for leg in world.record().legs] == [("small", ""), ("large", "cascade")]


async def test_a_rule_that_says_before_leaves_a_request_one_leg() -> None:
    world = Legs(choice="cascade", rules=(Rule(name="once", when=ALL, choice="before"),))
    world.ask()
    assert world["small"].link.sent == []
    world["large"].tell("Two", finish="stop")
    assert world.sink.text == "Two"
    world["large"].done(10, 1)
    assert [leg.model for leg in world.record().legs] == ["large"]


async def test_a_model_that_a_rule_pins_answers_though_another_would_begin() -> None:
    world = Legs(choice="cascade", rules=(Rule(name="best", when=ALL, pin="large"),))
    world.ask()
    assert world["small"].link.sent == []
    world["large"].tell("Two", finish="stop")
    world["large"].done(10, 1)
    assert world.sink.text == "Two"
    assert [leg.model for leg in world.record().legs] == ["large"]


async def test_a_draft_is_told_where_the_next_model_is_forbidden() -> None:
    world = Legs(choice="cascade", rules=(Rule(name="cheap", when=ALL, forbid=("large",)),))
    world.ask()
    world["small"].tell("One", finish="stop")
    world["small"].done(10, 1)
    assert world["large"].link.sent == []
    assert world.sink.text == "One"
    assert [leg.model for leg in world.record().legs] == ["small"]
