"""Memory of the frontend process, and whether it grows: 100,000 requests of every kind, also those that end badly.

Of a hundred: 60 answers, 20 streams, 8 streams that the client leaves midway, 12 refusals and failures. Stub engine
hosts answer. Growth is what resident memory gained after a warm-up of a tenth as many requests.
"""

import asyncio
import collections
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cpu
import headgate_server
import launch
import prompts
import report

from router.learn.bench import client

GOALS = (report.Goal("rss_mb", 100), report.Goal("growth_mb", 2))
CONNECTIONS = 64
CHAT = "/v1/chat/completions"


class Plan(NamedTuple):
    """One kind of request and how it must end."""

    kind: str
    status: int
    request: bytes
    cut_after: int = 0


def plans(words: int) -> list[Plan]:
    """A hundred requests in a fixed, mixed order."""
    texts = iter(prompts.texts(100, words))
    out = [Plan("answer", 200, client.post(CHAT, prompts.chat(next(texts)))) for _ in range(60)]
    stream = {"stream": True, "max_tokens": 16}
    out += [Plan("stream", 200, client.post(CHAT, prompts.chat(next(texts), **stream))) for _ in range(20)]
    out += [Plan("left", 200, client.post(CHAT, prompts.chat(next(texts), **stream)), cut_after=3) for _ in range(8)]
    out += [Plan("malformed", 400, client.post(CHAT, b'{"model": "auto", "messages": [')) for _ in range(3)]
    out += [Plan("unknown model", 404, client.post(CHAT, prompts.chat("hi", model="nobody"))) for _ in range(3)]
    out += [Plan("unknown route", 404, client.post("/v1/nothing", b"{}")) for _ in range(3)]
    out += [Plan("engine error", 500, client.post(CHAT, prompts.chat(next(texts), user="fail"))) for _ in range(3)]
    # 37 is coprime to 100: the kinds are spread evenly.
    return [out[at * 37 % 100] for at in range(100)]


async def drive(server: launch.Server, work: Iterator[Plan], ended: "collections.Counter[str]") -> None:
    connection = await client.connect(server.url)
    for plan in work:
        if not connection.open:
            connection = await client.connect(server.url)
        answer = await connection.ask(plan.request, cut_after=plan.cut_after)
        if answer.status != plan.status:
            raise RuntimeError(f"{plan.kind}: expected {plan.status}, got {answer.status} {answer.body[:300]!r}")
        ended[plan.kind] += 1
        if answer.headers.get("connection") == "close":
            connection.close()
            connection = await client.connect(server.url)
    connection.close()


async def load(server: launch.Server, of: Sequence[Plan], count: int, ended: "collections.Counter[str]") -> None:
    work = itertools.islice(itertools.cycle(of), count)
    await asyncio.gather(*(drive(server, work, ended) for _ in range(CONNECTIONS)))


async def settled_rss_mb(pid: int) -> float:
    """After a moment of rest: connections that the client left are gone."""
    await asyncio.sleep(1.0)
    return cpu.rss_mb(pid)


async def measure(server: launch.Server, of: Sequence[Plan], requests: int) -> dict[str, object]:
    ended: collections.Counter[str] = collections.Counter()
    start_mb = cpu.rss_mb(server.pid)
    await load(server, of, requests // 10, ended)
    warm_mb = await settled_rss_mb(server.pid)
    report.progress(f"{start_mb:.1f} MB at start, {warm_mb:.1f} MB after {requests // 10} requests")
    ended.clear()
    steps: list[float] = []
    for step in range(10):
        await load(server, of, requests // 10, ended)
        steps.append(await settled_rss_mb(server.pid))
        report.progress(f"{steps[-1]:.1f} MB after {(step + 1) * requests // 10} more")
    return {
        "rss_mb": round(max(steps), 2),
        "growth_mb": round(steps[-1] - warm_mb, 2),
        "start_mb": round(start_mb, 2),
        "warm_mb": round(warm_mb, 2),
        "steps_mb": [round(step, 2) for step in steps],
        "requests": sum(ended.values()),
        "ended": dict(ended),
    }


def main() -> None:
    parser = report.parser(__doc__, runs=1)
    parser.add_argument("--requests", type=int, default=100_000, help="after the warm-up")
    parser.add_argument("--words", type=int, default=100, help="words of a prompt")
    args = parser.parse_args()
    launch.prefer(args.priority)
    requests = 2_000 if args.quick else args.requests
    runs = []
    for run in range(1 if args.quick else args.runs):
        report.progress(f"run {run + 1}")
        with headgate_server.run(headgate_server.stub_members(tick_s=0.002), stub=True) as server:
            runs.append(asyncio.run(measure(server, plans(args.words), requests)))
    worst = max(runs, key=lambda figures: float(str(figures["growth_mb"])))
    report.finish(args, "memory", {**worst, "runs": runs}, goals=GOALS)


if __name__ == "__main__":
    main()
