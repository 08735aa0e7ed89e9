"""Prices at work in one router: what members and answers say reaches decisions, and nothing else does."""

import json
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.config import Config, DeviceSettings, Member, Objective, Routing, expanded
from router.errors import Overloaded
from router.native.policy import numbers_of
from router.observe.record import Decided, Record
from router.observe.tick import Tick
from router.pipeline.repricing import SAID_EVERY_S, devices_of
from router.pipeline.router import Router
from router.policy import decide_again
from router.policy.prices import Answers
from router.pool.engine import EngineMember
from router.types import DecisionNumbers, Query, Scores, Snapshot
from tests.conftest import until
from tests.pipeline.conftest import FakeMember, FakeScoring
from tests.pool.gpus import gpus, machine

HOST = (sys.executable, "-P", str(Path(__file__).parents[1] / "pool" / "scripted_host.py"))
QUEUE = {"running": 1, "waiting": 400, "prefill_tokens_per_s": 1000.0, "time_per_output_token_s": 0.01}


def config_of(objective: Objective, price: float = 100.0, **member: Any) -> Config:
    pool = tuple(
        Member(name=name, model="stub", usd_per_hour=usd, devices=(device,), gpu_share=1.0, **member)
        for name, usd, device in (("small", 1.0, 0), ("large", 4.0, 1))
    )
    return Config(pool=pool, routing=Routing(price=price), objective=objective)


#: Of the bundled checkpoint.
PAIR = tuple(
    msgspec.structs.replace(member, like=like)
    for member, like in zip(
        config_of(Objective()).pool, ("llama-3.1-8b-instruct", "llama-3.1-70b-instruct"), strict=True
    )
)


def faked(objective: Objective, price: float = 100.0, **state: Any) -> Router:
    """Members of fixed states that nobody starts."""
    members = [FakeMember("small", usd_per_s=1 / 3600, **state), FakeMember("large", usd_per_s=4 / 3600, **state)]
    return Router(config_of(objective, price), scoring=FakeScoring(0.5, 0.8), pool=members)  # type: ignore[arg-type]


@pytest.fixture
async def served() -> AsyncIterator[Router]:
    """Scripted hosts, each on a device of its own; the small model is the better buy as long as its device is free."""
    free = Router.decider(PAIR, price=0.0).decide("x").terms
    gain, dearer = free[1].quality - free[0].quality, free[1].cost_usd - free[0].cost_usd
    assert gain > 0
    settings = config_of(Objective(), price=2 * gain / dearer)
    settings = msgspec.structs.replace(settings, pool=PAIR)
    async with Router(settings, host_command=HOST, machine=machine(gpus(80, 80))) as router:
        yield router


async def tell_load(router: Router, member: str, load: dict[str, Any]) -> None:
    answer = {"model": member, "choices": [{"message": {"role": "assistant", "content": "y"}, "finish_reason": "stop"}]}
    script = [["load", load], ["chunk", json.dumps(answer)], ["done"]]
    await router.complete("x", model=member, user=json.dumps(script))


async def test_a_full_small_device_beside_an_idle_large_one_sends_work_to_the_large_until_it_is_free(
    served: Router,
) -> None:
    assert served.decide("x").model == "small"
    await tell_load(served, "small", QUEUE)
    decision = await until(lambda: (found := served.decide("x")).model == "large" and found, served.prices)
    small, large = decision.terms
    assert (small.surcharge > 0, small.surcharge_of, large.surcharge) == (True, "queue", 0.0)
    assert small.cost_usd == pytest.approx(small.gpu_s * 1 / 3600 * (1 + small.surcharge))
    native = served.intake
    assert native is not None
    body = b'{"model":"auto","messages":[{"role":"user","content":"x"}]}'
    assert native.decide(body) == "large"
    assert [device.cause for device in served.prices().devices] == ["queue", ""]
    shown = {status.name: status.state for status in served.members()}
    assert (shown["small"].surcharge_of, shown["large"].surcharge) == ("queue", 0.0)
    assert b'headgate_device_price_cause{device="0",why="queue"} 1.0' in served.metrics.render()
    await tell_load(served, "small", {**QUEUE, "running": 0, "waiting": 0})
    await until(lambda: served.decide("x").model == "small", served.prices)
    await until(lambda: served.prices().devices[0].factor == 1.0, served.prices)


