"""An engine is lost in the middle of an answer: another one goes on with it, and the client sees one answer."""

from typing import Any

import pytest

from router.errors import RouterError
from router.watched import Continued
from tests.pipeline.legs_world import World

HEAD = (
    b'data: {"id":"chat-1","object":"chat.completion.chunk","created":1764558000,"model":"large","choices":[{"index":0,'
)
EVENT = HEAD + b'"delta":{"content":"%b"},"logprobs":null,"finish_reason":null}]}\n\n'
TEXT = HEAD + b'"text":"%b","logprobs":null,"finish_reason":null}]}\n\n'
ROLE = HEAD + b'"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}\n\n'


async def test_an_answer_whose_engine_is_lost_goes_on_in_another_with_all_that_was_told() -> None:
    world = World()
    world.ask()
    large, small = world["large"], world["small"]
    large.tell("One", " two")
    large.die()
    assert small.last.continue_text == "One two"
    assert small.last.continued == Continued(
        id="chat-1", created=7, opened=True, completion_tokens=2, sent=7, model="large", wrote=(("large", 2),)
    )
    small.tell(" three.", finish="stop")
    small.done(12, 1)
    assert world.sink.text == "One two three."
    assert world.sink.usage.prompt_tokens == 10
    assert world.sink.usage.completion_tokens == 3
    record = world.record()
    assert [(leg.model, leg.why, leg.end, leg.lost) for leg in record.legs] == [
        ("large", "", "error", True),
        ("small", "lost", "finish", False),
    ]
    assert (record.end, record.model) == ("finish", "large")


@pytest.mark.parametrize("marked", [False, True])
async def test_the_engine_that_goes_on_says_whose_its_text_is_where_the_client_asks(marked: bool) -> None:
    world = World()
    world.ask(marked=marked)
    world["large"].tell("One")
    world["large"].die()
    small = world["small"]
    assert small.last.continued is not None
    assert small.last.continued.told is marked
    small.done(11, 1)
    world.record()


async def test_the_page_counts_an_answer_that_another_engine_went_on_with() -> None:
    world = World()
    world.ask()
    world["large"].tell("a")
    world["large"].die()
    world["small"].tell("b", finish="stop")
    world["small"].done(12, 1)
    world.record()
    page = world.router.metrics.render().decode()
    assert 'headgate_legs_total{model="large",to="small",what="lost"} 1.0' in page
    assert 'headgate_leg_tokens_total{as="told",model="small"} 1.0' in page


async def test_a_pinned_answer_goes_on_in_another_engine_of_its_model_only() -> None:
    world = World("small*2", "large")
    world.ask("small")
    first, second = sorted((world["small/0"], world["small/1"]), key=lambda engine: not engine.link.sent)
    first.tell("One")
    first.die()
    assert second.last.continue_text == "One"
    second.tell(" two", finish="stop")
    second.done(11, 1)
    assert world.sink.text == "One two"
    assert [leg.engine for leg in world.record().legs] == [first.member.name, second.member.name]


async def test_a_pinned_answer_of_a_model_with_one_engine_ends_in_an_error_in_the_stream() -> None:
    world = World()
    world.ask("large")
    world["large"].tell("One")
    world["large"].die()
    assert world["small"].link.sent == []
    assert "was lost" in world.sink.error
    assert world.record().end == "error"


async def test_a_replica_goes_on_before_another_model_does() -> None:
    world = World("small*2", "large", quality=(0.9, 0.3))
    world.ask()
    first, second = sorted((world["small/0"], world["small/1"]), key=lambda engine: not engine.link.sent)
    first.tell("One")
    first.die()
    assert second.last.continue_text == "One"
    assert world["large"].link.sent == []
    second.done(11, 1)


async def test_an_answer_that_loses_two_engines_is_not_handed_to_a_third() -> None:
    world = World("small", "middle", "large", quality=(0.2, 0.5, 0.8))
    world.ask()
    world["large"].tell("One")
    world["large"].die()
    world["middle"].tell(" two")
    world["middle"].die()
    assert world["small"].link.sent == []
    assert "not tried again" in world.sink.error
    assert world.sink.text == "One two"
    assert [leg.lost for leg in world.record().legs] == [True, True]


async def test_an_engine_that_cannot_go_on_with_a_text_is_not_asked_to() -> None:
    world = World(verbs=())
    world.ask()
    world["large"].tell("One")
    world["large"].die()
    assert world["small"].link.sent == []
    assert "was lost" in world.sink.error
    world.record()


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"choices": 2}, "several choices"),
        ({"needs": frozenset({"chat", "tools"})}, "tools"),
        ({"needs": frozenset({"chat", "structured"})}, "a grammar"),
        ({"stream": False}, "a whole answer, of which nothing was told"),
    ],
)
async def test_what_one_text_does_not_tell_is_not_gone_on_with(fields: dict[str, Any], why: str) -> None:
    world = World()
    for engine in world.engines.values():
        engine.member.described(frozenset({"chat", "tools", "structured"}), 4000)
    world.ask(**fields)
    world["large"].tell("One")
    world["large"].die()
    assert all(not submit.continue_text for submit in world["small"].link.sent), why
    assert isinstance(world.sink.end, RouterError)
    world.record()


