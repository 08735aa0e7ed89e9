"""CPU of the frontend process per non-streaming chat request, the routing decision included, beside other routers.

Headgate stands before two stub engine hosts, the others before an nginx that answers at once. wrk loads each in turn
with 100-word prompts that all differ. All servers stay up and take turns: a noisy machine hits all alike.

Each is loaded twice in a run: with bare requests, and with full ones, which bring an `x-request-id`, a `traceparent`
and an API key. Full requests go to a second Headgate, which checks the key and writes a journal.
"""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cpu
import headgate_server
import launch
import peers
import prompts
import report
import stub_host
import upstream
import wrk
from scrape import Counters

from router.learn.bench import client

PATH = "/v1/chat/completions"
API_KEY = "sk-0123456789abcdef0123456789abcdef"
HEADGATE = "headgate"
GOALS = (
    report.Goal("headgate_cpu_us", 50),
    report.Goal("ratio", 0.22),
    report.Goal("ratio_full", 0.28),
    report.Goal("journal_missing", 0),
    report.Goal("native_share_full", 1, at_most=False),
)


class Contestant(NamedTuple):
    """One server, and the requests that it is loaded with."""

    name: str
    full: bool  #: with an id, a trace and a key
    server: launch.Server
    bodies: Sequence[bytes]

    def requests(self) -> list[bytes]:
        return [
            client.post(PATH, body, headers=full_headers(number) if self.full else ())
            for number, body in enumerate(self.bodies)
        ]

    def cpu_s(self) -> float:
        """CPU seconds of the router's own processes; the stub hosts behind Headgate stand for engines."""
        root, *below = sorted(cpu.tree(self.server.pid), key=lambda process: process.pid != self.server.pid)
        return root.cpu_s + sum(process.cpu_s for process in below if not process.title.endswith("stub_host.py"))


class Sample(NamedTuple):
    cpu_us: float
    per_s: float
    p50_ms: float
    p99_ms: float


Samples = Mapping[tuple[str, bool], Sequence[Sample]]  #: by name, and whether the requests were full


def full_headers(number: int) -> tuple[str, str, str]:
    """What a gateway adds to a client's request, as lines of its head."""
    trace = f"00-{number + 1:032x}-{number + 1:016x}-01"
    return (f"x-request-id: {number:016x}", f"traceparent: {trace}", f"authorization: Bearer {API_KEY}")


def verify(contestant: Contestant) -> dict[str, int]:
    """Every request answered once, rightly; how many answers each model gave. Raises `RuntimeError` on a wrong one."""
    requests = contestant.requests()
    wrong: list[str] = []
    models: dict[str, int] = {}

    def keep(number: int, answer: client.Answer) -> None:
        said = json.loads(answer.body)
        body = contestant.bodies[number]
        expected = stub_host.check_of(body) if contestant.name == HEADGATE else "ok"
        id = f"{number:016x}" if contestant.full else None
        right = answer.status == 200 and said["choices"][0]["message"]["content"] == expected
        if not right or id not in (None, answer.headers.get("x-request-id")):
            wrong.append(f"{contestant.name} answered {answer.status} {answer.headers} {answer.body[:300]!r}")
        models[said.get("model", "?")] = models.get(said.get("model", "?"), 0) + 1

    asyncio.run(client.closed_loop(contestant.server.url, requests, streams=8, count=len(requests), keep=keep))
    if wrong:
        raise RuntimeError(f"{len(wrong)} wrong answers; the first: {wrong[0]}")
    return models


def measure(contestant: Contestant, connections: int, seconds: float) -> Sample:
    before = contestant.cpu_s()
    load = wrk.run(contestant.server.url, contestant.requests(), connections=connections, seconds=seconds)
    spent = contestant.cpu_s() - before
    if load.errors or not load.requests or not spent:
        raise RuntimeError(f"{contestant.name}: {load.errors} errors in {load.requests} requests, {spent} s of CPU")
    return Sample(spent / load.requests * 1e6, load.per_s, load.p50_ms, load.p99_ms)


