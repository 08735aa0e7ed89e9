"""What engines are taken to answer, in tokens, is learnt of whole answers."""

from tests.pipeline.test_handoffs import stop, world_of


async def test_the_rest_of_an_answer_does_not_tell_how_long_answers_of_its_model_are() -> None:
    world = world_of()
    world.ask()
    before = world["large"].member.state().mean_output_tokens
    stop(world)
    world["large"].tell(" three", finish="stop")
    world["large"].done(12, 1)
    assert world["large"].member.state().mean_output_tokens == before
    world.record()


async def test_a_whole_answer_tells_how_long_answers_of_its_model_are() -> None:
    world = world_of()
    world.ask()
    before = world["small"].member.state().mean_output_tokens
    world["small"].tell("One", finish="stop")
    world["small"].done(10, 1)
    assert world["small"].member.state().mean_output_tokens < before
    world.record()