async def test_a_members_own_device_keeps_its_price_when_the_pool_is_held_anew(served: Router) -> None:
    await tell_load(served, "small", QUEUE)
    await until(lambda: served.prices().devices[0].factor > 3, served.prices)
    served.hold(served.ways(served.config, served._decider.scoring), served.pool)
    served.reload(served.config.routing, Objective(kind="budget", usd_per_hour=1.0))
    small = served.pool[0]
    assert isinstance(small, EngineMember)
    assert (small.lane.surcharge > 2, small.state().surcharge) == (True, small.lane.surcharge)
    assert served.prices().objective == "budget"


async def test_each_engine_of_a_model_puts_its_own_device_at_risk() -> None:
    pool = (
        Member(name="small", model="stub", usd_per_hour=1.0, gpu_share=1.0, replicas=(0, 1)),
        Member(name="large", model="stub", usd_per_hour=4.0, gpu_share=1.0, devices=(2,)),
    )
    aim = Objective(kind="share", member="large", share=0.3)
    settings = expanded(msgspec.structs.replace(config_of(aim), pool=pool))
    async with Router(settings, host_command=HOST, machine=machine(gpus(80, 80, 80))) as router:
        assert router._repricing.steering.member == 1  # of the models, not of the engines
        await tell_load(router, "small", QUEUE)

        def factors() -> list[float]:
            return [device.factor for device in router.prices().devices]

        await until(lambda: max(factors()) > 2, router.prices)
        assert sorted(factors())[:2] == [1.0, 1.0]
        assert factors()[2] == 1.0
        engines = [each for each in router.pool if isinstance(each, EngineMember)]
        assert [each.lane.surcharge > 0 for each in engines] == [factor > 1 for factor in factors()]


def test_a_recorded_decision_is_decided_again_by_the_prices_of_its_time() -> None:
    router = faked(Objective(), price=500.0)
    dear = msgspec.structs.replace(router.pool[0].state(), surcharge=50.0, surcharge_of="queue", favour=-0.25)
    snapshot = Snapshot((dear, router.pool[1].state()))
    query = Query(kind="chat", model="auto", turns=())
    decision = router._decider.choose(query, Scores((0.5, 0.6), 10), snapshot, router._decider.names.known["auto"])
    assert decision.numbers is not None
    written = msgspec.json.encode(decision.numbers.record())
    kept = numbers_of(msgspec.json.decode(written, type=DecisionNumbers))
    assert (decision.model, decide_again(kept, id="again").model) == ("large", "large")
    assert kept.terms() == decision.terms
    assert [term.favour for term in kept.terms()] == [-0.25, 0.0]
    assert kept.record().members["surcharge_of"] == ("queue", "")


def test_lambda_is_steered_for_auto_alone_and_its_cause_is_in_the_numbers() -> None:
    router = faked(Objective(kind="budget", usd_per_hour=0.5))
    router._repricing.prices.goal.steered.step(1.0, 1.0)
    router._repricing.step(1.0)
    decision = router.decide("x")
    assert decision.numbers is not None
    settings = decision.numbers.record().settings
    assert (settings["price_of"], settings["price"] == router.prices().price, settings["price"] > 100.0) == (
        "budget", True, True,
    )  # fmt: skip
    pinned = router.decide("x", model="small")
    assert pinned.numbers is not None
    assert pinned.numbers.record().settings["price"] == 100.0
    router.reload(Routing(price=3.0), Objective())
    assert router.decide("x").numbers.record().settings["price"] == 3.0  # type: ignore[union-attr]


