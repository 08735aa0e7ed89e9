"""A draft is held back until it is judged: it is told, or another model answers. Whatever fails, a draft that is there
is told."""

import json
from typing import Any

import msgspec
import pytest

from router.types import Usage
from router.watched import Figures, WatchSettings
from tests.conftest import until
from tests.pipeline.legs_world import Legs

USAGE = '{"prompt_tokens":10,"total_tokens":12,"completion_tokens":2}'


def draft(world: Legs, *texts: str) -> None:
    world["small"].tell(*texts, finish="stop", usage=USAGE)


async def test_a_draft_that_is_good_enough_is_told_only_once_it_is_judged() -> None:
    world = Legs(says={"small": 0.9})
    world.ask()
    assert world["large"].link.sent == []
    draft(world, "Two", " words")
    assert world.sink.chunks == []
    figures = Figures(tokens=2, mean_logprob=-0.1)
    world["small"].done(10, 2, figures=figures)
    assert world.sink.text == "Two words"
    assert world.sink.usage == Usage(10, 2)
    assert world.sink.decision is not None
    assert world.sink.decision.model == "small"
    asked = world.judge.asked[0]
    assert (asked.prompt, asked.answer, asked.output_tokens) == ("What is it?", "Two words", 2)
    assert (asked.figures, asked.finish_reason) == (figures, "stop")
    record = world.record()
    assert [(leg.model, leg.dropped, leg.completion_tokens, leg.figures) for leg in record.legs] == [
        ("small", False, 2, figures)
    ]
    assert b"headgate" not in b"".join(world.sink.chunks)


async def test_a_draft_that_is_not_good_enough_is_dropped_for_the_next_models_answer() -> None:
    world = Legs(says={"small": 0.1})
    world.ask()
    draft(world, "Bad")
    world["small"].done(10, 2)
    large = world["large"].last
    assert (large.continue_text, large.continued) == ("", None)
    assert large.body == world["small"].last.body
    world["large"].tell("Good", id="chat-2", finish="stop", usage=USAGE)
    assert world.sink.text == "Good"
    world["large"].done(10, 2)
    assert world.sink.decision is not None
    assert (world.sink.decision.model, world.sink.decision.reason) == ("large", "cascade")
    last = b"".join(world.sink.chunks).split(b"\n\n")[-2]
    assert json.loads(last[6:])["usage"] == {
        "headgate": {"small": 2, "large": 2},
        "prompt_tokens": 10,
        "total_tokens": 12,
        "completion_tokens": 2,
    }
    record = world.record()
    assert [(leg.model, leg.why, leg.end, leg.dropped) for leg in record.legs] == [
        ("small", "", "finish", True),
        ("large", "cascade", "finish", False),
    ]
    assert (record.model, record.completion_tokens) == ("large", 2)
    assert record.legs[1].decision is not None
    page = world.router.metrics.render().decode()
    assert 'headgate_legs_total{model="small",to="large",what="cascade"} 1.0' in page
    assert 'headgate_legs_total{model="small",to="",what="dropped"} 1.0' in page
    assert 'headgate_leg_tokens_total{as="dropped",model="small"} 2.0' in page


async def test_what_both_answers_cost_is_in_the_record() -> None:
    world = Legs(says={"small": 0.1})
    world.ask()
    draft(world, "Bad")
    world["small"].done(10, 100)
    world["large"].tell("Good", finish="stop")
    world["large"].done(10, 100)
    record = world.record()
    small, large = record.legs
    assert small.engine_s is not None
    assert large.engine_s is not None
    assert small.engine_s > 0.9
    assert record.engine_s == pytest.approx(small.engine_s + large.engine_s)
    assert small.cost_usd is not None
    assert large.cost_usd is not None
    assert record.cost_usd == pytest.approx(small.cost_usd + large.cost_usd)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_second_model_that_fails_leaves_the_draft_to_the_client(stream: bool) -> None:
    world = Legs(says={"small": 0.1})
    world.ask(stream=stream)
    if stream:
        draft(world, "Draft")
    else:
        world["small"].raw(b'{"choices":[{"message":{"content":"Draft"}}],"usage":%b}' % USAGE.encode())
    world["small"].done(10, 2)
    world["large"].fail(500)
    assert b"Draft" in b"".join(world.sink.chunks)
    assert world.sink.usage == Usage(10, 2)
    record = world.record()
    assert (record.end, record.model) == ("finish", "small")
    assert [(leg.model, leg.end, leg.dropped) for leg in record.legs] == [
        ("small", "finish", False),
        ("large", "error", False),
    ]


