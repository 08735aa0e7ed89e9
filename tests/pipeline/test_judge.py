"""A judged head in the pipeline: its judge is asked, in time or not, and the request goes on whatever comes of it."""

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from router.artefacts.artefact import FORMAT, Metadata, ModelRecord
from router.config import Config, Member, Routing
from router.errors import ConfigError, DeadlineExceeded, EngineFailed, EngineLost, NoEngine
from router.heads import Artefact, make
from router.heads.base import Claim, JudgedHead
from router.heads.methods.causal_llm import key_of
from router.ipc.messages import Done
from router.pipeline.judge import judge_of
from router.pipeline.router import Router
from router.pipeline.scoring import Scoring
from router.pool.base import Failure
from router.types import Query, Turn
from tests.conftest import until

KNOWN = "what is known"


def head(judge: str = "org/small") -> JudgedHead:
    """A verdict of 5 means that small is as good as large, one of 1 that it is not; unasked says the middle."""
    arrays = {
        "bias": np.array([0.0, 2.0], np.float32),
        "slope": np.array([1.5, 0.0], np.float32),
        "known.key": np.array([key_of(KNOWN)], np.uint64),
        "known.verdict": np.array([5.0], np.float32),
    }
    models = (ModelRecord(name="s"), ModelRecord(name="l"))
    meta = Metadata(format=FORMAT, models=models, router="causal_llm", options={"judge": judge.rpartition("/")[2]})
    made = make(Artefact(meta=meta, arrays=arrays), [Claim(name="small", like="s"), Claim(name="large", like="l")])
    assert isinstance(made, JudgedHead)
    return made


def answer(**logprobs: float) -> bytes:
    top = [{"token": token.strip("_"), "logprob": value} for token, value in logprobs.items()]
    choice = {"logprobs": {"content": [{**top[0], "top_logprobs": top}]}}
    return json.dumps({"choices": [choice]}).encode()


class Judged:
    """A weak member, which is also the judge, and a strong one; small answers where it is nearly as good."""

    def __init__(self, kit: Any, timeout_s: float = 5.0) -> None:
        self.small, self.large = kit.Member("small"), kit.Member("large", usd_per_s=0.001)
        pool = tuple(Member(name=name, model=f"org/{name}") for name in ("small", "large"))
        routing = Routing(price=0.0, threshold=0.6, judge_timeout_s=timeout_s)
        self.router = Router(Config(pool=pool, routing=routing), pool=[self.small, self.large], scoring=Scoring(head()))
        self.sink = kit.Sink()
        self._query = kit.query

    def submit(self, model: str = "auto", **fields: Any) -> Any:
        return self.router.submit(self._query(model, **fields), b'{"messages": []}', self.sink)

    def judgements(self) -> list[str]:
        lines = self.router.metrics.render().decode().splitlines()
        return [line for line in lines if line.startswith("headgate_judgements_total")]


@pytest.fixture
def judged(kit: Any) -> Judged:
    return Judged(kit)


async def turn() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("verdict", "member"), [({"_5": -0.1}, "small"), ({"_1": -0.1}, "large")])
async def test_the_verdict_decides(judged: Judged, verdict: dict[str, float], member: str) -> None:
    judged.submit()
    await turn()
    (question,) = judged.small.calls
    asked = json.loads(question.work.body)
    assert "hello" in asked["messages"][0]["content"]
    assert (asked["max_tokens"], asked["logprobs"], question.work.stream) == (1, True, False)
    assert judged.router.in_flight() == 1
    question.chunk(answer(**verdict))
    question.receiver.done(Done(id=1))
    await turn()
    call = judged.large.calls[0] if member == "large" else judged.small.calls[1]
    call.chunk(b"a")
    call.receiver.done(Done(id=2))
    assert (judged.sink.decision.model, judged.sink.chunks, judged.sink.violations) == (member, [b"a"], [])
    assert judged.router.in_flight() == 0
    assert judged.judgements() == ['headgate_judgements_total{result="answered"} 1.0']


async def test_a_late_verdict_is_done_without_and_taken_back(kit: Any) -> None:
    judged = Judged(kit, timeout_s=0.02)
    judged.submit()
    await until(lambda: judged.large.calls)
    assert [call.aborted for call in judged.small.calls] == [1]
    assert len(judged.large.calls) == 1  # P(large better) of the mean verdict
    assert judged.judgements() == ['headgate_judgements_total{result="late"} 1.0']