def test_a_share_counts_what_was_handed_over_and_not_what_was_only_asked() -> None:
    router = faked(Objective(kind="share", member="small", share=0.25))
    assert router._repricing.steering.member == 0
    for _ in range(50):
        router.decide("x")
    assert router._repricing.steering.sums()["offered"] == 0.0


def test_an_slo_refuses_what_no_member_begins_in_time_with_the_time_until_one_does() -> None:
    router = faked(Objective(kind="slo", ttft_ms=500.0), queued_gpu_s=3.0)
    with pytest.raises(
        Overloaded, match=r"first token within 0\.5 s, and every model .* take 3 s at the least"
    ) as shed:
        router.decide("x")
    assert shed.value.retry_after_s == pytest.approx(2.5, abs=0.1)
    assert router.decide("x", model="large").model == "large"
    lenient = faked(Objective(kind="slo", ttft_ms=500.0, shed=False), queued_gpu_s=3.0)
    assert lenient.decide("x").model == "small"


def record(**fields: Any) -> Record:
    found = {"version": 1, "id": "d", "request_id": "r", "time_s": 0.0, "kind": "chat", "asked": "auto",
             "end": "finish", "status": 200, "model": "small"}  # fmt: skip
    return Record(**{**found, **fields})


def test_answers_are_counted_by_member_and_what_was_foreseen_is_told_from_what_was_not() -> None:
    router = faked(Objective(kind="slo", ttft_ms=500.0, tpot_ms=20.0), queued_gpu_s=0.1)
    slow = faked(Objective(kind="slo", ttft_ms=500.0, shed=False), queued_gpu_s=0.4)
    at_ease, at_risk = decided_by(router), decided_by(slow)
    heard = router._repricing
    heard.heard(Tick([
        record(decision=at_ease, ttft_s=0.4, tpot_s=0.01),
        record(decision=at_ease, ttft_s=0.6, tpot_s=0.01),
        record(decision=at_risk, ttft_s=0.6, tpot_s=0.01),
        record(decision=at_ease, ttft_s=0.4, tpot_s=0.03),
        record(decision=at_ease, ttft_s=None, tpot_s=None),
        record(decision=at_ease, ttft_s=9.0, end="error"),
    ]))  # fmt: skip
    assert heard._ended == {"small": Answers(5, 3, 2)}


def decided_by(router: Router) -> Decided:
    decision = router.decide("x", model="small")
    assert decision.numbers is not None
    return Decided(model="small", member=0, reason="pinned", numbers=decision.numbers.record())


def test_an_objective_that_is_not_held_is_said_once_a_minute_at_most(caplog: pytest.LogCaptureFixture) -> None:
    router = faked(Objective(kind="slo", ttft_ms=500.0))
    heard = router._repricing
    with caplog.at_level(logging.WARNING, "headgate.prices"):
        for i in range(500):
            heard._ended = {"small": Answers(10, 5, 0)}
            heard.step(i * 0.5)
    said = [each.getMessage() for each in caplog.records if each.name == "headgate.prices"]
    assert len(said) == 240 // SAID_EVERY_S, said
    assert said[0] == "objective: the SLO is not held: 50.0 % of the answers are within it, not 99 %"


def test_devices_are_those_of_the_config_with_their_own_price_and_a_url_is_one_of_its_own() -> None:
    pool = (
        Member(name="a", model="x", devices=(0, 1), usd_per_hour=2.0),
        Member(name="b", model="x", usd_per_hour=3.0),
        Member(name="c", kind="openai", url="http://h", usd_per_hour=5.0),
    )
    priced = msgspec.structs.replace(Config(pool=pool), devices={"1": DeviceSettings(usd_per_hour=7.0)})
    assert devices_of(priced) == ((("0", 2.0), ("1", 7.0)), (("machine", 3.0),), (("url:c", 5.0),))
