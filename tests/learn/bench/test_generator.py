"""The load generator against a scripted server: planned times, faults, retries, choices."""

import asyncio
import itertools
import json

import pytest

from router.learn.bench import generator, policies
from router.learn.bench.alarm import Alarm
from router.learn.bench.generator import Ask, Generator, Planned
from router.learn.bench.workload import Item, Turn
from tests.conftest import patience, until

ITEMS = [Item(id=str(i), turns=(Turn("user", f"{i}+1"),)) for i in range(4)]


def made(url, model, count=1, *, how=None, every_s=0.0, **options):
    how = how or Ask(max_tokens=8)
    policy = policies.target(f"t={url},model={model or 'x'}")
    if "chooser" in options:
        names = tuple(options.pop("models"))
        policy = policies.Policy(name="t", endpoint=policy.endpoint, chooser=options.pop("chooser"), models=names)
    plan = [Planned(i * every_s, i % len(ITEMS)) for i in range(count)]
    return Generator(policy, plan, [generator.body(item, how) for item in ITEMS], how, **options)


async def rows_of(*args, **options):
    async with patience():
        return (await made(*args, **options).run()).rows


async def test_a_request_is_asked_as_planned_and_its_answer_kept(scripted):
    rows = await rows_of(scripted.url, "wordy", 3)
    assert [(row.number, row.item, row.text, row.fault) for row in rows] == [
        (0, 0, "1 .", ""), (1, 1, "2 .", ""), (2, 2, "3 .", "")
    ]  # fmt: skip
    one = rows[0]
    assert (one.model, one.status, one.input_tokens, one.output_tokens, one.counted) == ("scripted", 200, 7, 3, False)
    assert 0 <= one.late_us <= one.ttft_us <= one.e2e_us
    assert len(one.gaps_us) == 2
    asked = scripted.bodies[0]
    assert (asked["model"], asked["max_tokens"], asked["temperature"], asked["stream"]) == ("wordy", 8, 0.0, True)
    assert asked["stream_options"] == {"include_usage": True}


async def test_latency_counts_from_the_planned_moment_also_where_the_server_holds_all_back(scripted):
    """Requests are sent though none is answered, and each is charged from its own moment: no coordinated omission."""
    running = asyncio.ensure_future(made(scripted.url, "hold", 5, every_s=0.05).run())
    await until(lambda: scripted.asked["hold"] == 5)
    scripted.held._loop.call_soon_threadsafe(scripted.held.set)
    rows = (await running).rows
    for earlier, later in itertools.pairwise(rows):
        assert earlier.at_s * 1e6 + earlier.e2e_us <= (later.at_s + 60) * 1e6
        assert earlier.e2e_us - later.e2e_us == pytest.approx(50_000, abs=45_000)


FAULTS = {
    "broken": ("status", "500 oops"),
    "html": ("malformed", "not a chat completion"),
    "no-http": ("malformed", "not HTTP/1.1"),
    "die": ("cut", "before the answer was complete"),
    "early": ("early", "without a finish reason"),
    "in-stream": ("stream", "engine lost"),
    "limited": ("limited", "429 too many"),
}


@pytest.mark.parametrize("model", FAULTS)
async def test_a_target_that_fails_is_a_fault_of_its_kind(scripted, model):
    how = Ask(max_tokens=8, stream=model != "html")
    (row,) = await rows_of(scripted.url, model, how=how)
    fault, why = FAULTS[model]
    assert row.fault == fault
    assert why in row.why


async def test_a_refused_connection_is_a_fault():
    (row,) = await rows_of("http://127.0.0.1:1", "x")
    assert (row.fault, row.status) == ("refused", 0)


async def test_a_target_that_hangs_is_given_up_and_what_came_is_kept(scripted):
    (row,) = await rows_of(scripted.url, "hang", how=Ask(max_tokens=8, timeout_s=0.3))
    assert (row.fault, row.text) == ("timeout", "begun")
    assert row.why == "no whole answer within 0.3 s"
    assert row.e2e_us >= 300_000


