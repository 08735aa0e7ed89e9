"""One engine member over a scripted host process: answers, failures, loss, and what is left behind."""

import asyncio
import json
import math
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.config import Member, Supervision
from router.errors import ContentTooLarge, EngineStartError, NoEngine, Overloaded
from router.ipc.messages import Done, Fail, Handoff
from router.pool import engine as engine_module
from router.pool.base import Failure, Work
from router.pool.engine import EngineMember
from router.pool.sleep import Sleeper
from router.pool.stages import StartProgress
from router.pool.timings import Timings
from tests.conftest import until

Make = Callable[..., EngineMember]


@pytest.fixture
async def make(folder: Path, host_command: tuple[str, ...]) -> AsyncIterator[Make]:
    made: list[EngineMember] = []

    def one(name: str = "small", supervision: Supervision | None = None, **engine_args: Any) -> EngineMember:
        member = EngineMember(
            Member(name=name, model="scripted", engine_args=engine_args),
            supervision or Supervision(stop_timeout_s=2.0),
            folder,
            gpu_share=0.5,
            env=dict(os.environ),
            command=host_command,
        )
        made.append(member)
        return member

    yield one
    for member in made:
        await member.stop()


def work(*script: list[Any], stream: bool = True) -> Work:
    return Work(kind="chat", body=json.dumps({"user": json.dumps(script)}).encode(), stream=stream, prompt_tokens=7)


async def test_an_engine_tells_at_its_start_what_it_can_do(make: Make, heard: Any) -> None:
    member = make(capabilities=["embeddings", "rerank"])
    told: list[tuple[str, frozenset[str]]] = []
    member.on_described = lambda *what: told.append(what)
    await member.start()
    assert told == [("small", frozenset({"embeddings", "rerank"}))]
    receiver = heard()
    member.submit(Work(kind="rerank", body=b'{"query": "x"}'), receiver)
    await receiver.end()
    assert json.loads(b"".join(receiver.chunks))["body"] == {"query": "x"}


async def test_an_answer_comes_through(make: Make, heard: Any) -> None:
    member = make()
    await member.start()
    assert member.phase == "ready"
    assert member.state().context_tokens == 1000
    assert member.state().capabilities == {"chat", "completions"}
    receiver = heard()
    member.submit(work(["chunk", "a"], ["chunk", "b"], ["done"]), receiver)
    assert member.status().in_flight == 1
    end = await receiver.end()
    assert receiver.chunks == [b"a", b"b"]
    assert end.usage.completion_tokens == 5
    assert member.status().in_flight == 0
    assert member.state().mean_output_tokens < 200


async def test_a_verdicts_length_is_not_learnt(make: Make, heard: Any) -> None:
    member, receiver = make(), heard()
    await member.start()
    receiver.atypical = True
    member.submit(work(["done"]), receiver)
    assert (await receiver.end()).usage.completion_tokens == 5
    assert member.state().mean_output_tokens == 200


async def test_socket_folder_and_log_are_private(make: Make, folder: Path) -> None:
    member = make()
    await member.start()
    modes = {file.suffix: file.stat().st_mode & 0o777 for file in folder.iterdir()}
    assert modes == {".sock": 0o600, ".log": 0o600}


async def test_strangers_and_second_ends_are_ignored(make: Make, heard: Any) -> None:
    member, receiver, second = make(), heard(), heard()
    await member.start()
    member.submit(work(["stranger"], ["chunk", "a"], ["done"], ["twice"]), receiver)
    await receiver.end()
    member.submit(work(["done"]), second)
    await second.end()
    assert len(receiver.ends) == 1
    assert receiver.chunks == [b"a"]
    assert member.phase == "ready"
    assert member.status().in_flight == 0


