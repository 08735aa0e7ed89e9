"""`headgate serve` over engines that are killed while answers run, are drafted, or are handed over: every client gets
one whole answer, or what there is of it and an error; never another word, never nothing."""

import asyncio
import collections
import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

SEED = 20261201
REQUESTS = 120
AT_ONCE = 16
PATIENCE_S = 60.0
VERBS = ["metrics", "admin", "stored", "hand_over", "give_up", "continue", "watch"]


def pool(*, replicas: int = 1) -> list[dict[str, Any]]:
    # Answers of thrice the expected length are doubtful ones.
    args = {"engine_args": {"verbs": VERBS}, "replicas": replicas, "mean_output_tokens": 8}
    return [
        {"name": "small", "model": "stub", "like": "llama-3.1-8b-instruct", "gpu_share": 0.1 / replicas, **args},
        {"name": "large", "model": "stub", "strength": 0.6, "gpu_share": 0.9 / replicas, **args},
    ]


def text_of(number: int) -> str:
    return " ".join(f"w{number}.{i}" for i in range(24))


def told_in(body: str) -> tuple[str, bool, set[tuple[str, int]]]:
    """The text of a stream, whether an error ended it, and the ids by which its events go."""
    text, failed, heads = "", False, set()
    for line in body.splitlines():
        if line.startswith("data: {"):
            event = json.loads(line[6:])
            failed = failed or "error" in event
            if "choices" in event:
                heads.add((event["id"], event["created"]))
                text += "".join(choice["delta"].get("content") or "" for choice in event["choices"])
    return text, failed, heads


async def ask(session: aiohttp.ClientSession, url: str, number: int, choice: str, source: random.Random) -> str:
    """How one request ended; fails the test where it did not, or not well."""
    stream = source.random() < 0.8
    stop = source.choice([0, 1, 5]) if choice == "handoff" else 0
    text = text_of(number)
    body = {
        "model": "auto",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": stream,
        "user": json.dumps([["say", text, source.choice([0.0, 0.01, 0.03]), stop]]),
    }
    headers = {"x-headgate-choice": choice} if choice else {}
    async with asyncio.timeout(PATIENCE_S), session.post(url, json=body, headers=headers) as response:
        got = await response.text()
    if response.status != 200:
        assert json.loads(got)["error"]["message"]
        return str(response.status)
    if not stream:
        assert json.loads(got)["choices"][0]["message"]["content"] == text
        return "whole"
    told, failed, heads = told_in(got)
    assert got.endswith("data: [DONE]\n\n"), got
    assert got.count("[DONE]") == 1, got
    assert len(heads) <= 1, heads
    assert text.startswith(told) if failed else told == text, (told, failed)
    return "cut" if failed else "answer"


async def kill_one(session: aiohttp.ClientSession, admin: str, source: random.Random) -> bool:
    async with session.get(f"{admin}/members") as response:
        members = (await response.json())["members"]
    busy = [member["pid"] for member in members if member["in_flight"]]
    if not busy or any(member["phase"] != "ready" for member in members):  # at most one is away at a time
        return False
    os.kill(source.choice(busy), signal.SIGKILL)
    return True


async def drive(server: Any, choice: str) -> collections.Counter[str]:
    source, free = random.Random(SEED), asyncio.Semaphore(AT_ONCE)
    ended: collections.Counter[str] = collections.Counter()
    url = f"{server.url}/v1/chat/completions"

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        async with free:
            if number % 12 == 6:
                ended["killed"] += await kill_one(session, server.admin, source)
            while (how := await ask(session, url, number, choice, source)) == "503":
                await asyncio.sleep(0.2)
            ended[how] += 1

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(one(session, number) for number in range(REQUESTS)))
        async with session.get(f"{server.url}/metrics") as response:
            page = await response.text()
    ended["legs"] = sum(line.startswith("headgate_legs_total{") for line in page.splitlines())
    return ended


@pytest.mark.parametrize("choice", ["", "handoff", "cascade"])
def test_engines_that_are_killed_cost_no_client_a_word(
    serve: Any, config: Callable[..., Path], checkpoint: Path, choice: str
) -> None:
    supervision = {"backoff_s": 0.05, "backoff_max_s": 0.1, "stop_timeout_s": 2.0, "breaker_open_s": 0.2}
    routing = {"checkpoint": str(checkpoint), "price": 12_000.0 if choice else 0.0}  # at which the small one begins
    server = serve(config(pool=pool(replicas=2), supervision=supervision, routing=routing))
    ended = asyncio.run(drive(server, choice))
    assert ended["killed"] > 0, ended
    assert ended["legs"] > 0, ended
    assert ended["answer"] > REQUESTS / 2, ended
    assert ended["answer"] > 10 * ended["cut"], ended
    server.signal(signal.SIGTERM)
    code, error = server.end()
    assert code == 0
    assert "Traceback" not in error, error


def test_a_stream_that_native_code_began_goes_on_in_another_engine_and_says_so(
    serve: Any, config: Callable[..., Path], tmp_path: Path
) -> None:
    journal = {"path": str(tmp_path / "journal")}
    server = serve(config(pool=pool(), journal=journal))
    text = text_of(1)
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": True, "user": json.dumps([["say", text, 0.05]])}

    async def asked() -> str:
        async with (
            aiohttp.ClientSession() as session,
            asyncio.timeout(PATIENCE_S),
            session.post(f"{server.url}/v1/chat/completions", json=body) as response,
        ):
            first = (await response.content.readuntil(b"\n\n")).decode()
            async with session.get(f"{server.admin}/members") as answer:
                members = (await answer.json())["members"]
            os.kill(next(member["pid"] for member in members if member["in_flight"]), signal.SIGKILL)
            return first + (await response.content.read()).decode()

    told, failed, heads = told_in(asyncio.run(asked()))
    assert (told, failed, len(heads)) == (text, False, 1)
    server.signal(signal.SIGTERM)
    assert server.end()[0] == 0
    lines = [
        json.loads(line) for file in (tmp_path / "journal").glob("*.jsonl") for line in file.read_text().splitlines()
    ]
    (record,) = [line for line in lines if line["type"] == "request"]
    assert record["end"] == "finish"
    assert [(leg.get("why", ""), leg["end"]) for leg in record["legs"]] == [("", "error"), ("lost", "finish")]
    assert record["completion_tokens"] == 24


def test_a_whole_answer_that_the_watch_stopped_names_its_legs(
    serve: Any, config: Callable[..., Path], checkpoint: Path
) -> None:
    server = serve(config(pool=pool(), routing={"checkpoint": str(checkpoint), "price": 12_000.0, "choice": "handoff"}))
    text = text_of(2)
    body = {"messages": [{"role": "user", "content": "hi"}], "user": json.dumps([["say", text, 0.0, 5]])}

    async def asked() -> tuple[str, str]:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{server.url}/v1/chat/completions", json=body) as response,
        ):
            answer = await response.json()
            assert answer["usage"]["completion_tokens"] == 24
            return answer["choices"][0]["message"]["content"], response.headers["x-headgate-legs"]

    told, legs = asyncio.run(asked())
    assert told == text
    assert legs in ("small,large", "small,small")
