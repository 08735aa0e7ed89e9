"""A request's way: admitted, decided, submitted, retried, ended; and what the doors see of the pool."""

import asyncio
import gc
import threading
from typing import Any

import pytest

from router.config import Limits, Routing, Server
from router.errors import (
    BadRequest,
    ContextTooLong,
    DeadlineExceeded,
    EngineFailed,
    EngineLost,
    ModelNotFound,
    NoEngine,
    Overloaded,
    UpstreamError,
)
from router.ipc.messages import Done, Handoff
from router.pipeline import desk as desk_module
from router.pool.base import Failure
from tests.conftest import until

DIED = Failure(EngineFailed("the engine died"), retryable=True)
TOO_LONG = Failure(ContextTooLong("too long"), retryable=True, context=True)
REFUSED = Failure(UpstreamError(400, b"{}", "refused"))


def test_an_answer_comes_through(two: Any) -> None:
    pool = two()
    pool.submit(request_id="r1", stream=True)
    (call,) = pool.large.calls
    assert (call.work.request_id, call.work.prompt_tokens, call.work.stream) == ("r1", 10, True)
    assert pool.router.in_flight() == 1
    for data in (b"a", b"b", b"c"):
        call.chunk(data)
    call.receiver.done(Done(id=1))
    assert pool.sink.chunks == [b"a", b"b", b"c"]
    assert pool.sink.decision.model == "large"
    assert pool.sink.decision.reason == "utility"
    assert isinstance(pool.sink.end, Done)
    assert pool.router.in_flight() == 0
    assert pool.sink.violations == []


def test_the_conversation_is_let_go_of_with_the_first_chunk(two: Any) -> None:
    """An answer may take an hour, and no bound counts what its request's turns take of the memory."""
    pool = two()
    pool.submit(request_id="r1")
    (request,) = pool.router._requests
    assert request.query.turns
    pool.large.calls[0].chunk(b"a")
    assert (request.query.turns, request.body, request.query.request_id) == ((), b"", "r1")


def test_an_answer_without_chunks_is_started_and_done(two: Any) -> None:
    pool = two()
    pool.submit()
    pool.large.calls[0].receiver.done(Done(id=1))
    assert pool.sink.decision is not None
    assert pool.sink.violations == []


def test_decision_ids_differ(two: Any) -> None:
    pool = two()
    ids = {pool.router.decide(two_query("auto")).id for _ in range(100)}
    assert len(ids) == 100


def two_query(model: str) -> Any:
    from router.types import Query, Turn

    return Query(kind="chat", model=model, turns=(Turn("user", "x"),), needs=frozenset({"chat"}))


# Names


@pytest.mark.parametrize(
    ("model", "quality", "chosen", "reason"),
    [
        ("auto", (0.4, 0.8), "large", "utility"),
        ("headgate/auto", (0.8, 0.4), "small", "utility"),
        ("small", (0.4, 0.8), "small", "pinned"),
        ("org/small", (0.4, 0.8), "small", "pinned"),
        ("router-mf-0.9", (0.4, 0.8), "small", "threshold"),
        ("router-mf-0.116", (0.4, 0.8), "large", "threshold"),
        ("router-mf-0", (0.8, 0.4), "large", "threshold"),
        ("router-mf-1", (0.4, 0.9999), "small", "threshold"),
        ("router-mf-.5", (0.4, 0.8), "large", "threshold"),
    ],
)
def test_what_a_model_name_means(two: Any, model: str, quality: tuple[float, float], chosen: str, reason: str) -> None:
    pool = two()
    # `strong` is fixed at start, from what an empty text scores: the second member.
    pool.router._decider.scoring.quality = quality
    decision = pool.router.decide(two_query(model))
    assert (decision.model, decision.reason) == (chosen, reason)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("smal", "model 'smal' does not exist; did you mean 'small'\\? there are auto, small, large"),
        ("gpt-4", "model 'gpt-4' does not exist; there are auto, small, large"),
        ("router-bert-0.5", "a RouteLLM name reads `router-mf-THRESHOLD`"),
        ("router-mf-1.5", "a RouteLLM name reads `router-mf-THRESHOLD`"),
        ("router-mf-nan", "a RouteLLM name reads `router-mf-THRESHOLD`"),
        ("", "model '' does not exist"),
    ],
)
def test_an_unknown_model_is_told_what_exists(two: Any, model: str, message: str) -> None:
    pool = two()
    with pytest.raises(ModelNotFound, match=message) as error:
        pool.submit(model)
    assert error.value.param == "model"
    assert pool.router.in_flight() == 0


