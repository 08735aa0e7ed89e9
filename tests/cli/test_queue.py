"""More requests than the engines run at once, over scripted hosts: a burst, a killed engine, ends of all kinds."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router.cli.main import main
from tests.cli.conftest import Serve
from tests.conftest import patience, wait_until

#: Of an engine that runs two: as many are in it, or next.
IN_ENGINE = 4


def pool(**args: Any) -> list[dict[str, Any]]:
    """Both run two requests at once."""
    args = {"max_running": 2, **args}
    small = {"name": "small", "model": "stub", "like": "llama-3.1-8b-instruct", "gpu_share": 0.1, "engine_args": args}
    return [small, {"name": "large", "model": "stub", "strength": 0.6, "gpu_share": 0.9, "engine_args": args}]


def limits(**given: Any) -> dict[str, Any]:
    return {"port": 0, "admin_port": 0, "limits": given}


class Answer:
    def __init__(self, key: str, status: int, headers: dict[str, str], body: bytes) -> None:
        self.key, self.status, self.headers, self.body = key, status, headers, body

    @property
    def model(self) -> str:
        return str(json.loads(self.body).get("model", ""))


async def ask(
    server: Serve, script: list[Any], model: str = "auto", key: str = "", leaves: asyncio.Event | None = None,
    **headers: str,
) -> Answer:  # fmt: skip
    """On a connection of its own. `leaves`: then the client goes away, and no answer has status 0."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "x"}], "user": json.dumps(script)})
    lines = [
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json",
        f"content-length: {len(body)}\r\nconnection: close",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
        *([f"authorization: Bearer {key}"] if key else []),
    ]
    writer.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
    try:
        if leaves is not None:
            await leaves.wait()
            return Answer(key, 0, {}, b"")
        async with patience():
            said = await reader.read()
    finally:
        writer.close()
    head, _, answer = said.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in rest)
    if fields.get("transfer-encoding") == "chunked":
        answer = b""
    return Answer(key, int(first.split()[1]) if first else 0, fields, answer)


def members(server: Serve, field: str) -> int:
    """The sum over the pool."""
    with server.open("/members", admin=True) as response:
        return sum(member[field] for member in json.loads(response.read())["members"])


def wait_for(server: Serve, field: str, count: int) -> None:
    wait_until(lambda: members(server, field) == count, lambda: f"{members(server, field)}\n{server.errors}")


async def waiting(server: Serve, count: int) -> None:
    await asyncio.to_thread(wait_for, server, "lined", count)


async def full(server: Serve) -> None:
    """Until its one engine has as many as it may have."""
    await asyncio.to_thread(wait_for, server, "in_flight", IN_ENGINE)


def gated(path: Path) -> list[Any]:
    return [["await", str(path)], ["echo"], ["done"]]


ECHO: list[Any] = [["sleep", 0.04], ["echo"], ["done"]]


def most_at_once(answers: list[Answer]) -> int:
    return max(json.loads(answer.body)["most"] for answer in answers if answer.status == 200)


async def test_in_a_burst_of_five_times_what_can_be_served_each_is_answered_or_told_when_to_come_back(
    serve: Callable[..., Serve], config: Callable[..., Path]
) -> None:
    """Of two engines that serve 50 a second each at the most, 500 a second for a second, by five keys."""
    keys = [f"key-{i}" for i in range(5)]
    server = serve(config(pool=pool(), server={**limits(wait_s=0.3), "api_keys": keys}))

    async def one(i: int) -> Answer:
        await asyncio.sleep(i * 0.002)
        return await ask(server, ECHO, key=keys[i % 5])

    answers = await asyncio.gather(*(one(i) for i in range(500)))
    assert {answer.status for answer in answers} == {200, 429}
    refused = [answer for answer in answers if answer.status == 429]
    assert all(0 < int(answer.headers["retry-after-ms"]) < 60_000 for answer in refused)
    assert most_at_once(list(answers)) <= IN_ENGINE
    assert {answer.model for answer in answers if answer.status == 200} == {"small", "large"}
    served = Counter(answer.key for answer in answers if answer.status == 200)
    assert min(served[key] for key in keys) >= 0.5 * max(served.values()), served
    await waiting(server, 0)
    server.signal(signal.SIGTERM)
    code, errors = server.end()
    assert (code, "Traceback" in errors) == (0, False), errors


