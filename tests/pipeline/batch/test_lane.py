"""The idle lane over engines that run in steps: a full lane keeps live requests from no free sequence and no step."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from router.pipeline.change import Wanted
from tests.conftest import until

Start = Callable[..., Awaitable[Any]]


async def waits(kit: Any, count: int, most_at_once: int, seed: int = 1) -> list[int]:
    """For how many steps live requests wait that come in bursts; sorted."""
    random.seed(seed)
    found: list[int] = []
    while len(found) < count:
        found += await asyncio.gather(*(kit.steps(20, 3) for _ in range(random.randrange(1, most_at_once + 1))))
        await asyncio.sleep(random.random() * 0.02)
    return sorted(found)


@pytest.mark.parametrize(
    ("prompt_tokens", "settings"),
    [(20, {}), (1_000, {}), (20, {"running": 1_000}), (6_000, {})],
    ids=["short prompts", "prompts of half a step", "as many as may run", "prompts of many steps"],
)
async def test_beside_a_full_lane_live_requests_wait_one_step_more_at_most(
    start: Start, prompt_tokens: int, settings: dict[str, Any]
) -> None:
    kit = await start(engine_args={"step_s": 0.02, "most_running": 16, "budget": 2048}, **settings)
    alone = await waits(kit, 60, 3)
    id = await kit.begin([kit.line(n, prompt_tokens, 50) for n in range(1, 1_000)])
    await until(lambda: kit.batches.figures().running > 0)
    beside = await waits(kit, 60, 3)
    assert kit.batches.batch("", id).status == "in_progress"
    p95 = int(0.95 * len(alone))
    assert beside[p95] <= alone[p95] + 1, (alone, beside)


async def test_lines_that_may_begin_together_begin_one_by_one_beside_a_live_request(start: Start) -> None:
    """A prompt takes .2 s to read, and a step .01: eight that were read together would make one step of 1.6 s."""
    kit = await start(engine_args={"step_s": 0.01, "token_s": 1e-3, "most_running": 16}, running=8)
    live = asyncio.ensure_future(kit.steps(10, 10_000))
    id = await kit.begin([kit.line(n, 200, 1) for n in range(1, 9)])
    together = 0
    while kit.batches.batch("", id).status != "completed":
        together = max(together, kit.batches.figures().running)
        await asyncio.sleep(0.01)
    assert not live.done()
    live.cancel()
    assert 1 <= together <= 2  # two where the engine is slower than it says


async def test_a_burst_of_live_requests_takes_the_sequences_of_lines_which_are_answered_later(start: Start) -> None:
    kit = await start(engine_args={"step_s": 0.01, "most_running": 8}, running=100)
    id = await kit.begin([kit.line(n, 10, 100) for n in range(1, 13)])
    await until(lambda: kit.batches.figures().running == 6)
    live = [asyncio.ensure_future(kit.steps(10, 60)) for _ in range(8)]
    await until(lambda: kit.batches.figures().running == 0)
    assert await asyncio.gather(*live)
    batch = await kit.over(id)
    assert (batch.status, batch.request_counts.completed) == ("completed", 12)
    assert kit.batches.figures().put_back >= 6
    assert len({each["custom_id"] for each in kit.results(batch.output_file_id)}) == 12


async def test_lines_leave_room_in_the_kv_cache(start: Start) -> None:
    kit = await start(engine_args={"step_s": 0.01, "most_running": 64, "kv_tokens": 1_000}, running=60)
    await kit.begin([kit.line(n, 100, 400) for n in range(1, 100)])
    await until(lambda: kit.batches.figures().put_back > 0)  # they grow as they write
    assert await kit.steps(40, 1) <= 40


async def test_lines_are_in_the_ledger_as_batch_and_their_metrics_apart(start: Start) -> None:
    kit = await start(engine_args={"step_s": 0.001})
    records: list[Any] = []
    kit.router.ledger.subscribe(lambda tick: records.extend(tick))
    batch = await kit.over(await kit.begin([kit.line(n) for n in range(1, 4)]))
    await until(lambda: len(records) == 3)
    assert {(record.task, record.end, record.model) for record in records} == {("batch", "finish", "small")}
    ids = {each["response"]["request_id"] for each in kit.results(batch.output_file_id)}
    assert {record.request_id for record in records} == ids
    page = kit.router.metrics.render().decode()
    assert 'headgate_requests_total{model="small",route="/v1/batches",status="200"} 3.0' in page
    assert 'route="/v1/chat/completions"' not in page
    assert 'headgate_batch_lines_total{result="completed"} 3.0' in page
    assert 'headgate_batches{status="completed"} 1.0' in page


async def test_a_batch_whose_window_is_over_has_expired(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    kit = await start(engine_args={"step_s": 0.01})
    id = await kit.begin([kit.line(1, 10, 1), kit.line(2, 10, 100_000)], completion_window="1m")
    await until(lambda: kit.batches.batch("", id).request_counts.completed == 1)
    job = kit.batches._jobs[id]
    job.look_at_clock(kit.batches.batch("", id).expires_at - 1)
    assert kit.batches.figures().running == 1
    job.look_at_clock(kit.batches.batch("", id).expires_at)
    batch = await kit.over(id)
    assert (batch.status, batch.expired_at is not None) == ("expired", True)
    assert [each["custom_id"] for each in kit.results(batch.output_file_id)] == ["line-1"]
    (left,) = kit.results(batch.error_file_id)
    assert (left["custom_id"], left["error"]["code"], left["error"]["line"]) == ("line-2", "batch_expired", 2)


async def test_on_a_full_disk_a_batch_fails_and_says_so_and_live_requests_are_answered(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = await start(
        engine_args={"step_s": 0.005}, max_files_bytes=200_000, max_file_bytes=200_000, max_line_bytes=10_000
    )
    id = await kit.begin([kit.line(n, 10, 1) for n in range(1, 700)])
    batch = await kit.over(id)
    assert batch.status == "failed"
    assert batch.errors.data[0].code == "storage_full"
    why = "a result cannot be written: all files together may have 200000 bytes (`batches.max_files_bytes`)"
    assert batch.errors.data[0].message.startswith(why)
    assert 0 < len(kit.results(batch.output_file_id)) < 699
    assert kit.batches.figures().running == 0
    assert await kit.steps() >= 1


async def test_files_and_batches_that_are_over_are_removed_when_they_expire(start: Start) -> None:
    kit = await start(engine_args={"step_s": 0.001}, expiry_s=7200.0)
    batch = await kit.over(await kit.begin([kit.line(1)]))
    ended = batch.completed_at
    store = kit.batches._store
    assert store.expired(ended + 3_000) == ([], [])
    assert store.expired(ended + 3_700) == ([batch.input_file_id], [])
    assert store.expired(ended + 7_200) == ([batch.input_file_id, batch.output_file_id], [batch.id])
    await store.remove_file(batch.input_file_id)
    await store.remove_batch(batch.id)
    names = set(kit.batches._folder.names())
    assert names == {"lock", f"{batch.output_file_id}.json", f"{batch.output_file_id}.data"}
    assert json.loads(kit.batches._folder.read(f"{batch.output_file_id}.json", 10_000))["owner"] == ""


async def test_long_prompts_are_read_one_by_one_once_it_is_quiet(start: Start) -> None:
    kit = await start(engine_args={"step_s": 0.005, "most_running": 16, "budget": 2048})
    assert await kit.steps() >= 1
    batch = await kit.over(await kit.begin([kit.line(n, 6_000, 2) for n in range(1, 6)]))
    assert (batch.status, batch.request_counts.completed) == ("completed", 5)
    assert all(
        each["response"]["body"]["steps"] <= 4 for each in kit.results(batch.output_file_id)
    )  # 3, had it been alone


async def test_a_batch_that_waits_for_its_turn_is_cancelled_at_once(start: Start) -> None:
    kit = await start(engine_args={"step_s": 0.01}, running=1)
    running = [await kit.begin([kit.line(1, 10, 100_000)]) for _ in range(4)]
    await until(lambda: all(kit.batches.batch("", id).status == "in_progress" for id in running))
    waiting = await kit.begin([kit.line(n) for n in range(1, 4)])
    await until(lambda: kit.batches.batch("", waiting).status == "in_progress")
    assert (await kit.batches.cancel("", waiting)).status in ("cancelling", "cancelled")
    batch = await kit.over(waiting)
    assert (batch.status, batch.request_counts.failed) == ("cancelled", 3)
    for id in running:
        await kit.batches.cancel("", id)
        assert (await kit.over(id)).status == "cancelled"


async def test_lines_count_at_their_member_once_another_before_it_in_the_pool_has_gone(start: Start) -> None:
    kit = await start(engine_args={"step_s": 0.02, "most_running": 64}, running=4)
    changes = kit.router.changes
    other = {"name": "other", "model": "stub", "strength": 0.5, "engine_args": {"step_s": 0.02, "most_running": 64}}
    for verb, name, member in (("add", "other", other), ("remove", "small", None)):
        changes.begin(verb, name, Wanted(member=member))
        await until(lambda: changes.recent[-1].stage in ("done", "failed"))
        assert changes.recent[-1].error == ""
        if verb == "add":
            await kit.begin([kit.line(n, 10, 5_000, model="other") for n in range(1, 21)])
            await until(lambda: kit.batches.figures().running == 4)
    (place,) = kit.batches._lane._places()
    assert (len(place.lines), place.start) == (4, 0)
