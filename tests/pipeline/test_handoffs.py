"""The watch stops an answer: the plan says who goes on with its text, and the client sees one stream."""

import json
from typing import Any

import pytest

from router.errors import RouterError
from router.ipc.messages import Hello
from router.types import Usage
from router.watched import Continued, Figures
from tests.pipeline.legs_world import Legs

SEEN = Figures(tokens=2, recent_logprob=-2.0)


def world_of(**fields: Any) -> Legs:
    return Legs(choice="handoff", **fields)


def stop(world: Legs, text: str = "One two", told: str = "One two", tokens: int = 2, **fields: Any) -> None:
    """The small model's answer, `told` so far, at `text`."""
    if told:
        world["small"].tell(told)
    continued = Continued(
        id="chat-1", created=7, opened=bool(told), prompt_tokens=10, completion_tokens=tokens, sent=len(told),
        model="small", wrote=(("small", tokens),),
    )  # fmt: skip
    world["small"].handoff(text, tokens, figures=SEEN, continued=continued, **fields)


async def test_an_answer_is_watched_by_the_plans_boundary() -> None:
    world = world_of()
    world.ask()
    watch = json.loads(world["small"].last.watch)
    assert watch == {"statistic": "tokens", "knots": [[20.0, -1.0], [100.0, -0.5]]}


async def test_a_stopped_answer_is_handed_over_and_the_stream_goes_on_as_one() -> None:
    world = world_of()
    world.ask()
    stop(world, text="One two three", told="One two")
    large = world["large"].last
    assert large.continue_text == "One two three"
    assert large.continued is not None
    assert (large.continued.sent, large.continued.id, large.continued.wrote) == (7, "chat-1", (("small", 2),))
    assert large.watch == b""
    world["large"].tell(" three", " four", finish="stop")
    world["large"].done(12, 2)
    assert world.sink.text == "One two three four"
    assert world.sink.usage == Usage(10, 4)
    assert world.sink.decision is not None
    assert world.sink.decision.model == "small"
    record = world.record()
    assert [(leg.model, leg.why, leg.end, leg.completion_tokens) for leg in record.legs] == [
        ("small", "", "finish", 2),
        ("large", "handoff", "finish", 2),
    ]
    assert record.legs[0].figures == SEEN
    assert (record.model, record.prompt_tokens, record.completion_tokens) == ("small", 10, 4)
    assert 'headgate_legs_total{model="small",to="large",what="handoff"} 1.0' in world.router.metrics.render().decode()


async def test_an_answer_that_is_worth_more_where_it_is_goes_on_there_and_is_watched_further() -> None:
    world = world_of()
    world.rule.over = False
    world.ask()
    stop(world)
    small = world["small"]
    assert len(small.link.sent) == 2
    assert world["large"].link.sent == []
    assert small.last.continue_text == "One two"
    assert json.loads(small.last.watch)["knots"] == [[98.0, -0.5]]
    small.tell(" three", finish="stop")
    small.done(12, 1)
    assert world.sink.text == "One two three"
    assert [leg.why for leg in world.record().legs] == ["", "go_on"]


async def test_an_answer_that_was_stopped_twice_goes_on_without_a_bound() -> None:
    world = world_of()
    world.rule.over = False
    world.ask()
    stop(world)
    stop(world, text="One two three", told=" three", tokens=3)
    assert len(world["small"].link.sent) == 3
    assert "knots" not in json.loads(world["small"].last.watch)
    world["small"].done(13, 1)
    world.record()


async def test_an_answer_is_handed_over_once_only() -> None:
    world = world_of()
    world.ask()
    stop(world)
    assert world["large"].last.watch == b""
    world["large"].handoff("One two three", 1, continued=Continued(completion_tokens=3, sent=7, opened=True))
    assert world["large"].last.continue_text == "One two three"
    assert len(world["small"].link.sent) == 1
    world["large"].done(13, 1)
    world.record()


async def test_a_whole_answer_is_handed_over_with_all_of_its_text_unsent() -> None:
    world = world_of()
    world.ask(stream=False)
    stop(world, told="")
    large = world["large"].last
    assert large.continue_text == "One two"
    assert large.continued is not None
    assert large.continued.sent == 0
    world["large"].raw(b'{"choices":[{"message":{"content":"One two three"}}]}')
    world["large"].done(12, 1)
    assert b"".join(world.sink.chunks) == b'{"choices":[{"message":{"content":"One two three"}}]}'
    assert world.sink.usage == Usage(10, 3)
    world.record()


