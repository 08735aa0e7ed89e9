"""A draft stays until the one after it has something to tell."""

from tests.pipeline.legs_world import Legs


async def test_a_draft_is_told_where_the_next_model_fails_before_a_token_and_the_hold_is_over() -> None:
    world = Legs("small", "middle", "large", choice="cascade", quality=(0.2, 0.4, 0.8))
    request = world.ask()
    world["small"].tell("One", finish="stop")
    world["small"].done(10, 1)
    assert request.course is not None
    request.course.release()
    world["middle"].fail()
    assert world.sink.text == "One"
    assert [leg.model for leg in world.record().legs] == ["small", "middle"]