async def test_abort_reaches_the_engine_and_silences_it(make: Make, heard: Any) -> None:
    member, receiver, witness = make(), heard(), heard()
    await member.start()
    member.submit(work(["chunk", "a"], ["sleep", 600.0], ["done"]), receiver)
    await until(lambda: receiver.chunks)
    member.abort(receiver)
    member.abort(receiver)
    member.submit(work(["echo"], ["done"]), witness)
    await witness.end()
    assert json.loads(witness.chunks[0])["aborted"] == 1
    assert receiver.ends == []
    assert member.status().in_flight == 0


async def test_a_broken_receiver_ends_its_own_request_only(
    make: Make, heard: Any, caplog: pytest.LogCaptureFixture
) -> None:
    member, broken, healthy = make(), heard(), heard()

    def explode(data: bytes) -> None:
        raise ValueError("a bug")

    broken.chunk = explode
    await member.start()
    member.submit(work(["chunk", "a"], ["done"]), broken)
    member.submit(work(["chunk", "b"], ["done"]), healthy)
    await healthy.end()
    assert healthy.chunks == [b"b"]
    assert isinstance(broken.ends[0], Failure)
    assert "its receiver failed" in caplog.text


async def test_a_killed_host_fails_its_requests_at_once(make: Make, heard: Any) -> None:
    member, first, second, losses = make(), heard(), heard(), []
    member.on_lost = lambda: losses.append(1)
    await member.start()
    member.submit(work(["sleep", 60.0]), first)
    member.submit(work(["chunk", "a"], ["die"]), second)
    for receiver in (first, second):
        failure = await receiver.end()
        assert failure.retryable
        assert "engine 'small' was lost" in failure.error.message
        assert failure.error.status == 502
    assert losses == [1]
    assert member.phase == "restarting"
    with pytest.raises(NoEngine, match="not available now"):
        member.submit(work(["done"]), heard())
    await member.reap()
    assert member.last_error == "it was ended by SIGKILL"
    await member.start()
    third = heard()
    member.submit(work(["done"]), third)
    await third.end()


async def test_garbage_ends_the_connection(make: Make, heard: Any) -> None:
    member, receiver = make(), heard()
    await member.start()
    member.submit(work(["garbage"]), receiver)
    failure = await receiver.end()
    assert "malformed frame" in failure.error.message


async def test_a_host_that_fails_to_start_says_why(make: Make) -> None:
    log = (
        "INFO 11-24 07:00:00 [core.py:1] starting\n"
        "(EngineCore_DP0 pid=12) ValueError: No available memory for the cache blocks.\n"
        "RuntimeError: Engine core initialization failed. See root cause above."
    )
    member = make(fail=log)
    with pytest.raises(EngineStartError, match="failed to start: ValueError: No available memory") as error:
        await member.start()
    assert "Engine core initialization" not in str(error.value)
    assert member.phase == "failed"
    assert member.last_error.startswith("ValueError")


async def test_a_host_that_never_says_hello_times_out(make: Make) -> None:
    member = make(supervision=Supervision(start_timeout_s=0.5, stop_timeout_s=2.0), silent=True)
    with pytest.raises(EngineStartError, match=r"not ready within 0\.5 s; its log is /"):
        await member.start()


async def test_a_command_that_does_not_exist_is_named(folder: Path) -> None:
    member = EngineMember(Member(name="x", model="m"), Supervision(), folder, gpu_share=1.0, command=("/no/such",))
    with pytest.raises(EngineStartError, match=r"its process could not be started: .*No such file"):
        await member.start()


