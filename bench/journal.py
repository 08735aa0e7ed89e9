"""What the journal lacks after `kill -9` of the frontend under load, and whether every reader gets past what broke off.

A real `headgate serve` over two stub hosts, and few or many connections, each of which asks again as soon as it is
answered: streams and whole answers, of native and of ordinary requests, and feedback on some. The client notes each
decision's id as it has the last byte of the answer; after the kill the journal is read.

A tick is a turn of the frontend's event loop in which requests ended. The frontend notes which of them it told the
journal of in which tick (`ticking.py`). A request that was told in the last tick was acknowledged one tick before the
kill; so was one that was not told any more, for it ended in the turn before. `journal_missing_ticks` is the most, over
all kills with `sync: tick`.
"""

import asyncio
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import headgate_server
import prompts
import report
import ticking

from router.learn.bench import client
from router.observe.journal import FeedbackLine, Reader

GOALS = (
    report.Goal("journal_missing_ticks", 1),
    report.Goal("journal_missing", 0),
    report.Goal("feedback_missing", 0),
    report.Goal("readers_failed", 0),
)
MODES = ("tick", "record")
_RATE_EACH = 16  #: one answer of so many is rated
_LATEST_S = 1.5  #: after the load began, at the latest, comes the kill
_ENOUGH = 200  #: answers, before it comes


class Acknowledged:
    """What the clients of one server have in hand."""

    def __init__(self) -> None:
        self.answers: dict[str, float] = {}  #: by decision id, when the last byte had come
        self.rated: set[str] = set()  #: ids whose feedback was answered with 200


class Sample(NamedTuple):
    """One kill."""

    answers: int  #: acknowledged
    missing: int  #: of them not in the journal
    ticks: int  #: before the kill was the first of those acknowledged
    missing_ms: float  #: the same in time
    feedback: int
    feedback_missing: int
    torn: int  #: lines
    tick_ms: float  #: median time from tick to tick


def requests(count: int = 64) -> list[bytes]:
    """Streams and whole answers; each third request goes the ordinary way."""
    made = []
    for i, text in enumerate(prompts.texts(count, 40)):
        request = client.post("/v1/chat/completions", prompts.chat(text, stream=i % 2 == 0, max_tokens=2 + i % 5))
        made.append(request.replace(b"\r\n", b"\r\nx-headgate-debug: true\r\n", 1) if i % 3 == 0 else request)
    return made


async def ask(connection: client.Connection, asked: Iterator[bytes], seen: Acknowledged) -> None:
    """Until the server is gone."""
    try:
        for number, request in enumerate(asked):
            answer = await connection.ask(request)
            if answer.status != 200:
                raise RuntimeError(f"expected answers, got {answer.status}: {answer.body[:200]!r}")
            id = answer.headers["x-headgate-decision-id"]
            seen.answers[id] = answer.end_s
            if number % _RATE_EACH == 0:
                body = json.dumps({"id": id, "score": 1}).encode()
                if (await connection.ask(client.post("/v1/feedback", body))).status == 200:
                    seen.rated.add(id)
    except ConnectionError:
        return


async def drive(url: str, pid: int, connections: int, after_s: float) -> tuple[Acknowledged, float]:
    """Load, and the kill; what was acknowledged, and when the kill came."""
    seen, asked = Acknowledged(), requests()
    async with client.connections(url, connections) as opened:
        workers = [
            asyncio.create_task(ask(one, itertools.cycle(asked[i % len(asked) :] + asked[: i % len(asked)]), seen))
            for i, one in enumerate(opened)
        ]
        give_up_s = time.perf_counter() + 60
        await asyncio.sleep(after_s)
        while len(seen.answers) < _ENOUGH and time.perf_counter() < give_up_s:
            await asyncio.sleep(0.01)
        killed_s = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        await asyncio.gather(*workers)
    return seen, killed_s


def kill(mode: str, folder: Path, connections: int, draw: random.Random) -> Sample:
    notes = folder.with_suffix(".ticks")
    before = set(folder.glob("*.jsonl"))
    server = headgate_server.run(
        headgate_server.stub_members(0.002), stub=True, branches={"journal": {"path": str(folder), "sync": mode,
        "prompts": True}}, env={ticking.VARIABLE: str(notes)}, program=(str(Path(ticking.__file__).resolve()),),
    )  # fmt: skip
    with server as running:
        seen, killed_s = asyncio.run(drive(running.url, running.pid, connections, draw.uniform(0.2, _LATEST_S)))
    return compare(seen, killed_s, sorted(set(folder.glob("*.jsonl")) - before), ticking.read(notes))