async def test_a_second_engine_that_is_lost_leaves_the_draft_to_the_client() -> None:
    world = Legs(says={"small": 0.1})
    world.ask()
    draft(world, "Draft")
    world["small"].done(10, 2)
    world["large"].die()
    assert world.sink.text == "Draft"
    assert [leg.lost for leg in world.record().legs] == [False, True]


async def test_a_second_engine_that_takes_nothing_leaves_the_draft_to_the_client() -> None:
    world = Legs(says={"small": 0.1})
    world.ask()
    draft(world, "Draft")
    world["large"].member._link = None
    world["small"].done(10, 2)
    assert world.sink.text == "Draft"
    assert [leg.error for leg in world.record().legs] == ["", "service_unavailable"]


async def test_a_second_engine_that_is_lost_in_mid_answer_is_gone_on_with() -> None:
    world = Legs(says={"small": 0.1})
    world.ask()
    draft(world, "Bad")
    world["small"].done(10, 2)
    world["large"].tell("Good", id="chat-2")
    world["large"].die()
    go_on = world["small"].last
    assert go_on.continue_text == "Good"
    assert go_on.continued is not None
    assert go_on.continued.wrote == (("small", 2), ("large", 1))
    world["small"].tell(" end", id="chat-2", finish="stop")
    world["small"].done(12, 1)
    assert world.sink.text == "Good end"
    assert [leg.why for leg in world.record().legs] == ["", "cascade", "lost"]


async def test_a_draft_whose_engine_is_lost_is_made_again_elsewhere() -> None:
    world = Legs("small", "middle", "large", quality=(0.2, 0.5, 0.8), says={"middle": 0.9})
    world.ask()
    world["small"].tell("Half")
    world["small"].die()
    assert world.sink.chunks == []
    again = next(engine for engine in world.engines.values() if engine.link.running)
    again.tell("Whole", finish="stop")
    again.done(10, 2)
    assert world.sink.text == "Whole"
    assert [leg.retried for leg in world.record().legs] == [True, False]


async def test_three_models_run_one_after_the_other_and_the_best_draft_is_told_where_the_last_one_fails() -> None:
    world = Legs("small", "middle", "large", quality=(0.2, 0.5, 0.8), says={"small": 0.3, "middle": 0.2})
    world.ask()
    draft(world, "First")
    world["small"].done(10, 2)
    world["middle"].tell("Second", finish="stop")
    assert world.sink.chunks == []
    world["middle"].done(10, 2)
    world["large"].fail(500)
    assert world.sink.text == "First"
    assert [(leg.model, leg.dropped) for leg in world.record().legs] == [
        ("small", False),
        ("middle", True),
        ("large", False),
    ]


async def test_a_judge_that_breaks_leaves_the_draft_to_the_client() -> None:
    world = Legs(says={"small": 0.1})
    world.ask()
    draft(world, "Draft")
    world.judge.broken = True
    world["small"].done(10, 2)
    assert world.sink.text == "Draft"
    assert world["large"].link.sent == []
    world.record()


async def test_a_draft_that_is_held_back_for_too_long_is_told_and_told_on_and_final() -> None:
    world = Legs(says={"small": 0.1}, hold_s=0.05)
    world.ask()
    world["small"].tell("Slow")
    await until(lambda: world.sink.text == "Slow")
    world["small"].tell(" end", finish="stop")
    assert world.sink.text == "Slow end"
    world["small"].done(10, 2)
    assert world["large"].link.sent == []
    assert world.sink.usage == Usage(10, 2)
    world.record()


async def test_a_draft_of_more_bytes_than_may_be_held_is_told_at_once() -> None:
    world = Legs(says={"small": 0.1})
    world.ask()
    for _ in range(11):
        world["small"].tell("x" * 100_000)
    assert len(world.sink.text) == 1_100_000
    world["small"].done(10, 2)
    assert world["large"].link.sent == []
    world.record()


async def test_a_client_that_leaves_while_a_draft_is_held_frees_the_engine_and_is_told_nothing() -> None:
    world = Legs()
    request = world.ask()
    world["small"].tell("Held")
    request.cancel()
    assert (world.sink.chunks, world.sink.ends) == ([], [])
    assert world.record().end == "cancel"