@pytest.mark.parametrize(
    ("router", "model", "accepted"),
    [
        ("knn", "router-knn-0.5", True),
        ("knn", "router-mf-0.5", True),
        ("knn", "router-random-0.5", False),
        ("sw_ranking", "router-sw_ranking-.5", True),
        ("classifier", "router-bert-0.5", True),
        ("classifier", "router-classifier-1", True),
        ("my-own.2", "router-my-own.2-0.5", True),
        ("mf", "router-knn-0.5", False),
    ],
)
def test_a_threshold_of_the_method_that_is_served(two: Any, router: str, model: str, accepted: bool) -> None:
    from router.pipeline.model_names import Names

    settings = two().router.config
    names = Names(settings.pool, settings.routing, settings.server.limits, strong=1, weak=0, router=router)
    if accepted:
        assert names.settings(model).rule == "threshold"
        return
    with pytest.raises(ModelNotFound, match="a RouteLLM name reads `router-mf-THRESHOLD`") as error:
        names.settings(model)
    assert router == "mf" or f"or `router-{router}-THRESHOLD`" in str(error.value)


def test_a_threshold_in_the_config_rules_auto(two: Any) -> None:
    pool = two(routing=Routing(threshold=0.95))
    assert pool.router.decide(two_query("auto")).model == "small"
    pool.router.reload(Routing(threshold=0.5))
    assert pool.router.decide(two_query("auto")).model == "large"
    pool.router.reload(Routing(price=1e6))
    assert pool.router.decide(two_query("auto")).model == "small"


def test_models_lists_auto_first(two: Any) -> None:
    cards = two().router.models()
    assert [(card.id, card.context_tokens) for card in cards] == [("auto", 0), ("small", 1000), ("large", 4000)]
    assert [card.root for card in cards] == ["org/large", "org/small", "org/large"], "of `auto`: the strongest member's"


# Admission


def test_over_the_bound_of_requests_in_flight(two: Any) -> None:
    pool = two(server=Server(limits=Limits(in_flight=2)))
    first = pool.submit()
    pool.submit()
    with pytest.raises(Overloaded, match="2 requests are in flight, the most allowed") as error:
        pool.submit()
    assert error.value.retry_after_s
    first.cancel()
    pool.submit()


def test_over_the_bound_of_pending_bytes(two: Any) -> None:
    pool = two(server=Server(limits=Limits(pending_bytes=100)))
    pool.submit(body=bytes(60))
    with pytest.raises(Overloaded, match="bodies of waiting requests"):
        pool.submit(body=bytes(60))
    pool.large.calls[0].chunk(b"started: its body is no longer kept")
    pool.submit(body=bytes(60))
    for call in pool.large.calls:
        call.receiver.done(Done(id=0))
    assert pool.router.pending_bytes == 0


def test_full_queues_are_429(two: Any) -> None:
    pool = two()
    pool.large.fields["waiting"] = 2048
    assert pool.router.decide(two_query("auto")).model == "small"
    pool.small.fields["waiting"] = 2048
    with pytest.raises(Overloaded, match="full queue"):
        pool.submit()
    with pytest.raises(Overloaded, match="model 'small' has a full queue"):
        pool.submit("small")


def test_no_engine_is_up(two: Any) -> None:
    pool = two()
    pool.small.phase = pool.large.phase = "restarting"
    with pytest.raises(NoEngine, match="small: not_ready, large: not_ready") as error:
        pool.submit()
    assert error.value.retry_after_s
    with pytest.raises(NoEngine, match="model 'small' is not available now"):
        pool.submit("small")


def test_what_no_member_can_do_is_a_bad_request(two: Any) -> None:
    pool = two()
    with pytest.raises(BadRequest, match="no model of the pool can do what this request asks"):
        pool.router.submit(_needs("vision"), b"{}", pool.sink)


def _needs(*needs: str) -> Any:
    from router.types import Query, Turn

    return Query(kind="chat", model="auto", turns=(Turn("user", "x"),), needs=frozenset(needs))