async def test_a_stream_of_tool_calls_is_not_gone_on_with() -> None:
    world = World()
    world.ask()
    world["large"].event({"delta": {"tool_calls": [{"index": 0}]}, "index": 0})
    world["large"].die()
    assert world["small"].link.sent == []
    assert "was lost" in world.sink.error


async def test_an_answer_whose_end_was_told_is_not_gone_on_with() -> None:
    world = World()
    world.ask()
    world["large"].tell("One", finish="stop")
    world["large"].die()
    assert world["small"].link.sent == []
    assert world.sink.text == "One"
    assert "was lost" in world.sink.error


async def test_an_engine_that_fails_in_mid_answer_is_as_one_that_is_lost() -> None:
    world = World()
    world.ask()
    world["large"].tell("One")
    world["large"].fail(502)
    assert world["small"].last.continue_text == "One"
    world["small"].done(11, 1)
    world.record()


async def test_an_error_that_another_engine_would_give_too_ends_the_stream() -> None:
    world = World()
    world.ask()
    world["large"].tell("One")
    world["large"].fail(400, retryable=False, code="bad")
    assert world["small"].link.sent == []
    assert world.sink.error == "scripted"


async def test_who_cannot_take_the_rest_leaves_the_error_of_the_engine_that_was_lost() -> None:
    world = World()
    world.ask()
    world["large"].tell("One")
    world["small"].member.phase = "failed"
    world["large"].die()
    assert "'large' was lost" in world.sink.error
    world.record()


async def test_a_client_that_leaves_while_another_engine_goes_on_aborts_it_there() -> None:
    world = World()
    request = world.ask()
    world["large"].tell("One")
    world["large"].die()
    request.cancel()
    assert world.sink.ends == []
    record = world.record()
    assert record.end == "cancel"
    assert [leg.end for leg in record.legs] == ["error", "cancel"]


async def test_a_deadline_that_comes_while_another_engine_goes_on_ends_the_stream_and_aborts_it() -> None:
    world = World()
    request = world.ask(deadline_s=60.0)
    world["large"].tell("One")
    world["large"].die()
    assert world["small"].last.deadline_s > 0
    request._expire()
    assert "was not complete within" in world.sink.error
    world.record()


async def test_a_server_that_stops_while_another_engine_goes_on_ends_the_stream() -> None:
    world = World()
    world.ask()
    world["large"].tell("One")
    world["large"].die()
    await world.router.stop()
    assert "shutting down" in world.sink.error
    world.record()


async def test_a_receiver_that_breaks_behind_the_seam_ends_once_and_frees_the_engine() -> None:
    world = World()
    world.ask()
    world["large"].tell("One")
    world["large"].die()
    world.sink.breaks_at = "chunk"
    world["small"].tell("two")
    assert world.sink.error == "the answer could not be passed on"
    world.record()


async def test_a_pool_of_one_engine_keeps_nothing_of_its_answers() -> None:
    world = World("small", quality=(0.5,))
    request = world.ask()
    world["small"].tell("One")
    assert request.kept is None
    assert world.router._requests.kept_bytes == 0


async def test_an_answer_of_more_than_the_bound_is_kept_no_further_and_its_body_neither() -> None:
    world = World()
    request = world.ask()
    world["large"].tell("x" * 1000)
    assert request.kept is not None
    assert len(request.kept) > 1000
    for _ in range(11):
        world["large"].tell("x" * 100_000)
    assert request.kept is None
    assert request.body == b""
    assert world.router._requests.kept_bytes == 0
    world["large"].die()
    assert "was lost" in world.sink.error
    world.record()


@pytest.mark.parametrize(
    "chunks",
    [
        [EVENT % b"One", EVENT % b" two", EVENT % b' \\"three\\"'],
        [ROLE, EVENT % b"One", EVENT % b" two", b": a comment\n\n", EVENT % b""],
        [EVENT % b"\\\\", EVENT % b"x", EVENT % b"a" + EVENT % b"b", EVENT % b"c"],
        [TEXT % b"One", TEXT % b" two", EVENT % b"three"],
        [b"x", b"yz", b""],
        [b'{"content":"a', EVENT % b"b", EVENT % b"\xc3\xa4" * 40],
    ],
    ids=["quotes", "a role first", "several at once", "completions", "no events", "a cut one"],
)
async def test_what_is_kept_of_a_stream_is_all_of_it_to_the_byte(chunks: list[bytes]) -> None:
    world = World()
    request = world.ask()
    for chunk in chunks:
        world["large"].raw(chunk)
    assert request.kept == b"".join(chunks)
    request.cancel()
    world.record()


async def test_a_long_stream_is_kept_in_a_tenth_of_its_bytes() -> None:
    world = World()
    request = world.ask()
    before = world.router._requests.kept_bytes
    for _ in range(1000):
        world["large"].raw(EVENT % b" word")
    assert request.kept == EVENT % b" word" * 1000
    assert world.router._requests.kept_bytes - before < len(request.kept) / 10
    request.cancel()
