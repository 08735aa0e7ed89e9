"""How true `headgate bench` is, and what it costs: its figures beside those of a stub that knows its own delays.

The stub (`steady_stub.py`) says what it did, by its own clock. `bench_err` is how far the worst of median TTFT, TPOT
and end to end is off, in units of 1 ms or 1 %, whichever is more. `bench_us` is the generator's CPU a request of one
token; `event_us` is what each further token adds, the kernel's wake for it included; `own_event_us` is without it.
"""

import asyncio
import json
import statistics
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import launch
import report
import steady_stub
import uvloop

from router.learn.bench import arrivals, client, generator, policies, slo, told, workload
from router.learn.bench.arrivals import Arrivals
from router.learn.bench.generator import Ask, Generator, Planned, Sent

GOALS = (report.Goal("bench_err", 1), report.Goal("bench_us", 100), report.Goal("event_us", 3))
FIRST_S, GAP_S, TOKENS = 0.02, 0.005, 64
_STUB = Path(__file__).resolve().parent / "steady_stub.py"


def sent(url: str, rate: float, seconds: float, seed: int) -> Sent:
    how = Ask(max_tokens=TOKENS)
    items = workload.synthetic(100, 100, TOKENS, seed).items
    moments = arrivals.planned(Arrivals(), rate, seconds, seed)
    plan = [Planned(float(at), number % len(items)) for number, at in enumerate(moments)]
    bodies = [generator.body(item, how) for item in items]
    made = Generator(policies.target(f"stub={url}"), plan, bodies, how)
    return uvloop.run(_run(made))


async def _run(made: Generator) -> Sent:
    return await asyncio.wait_for(made.run(), 600)


def off(ours_ms: float, truth_ms: float) -> float:
    """In units of what is allowed: 1 % or 1 ms, whichever is more."""
    return abs(ours_ms - truth_ms) / max(1.0, 0.01 * truth_ms)


def errors(found: Sent, truths: list[tuple[float, float]]) -> dict[str, float]:
    rows = [row for row in found.rows if not row.fault]
    counts = len(found.rows), len(rows), len(truths)
    assert len(set(counts)) == 1, f"sent, answered, told: {counts}"
    tpot_ms = [tpot / 1e3 for row in rows if (tpot := slo.tpot_us(row)) is not None]
    ours = {
        "ttft": statistics.median(row.ttft_us / 1e3 for row in rows if row.ttft_us is not None),
        "e2e": statistics.median(row.e2e_us / 1e3 for row in rows),
        "tpot": statistics.median(tpot_ms) if tpot_ms else 0.0,
    }
    tokens = max(2, rows[0].output_tokens)
    truth = {
        "ttft": 1e3 * statistics.median(first for first, _ in truths),
        "e2e": 1e3 * statistics.median(last for _, last in truths),
        "tpot": 1e3 * statistics.median((last - first) / (tokens - 1) for first, last in truths),
    }
    return {f"{name}_ms": round(ours[name] - truth[name], 3) for name in ours} | {
        "worst": max(off(ours[name], truth[name]) for name in ours)
    }


def measure(tokens: int, rate: float, seconds: float, runs: int) -> list[dict[str, float]]:
    port = launch.free_port()
    command = [sys.executable, "-P", str(_STUB), str(port), str(FIRST_S), str(GAP_S), str(tokens)]
    out = []
    with launch.started(command, port, ready="/told", timeout_s=60) as server:
        for run in range(runs):
            found = sent(server.url, rate, seconds, run)
            with urllib.request.urlopen(f"{server.url}/told", timeout=60) as answer:
                truths = json.load(answer)
            cpu_us = found.own_cpu_s / len(found.rows) * 1e6
            late_ms = statistics.median(row.late_us for row in found.rows) / 1e3
            one = {"cpu_us": cpu_us, "late_ms": late_ms, "requests": len(found.rows), **errors(found, truths)}
            report.progress(f"{tokens} tokens, run {run + 1}/{runs}: {one}")
            out.append(one)
    return out


def own_event_us(tokens: int = 10_000) -> float:
    """CPU of the generator's own code for a token: what is read is taken apart and decoded, and no kernel is asked."""
    connection = client.Connection()
    connection.answer.status = 200
    connection.data_received(steady_stub.HEAD)
    begun_s = time.process_time()
    for _ in range(tokens):
        connection.data_received(steady_stub.TOKEN)
    found = told.read(connection.answer, stream=True)
    spent_s = time.process_time() - begun_s
    assert len(found.at_s) == tokens
    return spent_s / tokens * 1e6


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second of one token")
    parser.add_argument("--streams", type=float, default=200.0, help="requests a second of many tokens")
    args = parser.parse_args()
    launch.prefer(args.priority)
    runs, seconds = (1, 2.0) if args.quick else (args.runs, 10.0)
    generator.raise_file_limit()
    one = measure(1, args.rate, seconds, runs)
    many = measure(TOKENS, args.streams, seconds, runs)
    own = [own_event_us() for _ in range(5)]
    report.finish(
        args,
        "load_generator",
        {**figures(one, many), "own_event_us": report.spread(own)},
        goals=GOALS,
        distributions=("uvloop", "httptools"),
    )


def figures(one: list[dict[str, float]], many: list[dict[str, float]]) -> dict[str, Any]:
    single, streamed = (statistics.median(run["cpu_us"] for run in runs) for runs in (one, many))
    return {
        "bench_err": round(statistics.median(run["worst"] for run in (*one, *many)), 3),
        "bench_us": round(single, 1),
        "event_us": round((streamed - single) / (TOKENS - 1), 2),
        "one_token": one,
        "many_tokens": many,
    }


if __name__ == "__main__":
    main()