def test_a_prompt_longer_than_every_context(two: Any) -> None:
    pool = two()
    pool.router._decider.scoring.prompt_tokens = 3000
    assert pool.router.decide(two_query("auto")).terms[0].excluded == "context"
    pool.router._decider.scoring.prompt_tokens = 1_000_000
    with pytest.raises(ContextTooLong, match="longer than the context of any model"):
        pool.submit()


def test_a_member_that_refuses_at_once_is_passed_over(two: Any) -> None:
    pool = two()
    pool.large.refusal = Overloaded("reads too slowly")
    pool.submit()
    assert len(pool.small.calls) == 1
    with pytest.raises(Overloaded, match="reads too slowly"):
        pool.submit("large")
    assert pool.router.in_flight() == 1


# Retry


@pytest.mark.parametrize("failure", [DIED, TOO_LONG])
def test_a_failure_before_the_first_chunk_is_retried_elsewhere(two: Any, failure: Failure) -> None:
    pool = two(quality=(0.8, 0.4))
    pool.submit(stream=True)
    pool.small.calls[0].receiver.fail(failure)
    assert pool.sink.end is None
    (call,) = pool.large.calls
    assert call.work.body == pool.small.calls[0].work.body
    call.chunk(b"x")
    call.receiver.done(Done(id=1))
    assert (pool.sink.decision.model, pool.sink.decision.reason) == ("large", "retry")
    assert pool.sink.violations == []
    assert pool.router.in_flight() == 0


def test_at_most_once(two: Any) -> None:
    pool = two()
    pool.submit()
    pool.large.calls[0].receiver.fail(DIED)
    pool.small.calls[0].receiver.fail(Failure(EngineFailed("the other one too"), retryable=True))
    assert str(pool.sink.end) == "the other one too"
    assert (len(pool.small.calls), len(pool.large.calls)) == (1, 1)


def test_a_prompt_too_long_is_not_tried_on_a_smaller_context(two: Any) -> None:
    pool = two()
    pool.submit()
    pool.large.calls[0].receiver.fail(TOO_LONG)
    assert isinstance(pool.sink.end, ContextTooLong)
    assert pool.small.calls == []


@pytest.mark.parametrize(
    ("model", "failure", "routing"),
    [("auto", REFUSED, Routing()), ("large", DIED, Routing()), ("auto", DIED, Routing(retry=False))],
    ids=["the request's own fault", "pinned", "switched off"],
)
def test_no_retry(two: Any, model: str, failure: Failure, routing: Routing) -> None:
    pool = two(routing=routing)
    pool.submit(model)
    (call,) = pool.small.calls + pool.large.calls
    call.receiver.fail(failure)
    assert pool.sink.end is failure.error
    assert len(pool.small.calls) + len(pool.large.calls) == 1


def test_what_has_begun_is_not_retried(two: Any) -> None:
    pool = two()
    pool.submit()
    pool.large.calls[0].chunk(b"half an ans")
    pool.large.calls[0].receiver.fail(DIED)
    assert pool.sink.end is DIED.error
    assert pool.small.calls == []


LOST = Failure(EngineFailed("engine 'large' was lost"), retryable=True, lost=True)
LOST_AGAIN = Failure(EngineFailed("engine 'small' was lost"), retryable=True, lost=True)
LOST_ALONE = Failure(EngineLost("engine 'large' was lost"), lost=True)


def test_what_was_lost_alone_with_its_engine_is_not_handed_to_another(two: Any) -> None:
    pool = two()
    pool.submit()
    pool.large.calls[0].receiver.fail(LOST_ALONE)
    assert pool.sink.end is LOST_ALONE.error
    assert (pool.sink.end.status, pool.sink.end.code) == (500, "engine_lost")
    assert pool.small.calls == []


def test_what_was_lost_among_others_is_tried_once_and_told_at_the_second_loss(two: Any) -> None:
    pool = two()
    pool.submit()
    pool.large.calls[0].receiver.fail(LOST)
    assert len(pool.small.calls) == 1
    pool.small.calls[0].receiver.fail(LOST_AGAIN)
    assert (pool.sink.end.status, pool.sink.end.code) == (500, "engine_lost")
    assert str(pool.sink.end).startswith("engine 'small' was lost, as the one before it was with this request")
    assert pool.router.in_flight() == 0