def summary(samples: Sequence[Sample]) -> dict[str, Any]:
    return {field: report.spread([getattr(s, field) for s in samples]) for field in Sample._fields}


def main() -> None:
    parser = report.parser(__doc__ or "")
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
        samples: dict[tuple[str, bool], list[Sample]] = {(one.name, one.full): [] for one in contestants}
        for run in range(-1, runs):  # the first is warm-up
            for one in contestants:
                sample = measure(one, args.connections, seconds)
                kind = "full" if one.full else "bare"
                report.progress(
                    f"run {run + 1}/{runs} {one.name}, {kind}: {sample.cpu_us:.1f} us, {sample.per_s:.0f}/s"
                )
                if run >= 0:
                    samples[one.name, one.full].append(sample)
        kept = journal_figures(contestants[1].server)
    found = {**figures(samples), **kept, "answered_by": models}
    report.finish(args, "overhead", found, goals=GOALS, extra_versions=_versions(chosen))


def start(
    stack: contextlib.ExitStack, chosen: Sequence[peers.Peer], texts: Sequence[str]
) -> tuple[list[Contestant], dict[str, int]]:
    """All servers up and verified, Headgate's bare and full one first; and which of our models answered how often."""
    report.progress("starting headgate")
    ours = [prompts.chat(text) for text in texts]
    members = headgate_server.stub_members()
    bare = stack.enter_context(headgate_server.run(members, stub=True))
    journal = {"path": stack.enter_context(tempfile.TemporaryDirectory(prefix="headgate-bench-")) + "/journal"}
    full = stack.enter_context(
        headgate_server.run(members, stub=True, api_keys=[API_KEY], branches={"journal": journal})
    )
    contestants = [Contestant(HEADGATE, False, bare, ours), Contestant(HEADGATE, True, full, ours)]
    urls = stack.enter_context(upstream.nginx("stub", servers=2)) if chosen else []
    for peer in chosen:
        report.progress(f"starting {peer.name}")
        server = stack.enter_context(peers.run(peer, urls))
        theirs = [prompts.chat(text, model="stub") for text in texts]
        contestants += [Contestant(peer.name, full, server, theirs) for full in (False, True)]
    models = [verify(contestant) for contestant in contestants]
    return contestants, models[0]


def journal_figures(server: launch.Server) -> dict[str, Any]:
    """Full requests without a line in the journal; and the share that took all steps natively. Those that wrk leaves
    unanswered at the end of a run are no fault: they have lines too, but leave the native steps."""
    counters = Counters(server.url)
    ended = counters.value("headgate_requests_total", route=PATH)
    lines = counters.value("headgate_journal_records_total")
    left = counters.value("headgate_steps_total", native="false")
    for why in ("client_gone", "other_route"):
        left -= counters.value("headgate_steps_total", native="false", why=why)
    return {"journal_missing": ended - lines, "native_share_full": 1 - left / ended, "journal_records": lines}


def figures(samples: Samples) -> dict[str, Any]:
    """Ratios are of runs in turn; Headgate's share of what each of the others takes for the same requests."""
    beside = {name: {} for name, _ in samples if name != HEADGATE}
    for name, full in samples:
        if name != HEADGATE:
            ours, theirs = ([one.cpu_us for one in samples[who, full]] for who in (HEADGATE, name))
            ratio = report.spread(report.ratios(ours, theirs))
            beside[name]["full" if full else "bare"] = {**summary(samples[name, full]), "ratio": ratio}
    router = beside.get("vllm-router")
    bare, full = (summary(samples[HEADGATE, full]) for full in (False, True))
    return {
        "headgate_cpu_us": bare["cpu_us"]["median"],
        "headgate_full_cpu_us": full["cpu_us"]["median"],
        "ratio": None if router is None else router["bare"]["ratio"]["median"],
        "ratio_full": None if router is None else router["full"]["ratio"]["median"],
        "headgate": bare,
        "headgate_full": full,
        "peers": beside,
    }


def _versions(chosen: Sequence[peers.Peer]) -> dict[str, str]:
    return {peer.name: peer.requirement.split("==")[1] for peer in chosen}


if __name__ == "__main__":
    main()
