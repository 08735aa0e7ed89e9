"""CPU of the frontend process per non-streaming chat request, the routing decision included, beside other routers.

Headgate stands before two stub engine hosts, the others before an nginx that answers at once. wrk loads each in turn
with 100-word prompts that all differ. All servers stay up and take turns: a noisy machine hits all alike.
"""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import client
import cpu
import headgate_server
import launch
import peers
import prompts
import report
import stub_host
import upstream
import wrk

PATH = "/v1/chat/completions"
GOALS = (report.Goal("headgate_cpu_us", 50), report.Goal("ratio", 0.6))


class Contestant(NamedTuple):
    name: str
    server: launch.Server
    bodies: Sequence[bytes]

    def cpu_s(self) -> float:
        """CPU seconds of the router's own processes; the stub hosts behind Headgate stand for engines."""
        root, *below = sorted(cpu.tree(self.server.pid), key=lambda process: process.pid != self.server.pid)
        return root.cpu_s + sum(process.cpu_s for process in below if not process.title.endswith("stub_host.py"))


class Sample(NamedTuple):
    cpu_us: float
    per_s: float
    p50_ms: float
    p99_ms: float


def verify(contestant: Contestant) -> dict[str, int]:
    """Every body answered once, rightly; how many answers each model gave. Raises `RuntimeError` on a wrong one."""
    requests = [client.post(PATH, body) for body in contestant.bodies]
    wrong: list[str] = []
    models: dict[str, int] = {}

    def keep(number: int, answer: client.Answer) -> None:
        said = json.loads(answer.body)
        body = contestant.bodies[number]
        expected = stub_host.check_of(body) if contestant.name == "headgate" else "ok"
        if answer.status != 200 or said["choices"][0]["message"]["content"] != expected:
            wrong.append(f"{contestant.name} answered {answer.status} {answer.body[:300]!r}")
        models[said.get("model", "?")] = models.get(said.get("model", "?"), 0) + 1

    asyncio.run(client.closed_loop(contestant.server.url, requests, streams=8, count=len(requests), keep=keep))
    if wrong:
        raise RuntimeError(f"{len(wrong)} wrong answers; the first: {wrong[0]}")
    return models


def measure(contestant: Contestant, connections: int, seconds: float) -> Sample:
    before = contestant.cpu_s()
    load = wrk.run(contestant.server.url, PATH, contestant.bodies, connections=connections, seconds=seconds)
    spent = contestant.cpu_s() - before
    if load.errors or not load.requests or not spent:
        raise RuntimeError(f"{contestant.name}: {load.errors} errors in {load.requests} requests, {spent} s of CPU")
    return Sample(spent / load.requests * 1e6, load.per_s, load.p50_ms, load.p99_ms)


def summary(samples: Sequence[Sample]) -> dict[str, Any]:
    return {field: report.spread([getattr(s, field) for s in samples]) for field in Sample._fields}


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--peers", default=",".join(peers.PEERS), help="to run beside us, comma-separated; '' for none")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run")
    parser.add_argument("--connections", type=int, default=32, help="of wrk, each with one request at a time")
    parser.add_argument("--words", type=int, default=100, help="words of a prompt")
    args = parser.parse_args()
    launch.prefer(args.priority)
    if missing := upstream.missing_tools():
        parser.exit(2, f"{missing}\n")
    runs, seconds = (2, 1.0) if args.quick else (args.runs, args.seconds)
    chosen = [peers.PEERS[name] for name in args.peers.split(",") if name]
    texts = prompts.texts(64 if args.quick else 512, args.words)
    with contextlib.ExitStack() as stack:
        contestants, models = start(stack, chosen, texts)
        samples: dict[str, list[Sample]] = {contestant.name: [] for contestant in contestants}
        for run in range(-1, runs):  # the first is warm-up
            for contestant in contestants:
                sample = measure(contestant, args.connections, seconds)
                report.progress(f"run {run + 1}/{runs} {contestant.name}: {sample.cpu_us:.1f} us, {sample.per_s:.0f}/s")
                if run >= 0:
                    samples[contestant.name].append(sample)
    report.finish(args, "overhead", figures(samples, models), goals=GOALS, extra_versions=_versions(chosen))


def start(
    stack: contextlib.ExitStack, chosen: Sequence[peers.Peer], texts: Sequence[str]
) -> tuple[list[Contestant], dict[str, int]]:
    """All servers up and verified; and which of our models answered how often."""
    report.progress("starting headgate")
    ours = stack.enter_context(headgate_server.run(headgate_server.stub_members(), stub=True))
    contestants = [Contestant("headgate", ours, [prompts.chat(text) for text in texts])]
    urls = stack.enter_context(upstream.nginx("stub", servers=2)) if chosen else []
    for peer in chosen:
        report.progress(f"starting {peer.name}")
        server = stack.enter_context(peers.run(peer, urls))
        contestants.append(Contestant(peer.name, server, [prompts.chat(text, model="stub") for text in texts]))
    models = [verify(contestant) for contestant in contestants]
    return contestants, models[0]


def figures(samples: dict[str, list[Sample]], models: dict[str, int]) -> dict[str, Any]:
    ours = [sample.cpu_us for sample in samples["headgate"]]
    beside = {name: summary(of) for name, of in samples.items() if name != "headgate"}
    for name, of in samples.items():
        if name != "headgate":
            beside[name]["ratio"] = report.spread(report.ratios(ours, [sample.cpu_us for sample in of]))
    router = beside.get("vllm-router")
    return {
        "headgate_cpu_us": round(report.spread(ours)["median"], 2),
        "ratio": None if router is None else router["ratio"]["median"],
        "headgate": summary(samples["headgate"]),
        "answered_by": models,
        "peers": beside,
    }


def _versions(chosen: Sequence[peers.Peer]) -> dict[str, str]:
    return {peer.name: peer.requirement.split("==")[1] for peer in chosen}


if __name__ == "__main__":
    main()
