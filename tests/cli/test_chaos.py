"""Engines that die, hang up, talk nonsense and fail, under load: every client gets an answer or an error, in time."""

import asyncio
import collections
import json
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
STEPS = (
    [["chunk", 'data: {"n":1}\n\n'], ["chunk", 'data: {"n":2}\n\n'], ["chunk", "data: [DONE]\n\n"], ["done"]],
    [["chunk", 'data: {"n":1}\n\n'], ["sleep", 0.05], ["chunk", "data: [DONE]\n\n"], ["done"], ["twice"]],
    [["stranger"], ["chunk", "data: [DONE]\n\n"], ["done"]],
    [["sleep", 0.02], ["fail", 400, "bad_tool", False]],
    [["fail", 500, "broken", False]],
    [["fail", 503, "draining", True]],
    [["chunk", 'data: {"n":1}\n\n'], ["sleep", 0.02], ["fail", 502, "engine_failed", True]],
)
FATAL = (
    [["sleep", 0.02], ["die"]],
    [["chunk", 'data: {"n":1}\n\n'], ["sleep", 0.02], ["die"]],
    [["chunk", 'data: {"n":1}\n\n'], ["garbage"], ["sleep", 60]],
)


async def ask(session: aiohttp.ClientSession, url: str, source: random.Random) -> str:
    """How one request ended; fails the test if it did not."""
    steps = source.choice(FATAL) if source.random() < 0.02 else source.choice(STEPS)
    body = {
        "model": source.choice(["auto", "auto", "small", "large", "router-mf-0.5"]),
        "messages": [{"role": "user", "content": "x" * source.randrange(2000)}],
        "stream": source.random() < 0.8,
        "user": json.dumps(steps),
    }
    async with asyncio.timeout(30):
        async with session.post(url, json=body) as response:
            if source.random() < 0.05:
                return "left"
            text = await response.text()
    if response.status != 200:
        assert json.loads(text)["error"]["message"]
        return str(response.status)
    if body["stream"]:
        assert text.endswith("data: [DONE]\n\n"), (steps, text)
        assert text.count("[DONE]") == 1, (steps, text)
    return "error event" if '"error"' in text else "answer"


async def drive(url: str) -> collections.Counter[str]:
    source = random.Random(SEED)
    free = asyncio.Semaphore(AT_ONCE)
    ended: collections.Counter[str] = collections.Counter()

    async def one(session: aiohttp.ClientSession) -> None:
        async with free:
            while (how := await ask(session, url, source)) == "503":  # both engines away: as told, later again
                ended[how] += 1
                await asyncio.sleep(0.3)
            ended[how] += 1

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(one(session) for _ in range(REQUESTS)))
    return ended


def members_of(server: Any) -> list[dict[str, Any]]:
    with server.open("/members", admin=True) as response:
        members: list[dict[str, Any]] = json.load(response)["members"]
        return members


def test_every_client_is_told_how_it_ended(serve: Any, config: Callable[..., Path]) -> None:
    supervision = {"backoff_s": 0.05, "backoff_max_s": 0.1, "stop_timeout_s": 2.0, "breaker_open_s": 0.2}
    server = serve(config(supervision=supervision))
    ended = asyncio.run(drive(f"{server.url}/v1/chat/completions"))
    assert ended["answer"] > REQUESTS / 4, ended
    assert ended["error event"] > 0, ended
    give_up = time.monotonic() + 10
    while any(member["in_flight"] for member in members_of(server)):
        assert time.monotonic() < give_up, members_of(server)
        time.sleep(0.05)
    assert sum(member["restarts"] for member in members_of(server)) > 0
    server.signal(signal.SIGTERM)
    code, error = server.end()
    assert code == 0
    assert "Traceback" not in error, error
    server.wait_childless()