@pytest.mark.parametrize("way", ["stop", "die"])
async def test_nothing_that_a_host_started_outlives_it(make: Make, heard: Any, folder: Path, way: str) -> None:
    pid_file = folder / "grandchild"
    member = make(grandchild=str(pid_file))
    await member.start()
    pid = int(pid_file.read_text())
    os.kill(pid, 0)
    if way == "die":
        receiver = heard()
        member.submit(work(["die"]), receiver)
        await receiver.end()
        await member.reap()
    else:
        await member.stop()
    await until(lambda: not _alive(pid))


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_an_engine_that_reads_too_slowly_takes_no_more(
    make: Make, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "MAX_UNSENT_BYTES", 1 << 20)
    member = make()
    await member.start()
    hanging = heard()
    member.submit(work(["chunk", "a"], ["sleep", 0.05], ["hang"]), hanging)
    await until(lambda: hanging.chunks)
    await asyncio.sleep(0.2)  # if it still reads then, it takes a little of what follows
    big = Work(kind="chat", body=b'{"user": "%s"}' % (b" " * 600_000), stream=True)
    with pytest.raises(Overloaded, match="reads its requests too slowly"):
        for _ in range(20):
            member.submit(big, heard())
            await asyncio.sleep(0)
    member.kill("test")


async def test_stop_fails_what_runs(make: Make, heard: Any) -> None:
    member, receiver = make(), heard()
    await member.start()
    member.submit(work(["sleep", 60.0]), receiver)
    await member.stop()
    assert "was stopped" in receiver.ends[0].error.message
    await member.stop()


async def test_a_request_that_makes_no_frame_is_refused_before_it_is_in_the_books(make: Make, heard: Any) -> None:
    member = make()
    await member.start()
    for more in ({"body": bytes(64 << 20)}, {"body": b"{}", "request_id": "x" * (64 << 20)}):
        with pytest.raises(ContentTooLarge, match="at most"):
            member.submit(Work(kind="chat", stream=False, prompt_tokens=1, **more), heard())
    assert member.status().in_flight == 0
    assert member.state().waiting == 0
    receiver = heard()
    member.submit(work(["chunk", "a"], ["done"]), receiver)
    await receiver.end()


async def test_a_request_that_alone_waited_as_its_engine_was_lost_is_told_so_and_is_not_for_another(
    make: Make, heard: Any
) -> None:
    member, streaming, waiting = make(), heard(), heard()
    await member.start()
    member.submit(work(["chunk", "a"], ["sleep", 60.0]), streaming)
    streaming.go("waiting")
    streaming.go("answering")  # as a request does with its first chunk
    member.submit(work(["die"]), waiting)
    failure = await waiting.end()
    assert (failure.error.status, failure.error.code) == (500, "engine_lost")
    assert "no other request waited for its first token there; it is not tried on another engine" in str(failure.error)
    assert (failure.retryable, failure.lost) == (False, True)
    other = await streaming.end()
    assert (other.error.status, other.error.code, other.lost) == (502, "engine_failed", True)


async def test_one_end_that_raises_does_not_keep_the_others_from_theirs(
    make: Make, heard: Any, caplog: pytest.LogCaptureFixture
) -> None:
    member, losses = make(), []
    member.on_lost = lambda: losses.append(1)
    await member.start()
    receivers = [heard() for _ in range(5)]

    def explode(failure: Failure) -> None:
        raise ValueError("a bug")

    receivers[0].fail = receivers[2].fail = explode
    for receiver in receivers:
        member.submit(work(["sleep", 60.0]), receiver)
    member.submit(work(["die"]), heard())
    for i in (1, 3, 4):
        assert isinstance(await receivers[i].end(), Failure)
    assert losses == [1]
    assert member.status().in_flight == 0
    assert caplog.text.count("its receiver failed at an error") == 2


async def test_a_stop_tells_all_though_one_end_raises(make: Make, heard: Any) -> None:
    member, broken, healthy = make(), heard(), heard()

    def explode(failure: Failure) -> None:
        raise ValueError("a bug")

    broken.fail = explode
    await member.start()
    for receiver in (broken, healthy):
        member.submit(work(["sleep", 60.0]), receiver)
    await member.stop()
    assert "was stopped" in healthy.ends[0].error.message