@pytest.mark.parametrize("failure", [DIED, LOST, TOO_LONG])
def test_a_head_that_raises_in_a_retry_leaves_the_failure_to_be_told(
    two: Any, failure: Failure, caplog: pytest.LogCaptureFixture
) -> None:
    pool = two(quality=(0.8, 0.4))
    pool.submit()

    def explode(*args: Any) -> Any:
        raise ValueError("a bug of a plug-in")

    pool.router._decider.choose = explode
    pool.small.calls[0].receiver.fail(failure)
    assert pool.sink.end is failure.error
    assert (pool.router.in_flight(), pool.router.pending_bytes) == (0, 0)
    assert "could not be retried" in caplog.text


async def test_a_stop_ends_all_though_one_call_cannot_be_aborted(two: Any, caplog: pytest.LogCaptureFixture) -> None:
    pool = two()
    sinks = [pool.sink, type(pool.sink)()]
    pool.submit()
    pool.sink = sinks[1]
    pool.submit()

    def explode() -> None:
        raise ValueError("a bug")

    pool.large.calls[0].abort = explode
    await pool.router.stop()
    assert ["shutting down" in str(sink.end) for sink in sinks] == [True, True]
    assert pool.large.phase == "stopped"
    assert "could not be aborted" in caplog.text


def test_without_another_member_the_first_error_is_told(two: Any) -> None:
    pool = two()
    pool.small.phase = "restarting"
    pool.submit()
    pool.large.calls[0].receiver.fail(DIED)
    assert pool.sink.end is DIED.error


# Ends


def test_cancel_aborts_in_the_engine(two: Any) -> None:
    pool = two()
    ticket = pool.submit()
    call = pool.large.calls[0]
    call.chunk(b"a")
    ticket.cancel()
    ticket.cancel()
    pool.sink.open = False
    assert call.aborted == 1
    assert pool.router.in_flight() == 0
    call.receiver.done(Done(id=1))
    call.receiver.fail(DIED)
    assert pool.sink.violations == []


def test_a_sink_may_cancel_from_within(two: Any) -> None:
    pool = two()
    tickets: list[Any] = []
    pool.sink.start = lambda decision: tickets[0].cancel()
    tickets.append(pool.submit())
    pool.large.calls[0].chunk(b"a")
    assert pool.sink.chunks == []
    assert pool.large.calls[0].aborted == 1
    assert pool.router.in_flight() == 0


def test_a_handoff_that_nobody_asked_for_is_an_error(two: Any) -> None:
    pool = two()
    pool.submit()
    pool.large.calls[0].receiver.handoff(Handoff(id=1, text="x", tokens=1, why="watch"))
    assert isinstance(pool.sink.end, EngineFailed)


def test_a_broken_sink_does_not_reach_the_member(two: Any, caplog: pytest.LogCaptureFixture) -> None:
    pool = two()

    def explode(done: Done) -> None:
        raise ValueError("a bug")

    pool.sink.done = explode
    pool.submit()
    pool.large.calls[0].receiver.done(Done(id=1))
    assert pool.router.in_flight() == 0
    assert "its receiver failed at the end" in caplog.text


async def test_a_deadline_ends_the_request(two: Any) -> None:
    pool = two()
    pool.submit(deadline_s=0.05)
    assert pool.large.calls[0].work.deadline_s == 0.05
    await until(lambda: pool.sink.end)
    assert isinstance(pool.sink.end, DeadlineExceeded)
    assert pool.sink.end.status == 504
    assert pool.large.calls[0].aborted == 1
    assert pool.router.in_flight() == 0


async def test_stop_ends_every_request_with_an_error(two: Any) -> None:
    pool = two()
    pool.submit()
    await pool.router.stop()
    assert "shutting down" in str(pool.sink.end)
    with pytest.raises(NoEngine, match="shutting down"):
        pool.submit()
    assert pool.small.calls == []


# Long texts


async def test_a_long_text_is_scored_on_another_thread(two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "LARGE_BODY_BYTES", 100)
    pool = two()
    pool.submit(body=bytes(101))
    assert pool.router.in_flight() == 1
    assert pool.large.calls == []
    await until(lambda: pool.large.calls)
    pool.large.calls[0].chunk(b"a")
    pool.large.calls[0].receiver.done(Done(id=1))
    assert pool.sink.chunks == [b"a"]
    assert pool.router.in_flight() == 0
    assert pool.router.pending_bytes == 0