async def test_an_engine_that_is_killed_while_many_wait_leaves_none_without_an_end(
    serve: Callable[..., Serve], config: Callable[..., Path], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    server = serve(config(pool=pool()))
    auto = [asyncio.create_task(ask(server, gated(gate))) for _ in range(20)]
    await waiting(server, 20 - 2 * IN_ENGINE)
    pinned = [asyncio.create_task(ask(server, gated(gate), "large")) for _ in range(5)]
    await waiting(server, 25 - 2 * IN_ENGINE)
    with server.open("/members", admin=True) as response:
        pids = {each["name"]: each["pid"] for each in json.loads(response.read())["members"]}
    os.kill(pids["large"], signal.SIGKILL)
    gate.touch()
    ends = await asyncio.gather(*auto, *pinned)
    assert {answer.status for answer in ends[:20]} == {200}
    assert {answer.model for answer in ends[:20]} <= {"small", "large"}
    assert {answer.status for answer in ends[20:]} <= {200, 503}
    await waiting(server, 0)
    wait_until(lambda: "was lost" in server.errors)
    assert "Traceback" not in server.errors


async def test_a_client_that_leaves_while_it_waits_is_never_begun(
    serve: Callable[..., Serve], config: Callable[..., Path], tmp_path: Path
) -> None:
    gate, leave = tmp_path / "gate", asyncio.Event()
    server = serve(config(pool=pool()[:1]))
    stays = [asyncio.create_task(ask(server, gated(gate))) for _ in range(IN_ENGINE)]
    await waiting(server, 0)
    await full(server)
    leaves = [asyncio.create_task(ask(server, gated(gate), leaves=leave)) for _ in range(3)]
    await waiting(server, 3)
    leave.set()
    await asyncio.gather(*leaves)
    await waiting(server, 0)
    gate.touch()
    answers = await asyncio.gather(*stays)
    assert [json.loads(answer.body)["aborted"] for answer in answers] == [0] * IN_ENGINE
    assert most_at_once(list(answers)) == IN_ENGINE


async def test_a_deadline_ends_the_waiting_and_a_priority_reaches_the_engine(
    serve: Callable[..., Serve], config: Callable[..., Path], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    server = serve(config(pool=pool()[:1]))
    running = [asyncio.create_task(ask(server, gated(gate))) for _ in range(IN_ENGINE)]
    await full(server)
    late = await ask(server, gated(gate), x_headgate_deadline="0.2")
    assert (late.status, json.loads(late.body)["error"]["code"]) == (504, "deadline_exceeded")
    wrong = await ask(server, ECHO, x_headgate_priority="soon")
    assert wrong.status == 400
    assert "`x-headgate-priority`: expected a whole number from -1000000 to 1000000" in wrong.body.decode()
    urgent = asyncio.create_task(ask(server, gated(gate), x_headgate_priority="-3"))
    await waiting(server, 1)
    gate.touch()
    assert json.loads((await urgent).body)["priority"] == -3
    await asyncio.gather(*running)


@pytest.mark.parametrize(("drain_s", "statuses"), [(30.0, {200}), (0.3, {503})])
async def test_a_drain_goes_on_serving_those_that_wait_until_its_time_is_over(
    serve: Callable[..., Serve], config: Callable[..., Path], tmp_path: Path, drain_s: float, statuses: set[int]
) -> None:
    gate = tmp_path / "gate"
    server = serve(config(pool=pool()[:1], server=limits(drain_s=drain_s)))
    asked = [asyncio.create_task(ask(server, gated(gate))) for _ in range(12)]
    await waiting(server, 12 - IN_ENGINE)
    server.signal(signal.SIGTERM)
    if drain_s > 1:
        gate.touch()
    answers = await asyncio.gather(*asked)
    assert {answer.status for answer in answers} == statuses
    code, errors = await asyncio.to_thread(server.end)
    assert "Traceback" not in errors
    assert code == 0


async def test_a_process_that_was_taken_over_from_serves_those_that_wait_in_it(
    serve: Callable[..., Serve], config: Callable[..., Path], taking: Callable[..., Serve], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    file = config(pool=pool()[:1], server=limits(keepalive_s=0.2))
    old = serve(file)
    asked = [asyncio.create_task(ask(old, gated(gate))) for _ in range(12)]
    await waiting(old, 12 - IN_ENGINE)
    new = await asyncio.to_thread(taking, old, file)
    fresh = asyncio.create_task(ask(new, gated(gate)))
    gate.touch()
    answers = await asyncio.gather(*asked, fresh)
    assert {answer.status for answer in answers} == {200}
    code, errors = await asyncio.to_thread(old.end)
    assert (code, "Traceback" in errors) == (0, False), errors


async def test_a_member_that_sleeps_is_woken_however_many_it_runs_at_once(
    serve: Callable[..., Serve], config: Callable[..., Path]
) -> None:
    members = pool(enable_sleep_mode=True)
    members[0]["sleep"] = {"after_s": 1}
    server = serve(config(pool=members))

    def asleep() -> bool:
        with server.open("/members", admin=True) as response:
            told = json.loads(response.read())["members"][0]
        return bool(told["phase"] == "asleep" and told["sleep"] == "asleep")

    await asyncio.to_thread(wait_until, asleep, lambda: server.errors)
    answers = await asyncio.gather(*(ask(server, ECHO, "small") for _ in range(12)))
    assert {answer.status for answer in answers} == {200}


async def test_those_that_wait_by_name_for_a_member_that_is_removed_are_answered_by_it(
    serve: Callable[..., Serve], config: Callable[..., Path], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    server = serve(config(pool=pool()))
    asked = [asyncio.create_task(ask(server, gated(gate), "small")) for _ in range(10)]
    await waiting(server, 10 - IN_ENGINE)
    change = asyncio.create_task(asyncio.to_thread(main, ["members", "remove", "small", "--admin", admin_of(server)]))
    await waiting(server, 0)  # all of them are the engine's now
    gate.touch()
    answers = await asyncio.gather(*asked)
    assert ({answer.status for answer in answers}, {answer.model for answer in answers}) == ({200}, {"small"})
    assert await change == 0
    assert (await ask(server, ECHO, "small")).status == 404


async def test_of_several_engines_of_a_model_none_gets_more_than_its_share_while_requests_wait(
    serve: Callable[..., Serve], config: Callable[..., Path], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    server = serve(config(pool=[{**pool()[0], "replicas": 2}]))
    asked = [asyncio.create_task(ask(server, gated(gate), "small")) for _ in range(12)]
    await waiting(server, 12 - 2 * IN_ENGINE)
    gate.touch()
    answers = await asyncio.gather(*asked)
    assert {answer.status for answer in answers} == {200}
    assert most_at_once(list(answers)) == IN_ENGINE


def admin_of(server: Serve) -> str:
    return server.admin.removeprefix("http://")