async def test_a_client_that_leaves_while_the_second_model_runs_frees_that_engine() -> None:
    world = Legs(says={"small": 0.1})
    request = world.ask()
    draft(world, "Bad")
    world["small"].done(10, 2)
    request.cancel()
    record = world.record()
    assert [(leg.model, leg.end) for leg in record.legs] == [("small", "finish"), ("large", "cancel")]


async def test_a_deadline_that_comes_while_a_draft_is_held_ends_in_an_error() -> None:
    world = Legs()
    request = world.ask(deadline_s=60.0)
    world["small"].tell("Held")
    request._expire()
    assert "was not complete within" in world.sink.error
    world.record()


async def test_a_deadline_that_comes_while_the_second_model_runs_tells_the_draft() -> None:
    world = Legs(says={"small": 0.1})
    request = world.ask(deadline_s=60.0)
    draft(world, "Draft")
    world["small"].done(10, 2)
    request._expire()
    assert world.sink.text == "Draft"
    assert world.record().end == "finish"


@pytest.mark.parametrize("judged", [False, True], ids=["held", "the second runs"])
async def test_a_server_that_stops_ends_a_cascade_in_an_error_and_frees_its_engine(judged: bool) -> None:
    world = Legs(says={"small": 0.1})
    world.ask()
    draft(world, "Bad")
    if judged:
        world["small"].done(10, 2)
    await world.router.stop()
    assert "shutting down" in world.sink.error
    world.record()


@pytest.mark.parametrize("at", ["start", "chunk", "done"])
async def test_a_receiver_that_breaks_as_a_draft_is_told_ends_once(at: str) -> None:
    world = Legs(says={"small": 0.9})
    world.sink.breaks_at = at
    world.ask()
    draft(world, "Draft")
    world["small"].done(10, 2)
    assert len(world.sink.ends) == 1
    world.record()


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"model": "small"}, "pinned"),
        ({"choices": 2}, "several choices"),
        ({"needs": frozenset({"chat", "tools"})}, "tools"),
        ({"choice": "before"}, "asked for"),
    ],
)
async def test_what_cannot_or_may_not_be_decided_again_is_told_as_it_comes(asked: dict[str, Any], why: str) -> None:
    world = Legs(quality=(0.8, 0.4))
    for engine in world.engines.values():
        engine.member.described(frozenset({"chat", "tools"}), 4000)
    request = world.ask(**asked)
    assert request.course is None, why
    world["small"].tell("Now")
    assert world.sink.text == "Now"
    assert world["small"].last.watch == b""
    world["small"].done()


async def test_a_model_that_no_other_can_better_is_told_as_it_comes() -> None:
    world = Legs(quality=(0.8, 0.4))
    world.ask()
    world["small"].tell("Now")
    assert world.sink.text == "Now"
    world["small"].done()


async def test_a_draft_is_watched_where_its_host_can_and_not_where_it_cannot() -> None:
    world = Legs()
    world.ask()
    assert msgspec.json.decode(world["small"].last.watch, type=WatchSettings) == WatchSettings()
    other = Legs(verbs=("continue",))
    other.ask()
    assert other["small"].last.watch == b""


async def test_auto_without_a_gain_decides_before_only() -> None:
    world = Legs(choice="auto", gains={"cascade": 0.0, "handoff": -0.1})
    request = world.ask()
    assert request.course is None
    assert world["small"].link.sent == []
    assert len(world["large"].link.sent) == 1


async def test_auto_holds_a_stream_where_a_cascade_gains_most_and_tells_it_where_a_hand_over_does() -> None:
    cascade = Legs(choice="auto", gains={"cascade": 0.2, "handoff": 0.1})
    cascade.ask()
    cascade["small"].tell("Held")
    assert cascade.sink.chunks == []
    handoff = Legs(choice="auto", gains={"cascade": 0.1, "handoff": 0.2})
    handoff.ask()
    handoff["small"].tell("Told")
    assert handoff.sink.text == "Told"


async def test_a_request_chooses_by_its_own_header() -> None:
    world = Legs(choice="before")
    request = world.ask(choice="cascade")
    assert request.course is not None
    assert len(world["small"].link.sent) == 1