async def test_an_answer_stopped_before_its_first_token_is_the_next_models_from_the_start() -> None:
    world = world_of()
    world.ask()
    world["small"].handoff("", 0, figures=Figures())
    large = world["large"].last
    assert (large.continue_text, large.continued) == ("", None)
    world["large"].tell("All", finish="stop")
    world["large"].done(10, 1)
    assert world.sink.decision is not None
    assert world.sink.decision.model == "large"
    assert world.record().model == "large"


async def test_an_engine_that_refuses_the_text_leaves_it_to_its_writer() -> None:
    world = world_of()
    world.ask()
    stop(world)
    world["large"].fail(400, retryable=False, code="not_continuable")
    assert world["small"].last.continue_text == "One two"
    world["small"].tell(" three", finish="stop")
    world["small"].done(12, 1)
    assert world.sink.text == "One two three"
    assert [(leg.why, leg.end) for leg in world.record().legs] == [
        ("", "finish"),
        ("handoff", "error"),
        ("go_on", "finish"),
    ]


async def test_an_heir_that_is_lost_before_its_first_token_leaves_the_text_to_its_writer() -> None:
    world = world_of()
    world.ask()
    stop(world)
    world["large"].die()
    assert world["small"].last.continue_text == "One two"
    world["small"].done(12, 1)
    assert not isinstance(world.sink.end, RouterError)
    world.record()


async def test_an_heir_that_is_lost_behind_the_seam_is_gone_on_with_by_the_writer() -> None:
    world = world_of()
    world.ask()
    stop(world)
    world["large"].tell(" three")
    world["large"].die()
    small = world["small"].last
    assert small.continue_text == "One two three"
    assert small.continued is not None
    assert (small.continued.completion_tokens, small.continued.prompt_tokens) == (3, 10)
    assert small.continued.wrote == (("small", 2), ("large", 1))
    world["small"].tell(" four", finish="stop")
    world["small"].done(13, 1)
    assert world.sink.text == "One two three four"
    assert world.sink.usage == Usage(10, 4)
    world.record()


async def test_a_writer_that_is_lost_before_the_watch_stops_it_is_gone_on_with_by_the_other() -> None:
    world = world_of()
    world.ask()
    world["small"].tell("One")
    world["small"].die()
    assert world["large"].last.continue_text == "One"
    world["large"].done(11, 1)
    world.record()


async def test_a_text_that_nobody_can_go_on_with_ends_in_an_error_in_the_stream() -> None:
    world = world_of()
    world.ask()
    world["large"].member.phase = "failed"
    world["small"].tell("One two")
    world["small"].member._hello = Hello(role="host")
    stop(world, told="")
    assert "nothing continues it" in world.sink.error
    world.record()


async def test_no_boundary_is_set_where_the_engines_cannot_go_on_with_a_text() -> None:
    world = world_of(verbs=("watch",))
    world.ask()
    assert json.loads(world["small"].last.watch) == {}


@pytest.mark.parametrize("over", [True, False], ids=["handed over", "going on"])
async def test_a_client_that_leaves_behind_the_seam_frees_the_engine(over: bool) -> None:
    world = world_of()
    world.rule.over = over
    request = world.ask()
    stop(world)
    request.cancel()
    assert world.record().end == "cancel"


async def test_a_deadline_behind_the_seam_ends_the_stream_and_frees_the_engine() -> None:
    world = world_of()
    request = world.ask(deadline_s=60.0)
    stop(world)
    request._expire()
    assert "was not complete within" in world.sink.error
    world.record()


async def test_a_server_that_stops_behind_the_seam_ends_the_stream() -> None:
    world = world_of()
    world.ask()
    stop(world)
    await world.router.stop()
    assert "shutting down" in world.sink.error
    world.record()


async def test_a_judge_that_breaks_leaves_the_text_to_its_writer() -> None:
    world = world_of()
    world.ask()
    world.judge.broken = True
    stop(world)
    assert world["small"].last.continue_text == "One two"
    world["small"].done(12, 1)
    world.record()


async def test_a_receiver_that_breaks_behind_the_seam_ends_once_and_frees_the_engine() -> None:
    world = world_of()
    world.ask()
    stop(world)
    world.sink.breaks_at = "chunk"
    world["large"].tell(" three")
    assert world.sink.error == "the answer could not be passed on"
    world.record()


async def test_a_client_that_looks_behind_its_answer_is_told_whose_part_is_whose() -> None:
    world = world_of()
    world.ask(marked=True)
    assert world["small"].last.continued == Continued(told=True)
    other = world_of(verbs=("watch",))
    other.ask(marked=True)
    assert other["small"].last.continued is None
