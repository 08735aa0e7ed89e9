"""Which HTTP server the frontend should be: CPU per request and per streamed event of six, on one trivial endpoint.

The peers run in an environment of their own. All servers stay up and take turns, so that a noisy machine hits all
alike. Headgate's frontend does its whole work here, except for the decision: routing the request, reading the query,
explaining headers, metrics, limits; the others only answer.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cpu
import http_apps
import launch
import prompts
import report
import upstream
import wrk

from router.learn.bench import client

REQUIREMENTS = (
    *("uvicorn==0.54.0", "starlette==1.10.0", "aiohttp==3.14.5", "granian==2.8.7"),
    *("uvloop==0.23.0", "httptools==0.9.0", "msgspec==0.22.0"),
)
OURS = ("bare", "headgate")
GOALS = (report.Goal("ratio_request", 1.0), report.Goal("ratio_event", 1.0))


class Contestant(NamedTuple):
    name: str
    server: launch.Server

    def cpu_s(self) -> float:
        return sum(process.cpu_s for process in cpu.tree(self.server.pid))


class Sample(NamedTuple):
    request_us: float  #: CPU of the server, per non-streaming request
    per_s: float
    p50_ms: float
    p99_ms: float
    event_us: float  #: CPU of the server, per streamed event


def install() -> Path:
    """The python of the peers' environment, made on first use. Raises `CalledProcessError`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "headgate" / "peers" / "http-servers"
    done, python = folder / ".installed", folder / "bin" / "python"
    if not done.exists() or done.read_text(encoding="utf-8") != "\n".join(REQUIREMENTS):
        report.progress(f"installing {', '.join(REQUIREMENTS)} into {folder}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True, stdout=sys.stderr)
        done.write_text("\n".join(REQUIREMENTS), encoding="utf-8")
    return python


def start(stack: contextlib.ExitStack, name: str, peer_python: Path) -> Contestant:
    port = launch.free_port()
    python = Path(sys.executable) if name in OURS else peer_python
    command = [str(python), str(Path(http_apps.__file__)), name, str(port)]
    report.progress(f"starting {name}")
    ready = "/live" if name in OURS else "/health"  # ours has no member here that could answer
    return Contestant(name, stack.enter_context(launch.started(command, port, ready=ready, timeout_s=60)))


def measure(contestant: Contestant, bodies: Sequence[bytes], args: Any, seconds: float) -> Sample:
    before = contestant.cpu_s()
    requests = [client.post(http_apps.PATH, body) for body in bodies]
    load = wrk.run(contestant.server.url, requests, connections=args.connections, seconds=seconds)
    spent = contestant.cpu_s() - before
    if load.errors or not load.requests:
        raise RuntimeError(f"{contestant.name}: {load.errors} errors in {load.requests} requests")
    event_us = stream(contestant, args.streams, args.events)
    return Sample(spent / load.requests * 1e6, load.per_s, load.p50_ms, load.p99_ms, event_us)


def stream(contestant: Contestant, streams: int, events: int) -> float:
    """CPU microseconds of the server per event, all `streams` at once. Raises `RuntimeError` if one event is lost."""
    request = client.post(http_apps.PATH, prompts.chat("hello", stream=True, max_tokens=events))
    wanted = http_apps.EVENT * events + http_apps.END
    before = contestant.cpu_s()
    answers, _ = asyncio.run(client.closed_loop(contestant.server.url, [request], streams=streams, count=streams))
    spent = contestant.cpu_s() - before
    if [answer.body for answer in answers] != [wanted] * streams:
        raise RuntimeError(f"{contestant.name} lost or changed events")
    return spent / (streams * events) * 1e6


def figures(samples: dict[str, list[Sample]]) -> dict[str, Any]:
    """Ours over the fastest other that is a server, not the floor; run by run."""
    spread = {
        name: {field: report.spread([getattr(sample, field) for sample in of]) for field in Sample._fields}
        for name, of in samples.items()
    }
    result: dict[str, Any] = {"servers": spread}
    for field in ("request", "event"):
        ours = [getattr(sample, f"{field}_us") for sample in samples["headgate"]]
        result[f"headgate_{field}_us"] = spread["headgate"][f"{field}_us"]["median"]
        others = [name for name in samples if name not in OURS]
        if others:
            best = min(others, key=lambda name: spread[name][f"{field}_us"]["median"])
            ratio = report.ratios(ours, [getattr(sample, f"{field}_us") for sample in samples[best]])
            result[f"best_other_{field}"] = best
            result[f"ratio_{field}"] = report.spread(ratio)["median"]
    return result


def table(samples: dict[str, list[Sample]]) -> str:
    lines = [f"{'':12}{'us/request':>12}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'us/event':>10}"]
    for name, of in samples.items():
        medians = [report.spread([getattr(sample, field) for sample in of])["median"] for field in Sample._fields]
        lines.append(
            f"{name:12}{medians[0]:12.1f}{medians[1]:12.0f}{medians[2]:9.2f}{medians[3]:9.2f}{medians[4]:10.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--servers", default=",".join(http_apps.SERVERS), help="comma-separated")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run of requests")
    parser.add_argument("--connections", type=int, default=32, help="of wrk, each with one request at a time")
    parser.add_argument("--streams", type=int, default=64, help="at once")
    parser.add_argument("--events", type=int, default=200, help="of each stream")
    args = parser.parse_args()
    if missing := upstream.missing_tools():
        parser.exit(2, f"{missing}\n")
    names = args.servers.split(",")
    runs, seconds = (2, 1.0) if args.quick else (args.runs, args.seconds)
    peer_python = install() if set(names) - set(OURS) else Path(sys.executable)
    bodies = [prompts.chat(text) for text in prompts.texts(64, 100)]
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        contestants = [start(stack, name, peer_python) for name in names]
        for run in range(-1, runs):  # the first is warm-up
            for contestant in contestants:
                sample = measure(contestant, bodies, args, seconds)
                what = f"{sample.request_us:.1f} us a request, {sample.event_us:.2f} us an event"
                report.progress(f"run {run + 1}/{runs} {contestant.name}: {what}")
                if run >= 0:
                    samples[contestant.name].append(sample)
    if not args.json:
        print(table(samples))
    peers = {requirement.partition("==")[0]: requirement.partition("==")[2] for requirement in REQUIREMENTS}
    report.finish(args, "http_servers", figures(samples), goals=GOALS, extra_versions=peers)


if __name__ == "__main__":
    main()