async def test_a_query_has_no_more_time_for_its_verdict_than_for_its_answer(judged: Judged) -> None:
    judged.submit(deadline_s=0.02)
    await until(lambda: judged.sink.end)
    await until(lambda: [call.aborted for call in judged.small.calls] == [1])
    assert isinstance(judged.sink.end, DeadlineExceeded)
    assert judged.router.in_flight() == 0
    assert judged.judgements() == ['headgate_judgements_total{result="late"} 1.0']


@pytest.mark.parametrize(
    ("result", "deed"),
    [
        ("failed", lambda call: call.receiver.fail(Failure(EngineFailed("gone")))),
        ("unreadable", lambda call: (call.chunk(answer(no=-0.1)), call.receiver.done(Done(id=1)))),
        ("unreadable", lambda call: (call.chunk(b"<html>"), call.receiver.done(Done(id=1)))),
        ("unreadable", lambda call: call.receiver.done(Done(id=1))),
    ],
)
async def test_without_a_verdict_the_request_goes_on(judged: Judged, result: str, deed: Any) -> None:
    judged.submit()
    await turn()
    deed(judged.small.calls[0])
    await turn()
    assert len(judged.large.calls) == 1
    assert judged.judgements() == [f'headgate_judgements_total{{result="{result}"}} 1.0']


async def test_a_question_that_alone_was_lost_with_its_judge_is_not_handed_to_another_engine(judged: Judged) -> None:
    judged.submit()
    await turn()
    judged.small.calls[0].receiver.fail(Failure(EngineLost("engine 'small' was lost"), lost=True))
    await turn()
    assert isinstance(judged.sink.end, EngineLost)
    assert judged.large.calls == []
    assert judged.router.in_flight() == 0


async def test_a_judge_that_is_not_ready_is_not_waited_for(judged: Judged) -> None:
    judged.small.phase = "restarting"
    judged.submit()
    await turn()
    assert len(judged.large.calls) == 1
    judged.large.phase = "failed"
    judged.submit()
    await turn()
    assert isinstance(judged.sink.end, NoEngine)


async def test_a_known_prompt_and_a_pinned_one_ask_nobody(judged: Judged) -> None:
    known = Query(kind="chat", model="auto", turns=(Turn("user", KNOWN),), needs=frozenset({"chat"}))
    judged.router.submit(known, b"{}", judged.sink)
    await turn()
    assert [call.work.body for call in judged.small.calls] == [b"{}"]
    judged.router.submit(judged._query("large"), b"{}", judged.sink)
    await until(lambda: judged.large.calls)
    assert [call.work.body for call in judged.large.calls] == [b"{}"]
    assert judged.judgements() == ['headgate_judgements_total{result="known"} 1.0']


async def test_a_client_that_leaves_while_the_judge_thinks(judged: Judged) -> None:
    judged.submit().cancel()
    await turn()
    for call in judged.small.calls:
        call.chunk(answer(_5=-0.1))
        call.receiver.done(Done(id=1))
    await turn()
    assert judged.large.calls == []
    assert judged.router.in_flight() == judged.router.pending_bytes == 0


async def test_decisions_alone_ask_nobody(judged: Judged) -> None:
    assert judged.router.decide("hello").model == "large"
    assert judged.router.decide(KNOWN).model == "small"
    assert judged.small.calls == []


POOL = [Member(name="tiny", model="/models/Qwen3-0.6B/"), Member(name="big", model="org/Qwen3-8B")]


@pytest.mark.parametrize(
    ("told", "wanted", "index"), [("Qwen3-0.6B", "", 0), ("Qwen3-0.6B", "big", 1), ("", "org/Qwen3-8B", 1)]
)
def test_the_judge_is_found(told: str, wanted: str, index: int) -> None:
    assert judge_of(head(told), wanted, POOL) == index


def test_a_judge_that_is_no_member_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"routing\.judge: .* expected one of tiny, big; got 'gpt-4'"):
        judge_of(head("gpt-4"), "", POOL)
    assert judge_of(object(), "", POOL) is None


async def test_a_reload_to_a_pool_without_the_judge_changes_nothing(judged: Judged) -> None:
    before = judged.router.config.routing
    with pytest.raises(ConfigError, match=r"routing\.judge"):
        judged.router.reload(Routing(judge="nobody"))
    assert judged.router.config.routing is before
    assert judged.router.decide("hello").model == "large"
