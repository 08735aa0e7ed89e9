"""The share of one member's requests that stay native, each of their steps, after another member has answered one 500.

A whole server over two stub engine hosts. One request to the large model fails; then requests to the small one, whole
and streamed, are sent by clients side by side, and the server's `headgate_steps_total` is read before and after them.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import headgate_server
import launch
import prompts
import report
from scrape import Counters

from router.learn.bench import client

GOALS = (report.Goal("native_share", 1, at_most=False),)
PATH = "/v1/chat/completions"
#: Of a request that never leaves the native steps; in the order in which it takes them.
STEPS = ("head", "body", "admit", "score", "decide", "frame", "pass_on", "end")


def fail_once(server: launch.Server, member: str) -> None:
    """Raises `RuntimeError` where `member` answers anything but one 500."""
    request = client.post(PATH, prompts.chat("fail", model=member, user="fail"))
    answers, _ = asyncio.run(client.closed_loop(server.url, [request], streams=1, count=1))
    if [answer.status for answer in answers] != [500]:
        raise RuntimeError(f"{member}: expected one 500, got {[answer.status for answer in answers]}")


def ask(server: launch.Server, requests: Sequence[bytes], *, streams: int) -> None:
    """Each of `requests` once. Raises `RuntimeError` unless all are answered."""
    answers, _ = asyncio.run(client.closed_loop(server.url, requests, streams=streams, count=len(requests)))
    failed = [answer.status for answer in answers if answer.status != 200]
    if failed or len(answers) != len(requests):
        raise RuntimeError(f"of {len(requests)} requests {len(answers)} were answered, {len(failed)} of them by errors")


def taken(counters: Counters) -> dict[str, float]:
    """Requests so far that took each step natively."""
    return {step: counters.value("headgate_steps_total", step=step, native="true") for step in STEPS}


def measure(server: launch.Server, count: int, streams: int) -> dict[str, float]:
    """By step, the share of `count` requests that took it natively."""
    texts = prompts.texts(count, 100)
    requests = [
        client.post(PATH, prompts.chat(text, model="small", stream=number % 2 == 1, max_tokens=4))
        for number, text in enumerate(texts)
    ]
    before = taken(Counters(server.url))
    ask(server, requests, streams=streams)
    after = taken(Counters(server.url))
    return {step: (after[step] - before[step]) / count for step in STEPS}


def main() -> None:
    parser = report.parser(__doc__ or "", runs=1)
    parser.add_argument("--requests", type=int, default=10_000, help="to the member that has not failed, of each run")
    parser.add_argument("--streams", type=int, default=32, help="requests at once")
    args = parser.parse_args()
    launch.prefer(args.priority)
    count, runs = (200, 1) if args.quick else (args.requests, args.runs)
    found: list[dict[str, float]] = []
    for _ in range(runs):
        with headgate_server.run(headgate_server.stub_members(0.002), stub=True) as server:
            fail_once(server, "large")
            found.append(measure(server, count, args.streams))
    report.finish(args, "native_share", figures(found, count), goals=GOALS)


def figures(found: Sequence[dict[str, float]], count: int) -> dict[str, Any]:
    """The worst step of the worst run is the share."""
    steps = {step: min(run[step] for run in found) for step in STEPS}
    return {"native_share": min(steps.values()), "requests": count, "steps": steps}


if __name__ == "__main__":
    main()