async def test_a_deadline_is_kept_while_scores_are_made(two: Any) -> None:
    pool, go = two(), threading.Event()
    scoring = pool.router._decider.scoring
    scoring.slow = True
    score = scoring.score
    scoring.score = lambda query: score(query) if go.wait(60) else None
    pool.submit(deadline_s=0.05)
    await until(lambda: pool.sink.end)
    assert not go.is_set()
    assert isinstance(pool.sink.end, DeadlineExceeded)
    assert pool.router.scoring_unfinished == 1
    assert (pool.router.in_flight(), pool.router.pending_bytes) == (0, 0)
    go.set()
    await until(lambda: not pool.router.scoring_unfinished)
    assert pool.large.calls == pool.small.calls == []
    assert pool.sink.violations == []


async def test_a_client_that_leaves_while_scores_are_made_is_forgotten(two: Any) -> None:
    pool, go = two(), threading.Event()
    scoring = pool.router._decider.scoring
    scoring.slow = True
    score = scoring.score
    scoring.score = lambda query: score(query) if go.wait(60) else None
    pool.submit(deadline_s=60).cancel()
    assert (pool.router.in_flight(), pool.router.pending_bytes) == (0, 0)
    go.set()
    await until(lambda: not pool.router.scoring_unfinished)
    assert pool.large.calls == pool.small.calls == []


async def test_a_request_for_which_no_thread_can_be_had_is_refused_and_leaves_nothing_behind(
    two: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = two()
    pool.router._decider.scoring.slow = True

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            pool.submit(deadline_s=0.001)
    await asyncio.sleep(0.1)  # past its deadline
    assert (pool.router.in_flight(), pool.router.pending_bytes, pool.router.scoring_unfinished) == (0, 0, 0)
    assert pool.sink.end is None


async def test_a_slow_heads_scores_are_made_on_another_thread(two: Any) -> None:
    pool = two()
    pool.router._decider.scoring.slow = True
    pool.submit()
    assert pool.large.calls == []
    await until(lambda: pool.large.calls)
    assert len(pool.large.calls) == 1


async def test_a_long_text_that_is_cancelled_or_refused_meanwhile(two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "LARGE_BODY_BYTES", 100)
    pool, refused = two(), two()
    pool.submit(body=bytes(101)).cancel()
    refused.large.phase = refused.small.phase = "failed"
    refused.submit(body=bytes(101))
    await until(lambda: refused.sink.end)
    await until(lambda: pool.router.pending_bytes == 0, lambda: pool.router.pending_bytes)
    assert pool.large.calls == []
    assert isinstance(refused.sink.end, NoEngine)
    assert pool.router.in_flight() == refused.router.in_flight() == 0
    assert pool.router.pending_bytes == refused.router.pending_bytes == 0


async def test_every_decision_is_counted(two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "LARGE_BODY_BYTES", 100)
    pool = two()
    pool.submit()
    pool.submit(body=bytes(101))
    await until(lambda: len(pool.large.calls) == 2)
    pool.submit("small")
    pool.large.calls[0].receiver.fail(DIED)
    text = pool.router.metrics.render().decode()
    assert 'headgate_decisions_total{model="large",reason="utility"} 2.0' in text
    assert 'headgate_decisions_total{model="small",reason="pinned"} 1.0' in text
    assert 'headgate_decisions_total{model="small",reason="retry"} 1.0' in text


def test_a_finished_request_leaves_no_cycle(two: Any) -> None:
    pool = two()
    gc.collect()
    gc.disable()
    try:
        for end in ("done", "fail", "cancel"):
            for _ in range(20):
                pool.sink = sink = type(pool.sink)()
                sink.ticket = pool.submit()
                call = pool.large.calls.pop()
                if end == "cancel":
                    sink.ticket.cancel()
                elif end == "done":
                    call.chunk(b"a")
                    call.receiver.done(Done(id=1))
                else:
                    call.receiver.fail(REFUSED)
        del sink, call
        assert gc.collect() < 20
    finally:
        gc.enable()