def compare(seen: Acknowledged, killed_s: float, files: Sequence[Path], ticks: Sequence[ticking.Tick]) -> Sample:
    """`files`: that the server wrote."""
    written, rated, torn = set(), set(), 0
    for path in files:
        reader = Reader(path)
        for line in reader:
            (rated if isinstance(line, FeedbackLine) else written).add(line.id)
        torn += reader.torn
    missing = {id: at_s for id, at_s in seen.answers.items() if id not in written}
    told = {id: at for at, tick in enumerate(ticks) for id in tick.ids}
    spans_s = [b.at_s - a.at_s for a, b in itertools.pairwise(ticks)]
    return Sample(
        answers=len(seen.answers), missing=len(missing),
        ticks=max((len(ticks) - told.get(id, len(ticks) - 1) for id in missing), default=0),
        missing_ms=max(killed_s - at_s for at_s in (killed_s, *missing.values())) * 1e3,
        feedback=len(seen.rated), feedback_missing=len(seen.rated - rated), torn=torn,
        tick_ms=report.quantile(spans_s, 0.5) * 1e3 if spans_s else 0.0,
    )  # fmt: skip


def readers(folder: Path) -> dict[str, int]:
    """Exit codes of all that reads a journal, over what every kill left."""
    config = folder.with_suffix(".yaml")
    config.write_text(json.dumps({"pool": headgate_server.stub_members()}), encoding="utf-8")
    commands = {
        "tail": ["journal", "tail", str(folder)],
        "replay": ["journal", "replay", str(folder), "--config", str(config), "--json"],
        "import": ["data", "import", str(folder), "--out", str(folder.with_suffix(".outcomes.jsonl")), "--json"],
    }
    codes = {}
    for name, words in commands.items():
        done = subprocess.run(
            [sys.executable, "-P", "-m", "router.cli.main", *words], capture_output=True, text=True, check=False
        )
        codes[name] = done.returncode
        if done.returncode:
            report.progress(f"{name}: {done.stderr[-500:]}")
    return codes


def main() -> None:
    parser = report.parser(__doc__ or "", runs=100)
    parser.add_argument(
        "--connections", type=int, nargs="+", default=[1, 8, 64, 256], help="so many clients, in turn from kill to kill"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    args = parser.parse_args()
    runs, connections = (2, [1, 32]) if args.quick else (args.runs, args.connections)
    draw, codes = random.Random(args.seed), {}
    samples: dict[str, list[Sample]] = {mode: [] for mode in MODES}
    with tempfile.TemporaryDirectory(prefix="headgate-journal-") as folder:
        for number in range(runs):
            for mode, of in samples.items():
                of.append(kill(mode, Path(folder) / mode, connections[number % len(connections)], draw))
                report.progress(f"kill {number + 1} of {runs}, sync: {mode}: {of[-1]}")
        for mode in MODES:
            codes |= {f"{name}, sync: {mode}": code for name, code in readers(Path(folder) / mode).items()}
    report.finish(args, "journal", {**figures(samples), **told(codes), "connections": connections}, goals=GOALS)


def figures(samples: dict[str, list[Sample]]) -> dict[str, Any]:
    modes = {
        mode: {
            "kills": len(of),
            "answers": sum(one.answers for one in of),
            "missing": sum(one.missing for one in of),
            "missing_ticks": max(one.ticks for one in of),
            "missing_ms": report.spread([one.missing_ms for one in of]),
            "feedback": sum(one.feedback for one in of),
            "feedback_missing": sum(one.feedback_missing for one in of),
            "torn_lines": sum(one.torn for one in of),
            "tick_ms": report.spread([one.tick_ms for one in of]),
        }
        for mode, of in samples.items()
    }
    return {
        "journal_missing_ticks": modes["tick"]["missing_ticks"],
        "journal_missing": modes["record"]["missing"],
        "feedback_missing": sum(of["feedback_missing"] for of in modes.values()),
        "modes": modes,
    }


def told(codes: dict[str, int]) -> dict[str, Any]:
    return {"readers_failed": sum(code != 0 for code in codes.values()), "readers": codes}


if __name__ == "__main__":
    main()
