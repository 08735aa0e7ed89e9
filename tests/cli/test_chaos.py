"""Engines that die, hang up, talk nonsense and fail, and are killed at random moments, under load: every client gets an
answer or an error, exactly one, in time, and never a word of another's."""

import asyncio
import collections
import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

SEED = 20260101
REQUESTS = 200
AT_ONCE = 24
KILL_EVERY = 40  #: requests
PATIENCE_S = 60.0
STEPS: tuple[Callable[[str], list[list[Any]]], ...] = (
    lambda mark: [["chunk", event(mark, 1)], ["chunk", event(mark, 2)], ["chunk", "data: [DONE]\n\n"], ["done"]],
    lambda mark: [["chunk", event(mark, 1)], ["sleep", 0.05], ["chunk", "data: [DONE]\n\n"], ["done"], ["twice"]],
    lambda mark: [
        ["stranger"],
        ["chunk", event(mark, 1) + "data: [DONE]\n\n"],
        ["claim", [2**63, -1, 5], [-1.0, 1e300]],
    ],
    lambda mark: [["sleep", 0.02], ["fail", 400, "bad_tool", False]],
    lambda mark: [["fail", 500, "broken", False]],
    lambda mark: [["fail", 503, "draining", True]],
    lambda mark: [["chunk", event(mark, 1)], ["sleep", 0.02], ["fail", 502, "engine_failed", True]],
)
FATAL: tuple[Callable[[str], list[list[Any]]], ...] = (
    lambda mark: [["sleep", 0.02], ["die"]],
    lambda mark: [["chunk", event(mark, 1)], ["sleep", 0.02], ["die"]],
    lambda mark: [["chunk", event(mark, 1)], ["garbage"], ["sleep", 60]],
)


def event(mark: str, n: int) -> str:
    return "data: " + json.dumps({"n": n, "of": mark}) + "\n\n"


async def ask(session: aiohttp.ClientSession, url: str, source: random.Random, mark: str) -> str:
    """How one request ended; fails the test if it did not."""
    steps = (source.choice(FATAL) if source.random() < 0.02 else source.choice(STEPS))(mark)
    body = {
        "model": source.choice(["auto", "auto", "small", "large", "router-mf-0.5"]),
        "messages": [{"role": "user", "content": "x" * source.randrange(2000)}],
        "stream": source.random() < 0.8,
        "user": json.dumps(steps),
    }
    async with asyncio.timeout(PATIENCE_S):
        async with session.post(url, json=body) as response:
            if source.random() < 0.05:
                return "left"
            text = await response.text()
    if response.status != 200:
        assert json.loads(text)["error"]["message"]
        return str(response.status)
    told = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    errors = [each for each in told if "error" in each]
    assert told[: len(told) - len(errors)] == [{"n": n, "of": mark} for n in range(1, len(told) - len(errors) + 1)], (
        text
    )
    assert told[len(told) - len(errors) :] == errors[:1], text
    if body["stream"]:
        assert text.endswith("data: [DONE]\n\n"), (steps, text)
        assert text.count("[DONE]") == 1, (steps, text)
    return "error event" if errors else "answer"


async def kill_one(session: aiohttp.ClientSession, admin: str, source: random.Random) -> None:
    """By SIGKILL, from without, while requests run."""
    async with session.get(f"{admin}/members") as response:
        members = (await response.json())["members"]
    ready = [member["pid"] for member in members if member["phase"] == "ready"]
    if ready:
        os.kill(source.choice(ready), signal.SIGKILL)


async def drive(url: str, admin: str) -> collections.Counter[str]:
    source = random.Random(SEED)
    free = asyncio.Semaphore(AT_ONCE)
    ended: collections.Counter[str] = collections.Counter()

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        async with free:
            if number % KILL_EVERY == KILL_EVERY // 2:
                await kill_one(session, admin, source)
            while (how := await ask(session, url, source, f"r{number}")) == "503":  # both away: as told, later again
                ended[how] += 1
                await asyncio.sleep(0.3)
            ended[how] += 1

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(one(session, number) for number in range(REQUESTS)))
    return ended


def members_of(server: Any) -> list[dict[str, Any]]:
    with server.open("/members", admin=True) as response:
        members: list[dict[str, Any]] = json.load(response)["members"]
        return members


def wait_for_members(server: Any, true: Callable[[dict[str, Any]], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not all(true(member) for member in members_of(server)):
        assert time.monotonic() < give_up, members_of(server)
        time.sleep(0.05)


def test_every_client_is_told_how_it_ended(serve: Any, config: Callable[..., Path]) -> None:
    supervision = {"backoff_s": 0.05, "backoff_max_s": 0.1, "stop_timeout_s": 2.0, "breaker_open_s": 0.2}
    server = serve(config(supervision=supervision))
    ended = asyncio.run(drive(f"{server.url}/v1/chat/completions", server.admin))
    assert sum(ended.values()) - ended["503"] == REQUESTS
    assert ended["answer"] > REQUESTS / 20, ended  # a busy machine answers fewer between two kills
    assert ended["error event"] > 0, ended
    wait_for_members(server, lambda member: not member["in_flight"])
    wait_for_members(server, lambda member: member["phase"] == "ready")
    assert sum(member["restarts"] for member in members_of(server)) > 0
    server.signal(signal.SIGTERM)
    code, error = server.end()
    assert code == 0
    assert "Traceback" not in error, error
    server.wait_childless()