async def test_without_usage_tokens_are_the_events_that_brought_text(scripted):
    (row,) = await rows_of(scripted.url, "no-usage")
    assert (row.output_tokens, row.counted, row.fault) == (1, True, "")


async def test_a_429_is_counted_and_asked_again_only_where_wanted(scripted):
    (row,) = await rows_of(scripted.url, "limited")
    assert (row.fault, row.retry_after_s, row.tries) == ("limited", 0.02, 1)
    (row,) = await rows_of(scripted.url, "limited-once", how=Ask(max_tokens=8, retries=2))
    assert (row.fault, row.tries, row.text) == ("", 2, "1")
    assert row.e2e_us >= 20_000  # from the first planned moment


async def test_a_kept_connection_that_the_server_has_closed_is_replaced(scripted):
    rows = await rows_of(scripted.url, "closes-kept", 4, every_s=0.05)
    assert [row.fault for row in rows] == [""] * 4


async def test_a_key_goes_with_every_request_and_into_no_row(scripted):
    policy = policies.target(f"t={scripted.url}")
    policy = policies.Policy(
        name="t", endpoint=policies.endpoint(scripted.url, "sk-secret", "--url"), models=("wordy",), headers=("x-a: b",)
    )
    how = Ask(max_tokens=8)
    made_ = Generator(policy, [Planned(0.0, 0)], [generator.body(ITEMS[0], how)], how)
    async with patience():
        (row,) = (await made_.run()).rows
    assert b"authorization: Bearer sk-secret\r\n" in scripted.heads[0]
    assert b"x-a: b\r\n" in scripted.heads[0]
    assert "secret" not in repr(row)


async def test_random_asks_each_member_about_equally_and_repeats_itself(scripted):
    options = {"chooser": "random", "models": ["a", "b"], "seed": 3}
    rows = await rows_of(scripted.url, "", 200, **options)
    assert 70 < scripted.asked["a"] < 130
    again = await rows_of(scripted.url, "", 200, **options)
    assert [row.asked for row in rows] == [row.asked for row in again]


async def test_join_the_shortest_queue_asks_the_member_with_the_fewest_in_flight(scripted):
    running = asyncio.ensure_future(
        made(scripted.url, "", 8, every_s=0.02, chooser="jsq", models=["hold", "quick"]).run()
    )
    await until(lambda: scripted.asked["quick"] + scripted.asked["hold"] == 8)
    scripted.held._loop.call_soon_threadsafe(scripted.held.set)
    rows = (await running).rows
    assert sorted(row.number for row in rows) == list(range(8))
    assert policies.shortest(["a", "b"], {"a": 1, "b": 0}, 0) == "b"
    assert [policies.shortest(["a", "b"], {}, n) for n in range(2)] == ["a", "b"]


async def test_an_alarm_rings_once_at_its_moment_and_at_once_for_one_that_has_passed():
    loop = asyncio.get_running_loop()
    rung: list[float] = []
    alarm = Alarm(loop, lambda: rung.append(generator.time.perf_counter()))
    due_s = generator.time.perf_counter() + 0.03
    alarm.set(due_s)
    await until(lambda: rung)
    assert rung[0] >= due_s
    alarm.set(due_s)
    await until(lambda: len(rung) == 2)
    alarm.close()
    alarm.close()


def test_a_body_has_the_items_own_bounds_and_further_fields():
    item = Item(id="1", turns=(Turn("user", "x"),), max_tokens=3, fixed=True)
    found = json.loads(generator.body(item, Ask(max_tokens=8, stream=False, extra={"top_p": 0.5})))
    assert found == {
        "messages": [{"role": "user", "content": "x"}], "max_tokens": 3, "temperature": 0.0, "ignore_eos": True,
        "top_p": 0.5,
    }  # fmt: skip