@pytest.mark.parametrize("broken", ["done", "fail", "handoff"])
async def test_an_end_that_raises_is_told_as_an_error_and_the_connection_stays(
    make: Make, heard: Any, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    member, receiver, healthy = make(), heard(), heard()
    await member.start()
    pid = member.status().pid

    def explode(end: Any) -> None:
        raise ValueError("a bug")

    setattr(receiver, broken, explode)
    member.submit(work(["sleep", 60.0]), receiver)
    member.received({
        "done": Done(id=receiver.id),
        "fail": Fail(id=receiver.id, status=400, body=b"{}"),
        "handoff": Handoff(id=receiver.id, text="", tokens=0, why=""),
    }[broken])  # fmt: skip
    assert "its receiver failed at" in caplog.text
    if broken != "fail":
        assert receiver.ends[0].error.message == "the answer could not be passed on"
    member.submit(work(["chunk", "b"], ["done"]), healthy)
    await healthy.end()
    assert (healthy.chunks, member.status().pid, member.status().in_flight) == ([b"b"], pid, 0)


CLAIMS: list[tuple[list[int], list[float]]] = [
    ([2**63, 1, 0], [0.1, 0.3]),
    ([2**64 - 1, 2**64 - 1, 2**64 - 1], [0.1, 0.3]),
    ([-1, -(2**63), -5], [0.1, 0.3]),
    ([10, 5, 2], [math.nan, math.inf]),
    ([10, 5, 2], [-1.0, -math.inf]),
]


@pytest.mark.parametrize(("usage", "timings"), CLAIMS, ids=str)
async def test_an_answer_of_absurd_figures_is_passed_on_and_nothing_is_learnt_of_it(
    make: Make, heard: Any, usage: list[int], timings: list[float]
) -> None:
    member, receiver, second = make(), heard(), heard()
    await member.start()
    before, pid = member.state(), member.status().pid
    member.submit(work(["chunk", "a"], ["claim", usage, timings]), receiver)
    end = await receiver.end()
    assert isinstance(end, Done)
    assert all(0 <= value <= 10 for value in (*msgspec.structs.astuple(end.usage), end.timings.first_token_s))
    assert member.state().mean_output_tokens <= before.mean_output_tokens
    assert math.isfinite(member.state().time_per_output_token_s)
    member.submit(work(["chunk", "b"], ["done"]), second)
    await second.end()
    assert (receiver.chunks, second.chunks) == ([b"a"], [b"b"])
    assert (member.phase, member.status().pid, member.status().in_flight) == ("ready", pid, 0)


async def test_a_load_frame_of_absurd_figures_harms_nobody(make: Make, heard: Any) -> None:
    member, receiver = make(), heard()
    await member.start()
    absurd = {"running": 2**64 - 1, "waiting": -5, "kv_use": math.nan, "prefix_hit": math.inf}
    absurd |= {"prefill_tokens_per_s": math.nan, "time_per_output_token_s": -math.inf}
    member.submit(work(["load", absurd], ["chunk", "a"], ["done"]), receiver)
    await receiver.end()
    state = member.state()
    assert (state.running, state.waiting, state.kv_use, state.prefix_hit) == (0, 0, 0.0, 0.0)
    assert math.isfinite(state.prefill_tokens_per_s + state.time_per_output_token_s + state.queued_gpu_s)
    assert member.phase == "ready"


@pytest.mark.parametrize("status", [0, -1, 200, 302, 600, 2**63, 2**64 - 1])
async def test_a_failure_of_a_status_that_is_none_is_a_bad_gateway(make: Make, heard: Any, status: int) -> None:
    member, receiver = make(), heard()
    await member.start()
    member.submit(work(["fail", status, "", False]), receiver)
    assert (await receiver.end()).error.status == 502
    assert member.phase == "ready"


@pytest.mark.parametrize(
    "body",
    [b"", b"[" * 100_000, b'{"error":' * 100_000, b'{"error":{"message":"\\ud800"}}', b"\xff\xfe", b'{"error":3}'],
)
async def test_a_failure_whose_body_cannot_be_read_ends_its_request_alone(make: Make, heard: Any, body: bytes) -> None:
    member, receiver = make(), heard()
    await member.start()
    member.submit(work(["sleep", 60.0]), receiver)
    member.received(Fail(id=receiver.id, status=500, body=body))
    assert isinstance(await receiver.end(), Failure)
    assert member.phase == "ready"


async def test_a_host_that_claims_an_absurd_context_has_none_that_is_known(make: Make) -> None:
    member = make(context_tokens=2**64 - 1)
    await member.start()
    assert member.state().context_tokens == 0


async def test_an_engine_is_asked_for_its_metrics_once_by_all_who_want_them_at_a_time(make: Make) -> None:
    member = make(metrics="page ASKED")
    assert not member.tells_metrics
    await member.start()
    assert member.tells_metrics
    assert await asyncio.gather(member.metrics(), member.metrics()) == ["page 1", "page 1"]
    assert await member.metrics() == "page 2"


async def test_a_host_whose_hello_names_no_verbs_is_not_asked_for_metrics(make: Make) -> None:
    member = make()
    await member.start()
    assert not member.tells_metrics


async def test_who_waits_for_the_metrics_of_an_engine_that_is_lost_waits_no_more(make: Make) -> None:
    member = make(metrics=None)
    await member.start()
    asking = asyncio.ensure_future(member.metrics())
    await asyncio.sleep(0)
    member.kill("a test")
    await asyncio.wait([asking], timeout=60)
    assert asking.cancelled()
    assert not member.tells_metrics


async def test_the_progress_of_a_start_is_read_from_the_log_told_and_gone_once_it_is_ready(
    folder: Path, host_command: tuple[str, ...]
) -> None:
    log = "INFO Resolved architecture: A\nINFO Starting to load model x\ncheckpoint shards: 50% Completed\n"
    spec = Member(name="small", model="scripted", engine_args={"says": log, "slow_s": 2.0})
    timings = Timings(folder / "cache")
    member = EngineMember(
        spec, Supervision(), folder, gpu_share=0.5, env=dict(os.environ), command=host_command, timings=timings
    )
    told: list[StartProgress] = []
    member.starting.told = told.append
    assert member.status().start is None
    starting = asyncio.create_task(member.start())
    await until(lambda: told or starting.done())
    now = member.status().start
    assert now is not None
    assert (now.stage, now.left_s) == ("loading weights", None)
    await starting
    assert member.status().start is None
    await until(lambda: (folder / "cache" / "starts.json").exists())
    await member.stop()
    # The next start of the same engine knows how long it takes.
    starting = asyncio.create_task(member.start())
    await until(lambda: (start := member.status().start) is not None and start.left_s is not None)
    await starting
    await member.stop()


def test_a_sleeping_engine_counts_as_one_that_answers_after_the_time_it_takes_to_wake(tmp_path: Path) -> None:
    speed = {"prefill_tokens_per_s": 1000.0, "time_per_output_token_s": 0.01, "mean_output_tokens": 20.0}
    member = EngineMember(Member(name="a", model="m", **speed), Supervision(), tmp_path, gpu_share=1.0)
    sleeper = member.sleeper = Sleeper(1.0, 1.0, 8.0, 0.0)
    assert not member.state().ready
    sleeper.wake_s = 5.0
    assert sleeper.falls(100.0)
    sleeper.fell()
    member.phase = "parked"
    member.settle(100.0)
    assert member.state().ready
    assert member.lane.ready
    assert member.state().queued_gpu_s == pytest.approx(5.0)
    assert member.status().state.waiting == 0
    assert (member.status().sleep, member.status().wake_s, member.status().sleeps) == ("asleep", 5.0, 1)
    member.drain(True)
    assert not member.state().ready
    member.drain(False)
    sleeper.wakes(100.0)
    sleeper.failed(101.0)
    member.settle(101.0)
    assert not member.state().ready
    assert member.state().queued_gpu_s == 0.0
