"""One storm: a real frontend on a real socket over real engine-host processes, which act by the script of each request.
Its accounts are compared while it stands still between its rounds, and after its end."""

import asyncio
import contextlib
import gc
import logging
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from router import Router, config
from router.frontend.server import Frontend
from router.heads import Head
from router.observe.journal import Reader
from router.observe.metrics import Metrics
from router.observe.record import Record
from router.pipeline.scoring import Scoring
from router.pipeline.service import MemberStatus
from router.types import Query, Scores
from tests.cli.conftest import write_checkpoint
from tests.conftest import ROOT, until
from tests.storm import arrows
from tests.storm.books import Scrape, check, nothing_left, number
from tests.storm.plan import BODY_BYTES, KEY, MEMBERS, URL, Planner
from tests.storm.rounds import Rounds
from tests.storm.upstream import Upstream

IN_FLIGHT = 20  #: fewer than there are clients
VISITS = 90  #: of one round
ROUNDS = 2
HOST = (sys.executable, "-P", str(ROOT / "tests" / "pool" / "scripted_host.py"))
#: Objects of one request or connection, by the names of their classes: none is left once all have ended.
_OF_REQUESTS = frozenset({
    "Request", "EngineCall", "HttpCall", "Permit", "Connection", "Exchange", "Reading", "Answer", "Reply",
})  # fmt: skip


def objects_of_requests() -> Counter[str]:
    gc.collect()
    return Counter(type(one).__name__ for one in gc.get_objects() if type(one).__name__ in _OF_REQUESTS)


def open_sockets() -> int:
    links = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
    return sum(link.startswith("socket:") for link in links)


def tree(folder: Path) -> dict[str, Any]:
    """The config of a storm's server, its ports left to the system."""
    checkpoint = folder / "small.safetensors"
    write_checkpoint(checkpoint)
    limits = {
        "in_flight": IN_FLIGHT, "queue_requests": 5, "queue_s": 0.15, "body_bytes": BODY_BYTES,
        "pending_bytes": 8 * BODY_BYTES, "stream_buffer_bytes": 1 << 16, "drain_s": 0.3, "body_timeout_s": 1.0,
        "header_timeout_s": 1.0,
    }  # fmt: skip
    able = ["chat", "completions", "messages", "tools"]
    return {
        "server": {"port": 0, "admin_port": 0, "api_keys": [KEY], "limits": limits},
        "pool": [
            {"name": name, "model": "stub", "strength": 0.4 + 0.1 * i, "gpu_share": 0.3,
             "engine_args": {"capabilities": able, "core": True}}
            for i, name in enumerate(MEMBERS)
        ],
        "routing": {"checkpoint": str(checkpoint), "price": 0.0},
        "supervision": {
            "backoff_s": 0.05, "backoff_max_s": 0.1, "stop_timeout_s": 2.0, "breaker_failures": 3,
            "breaker_open_s": 0.2, "ping_s": 0.5, "ping_timeout_s": 5.0,
        },
    }  # fmt: skip


class Slowly(Scoring):
    """On a thread it takes its time, so that requests end while they are scored."""

    def __init__(self, head: Head, router: str) -> None:
        super().__init__(head, router)
        self._random = random.Random(0)

    def score(self, query: Query) -> Scores:
        if threading.current_thread() is not threading.main_thread():
            time.sleep(self._random.choice((0.0, 0.3)))
        return super().score(query)


class Bugs(logging.Handler):
    """What was logged of an exception that nobody expected."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[0] is not None:
            self.heard.append(f"{record.getMessage()}: {self.formatException(record)}")

    def formatException(self, record: logging.LogRecord) -> str:
        return logging.Formatter().formatException(record.exc_info)  # type: ignore[arg-type]

    def loop_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.heard.append(f"{context}")


@contextlib.contextmanager
def listening() -> Iterator[Bugs]:
    bugs, heard = Bugs(), logging.getLogger()
    heard.addHandler(bugs)
    try:
        yield bugs
    finally:
        heard.removeHandler(bugs)


class House:
    """A server in this process, and its rounds. `records`: of all that ended so far."""

    def __init__(self, seed: int, folder: Path, upstream: Upstream) -> None:
        settings = tree(folder)
        url = f"http://127.0.0.1:{upstream.port}/v1"
        settings["pool"].append({"name": URL, "kind": "openai", "url": url, "strength": 0.35})
        self.journal = folder / "journal" if seed % 4 else None
        if self.journal is not None:
            settings["journal"] = {
                "path": str(self.journal),
                "sync": ("record", "tick")[seed % 2],
                "prompts": seed % 5 < 2,
            }
        made = config.build(settings)
        loaded = Scoring.load(made.routing.checkpoint, made.pool)
        scoring = Slowly(loaded.head, loaded.router)
        self.router = Router(made, host_command=HOST, scoring=scoring, metrics=Metrics(process=False))
        self.frontend = Frontend(made.server, self.router, self.router.metrics)
        self._upstream = upstream
        self.port = 0  #: once started
        self.moment: arrows.Moment = "open"
        self.records: list[Record] = []
        self.arrows: set[str] = set()
        self._moments: dict[int, arrows.Moment] = {}
        self._way = seed % 3  #: in which the server ends: all are taken by three seeds that follow one another
        self.rounds = Rounds(self, Planner(seed), seed)
        self._objects = objects_of_requests()
        self.router.ledger.subscribe(self._told)

    def _told(self, records: Sequence[Record]) -> None:
        for record in records:
            self.records.append(record)
            self._moments[number(record)] = self.moment

    # Server

    async def hosts(self) -> Sequence[MemberStatus]:
        return self.router.members()[: len(MEMBERS)]

    async def ended(self, number: int) -> None:
        await until(lambda: number in self._moments)

    def reload(self) -> None:
        routing = self.router.config.routing
        other = None if routing.threshold else 0.5
        self.router.reload(msgspec.structs.replace(routing, threshold=other))

    # Accounts

    async def settle(self) -> None:
        """Until nothing is under way; then all accounts must agree, and nothing be left behind."""
        await until(lambda: not self._left(), self._left)
        check(self.rounds.seen, self.records, self._scrape(), ended=self.moment != "open")
        self._note_arrows()

    def _scrape(self) -> Scrape:
        return Scrape(self.router.metrics.render().decode())

    def _left(self) -> dict[str, Any]:
        """What is under way, or left behind; empty where nothing is."""
        router = self.router
        left: dict[str, Any] = {
            "requests": router.in_flight(),
            "slots": (slots := router.gate.slots).running + slots.waiting,
            "bytes of bodies": router.pending_bytes,
            "scores": router.scoring_unfinished,
            "connections": self.frontend.connections,
            "calls": sum(len(member.lane.calls) for member in router.pool),  # type: ignore[attr-defined]
            "in flight, by the members": sum(member.in_flight for member in router.members()),
            # type: ignore[attr-defined]
            "in flight, by their loads": sum(member.lane.load.in_flight for member in router.pool),
            "running in the upstream": self._upstream.running,
            "gauges": 0 if nothing_left(self._scrape()) else 1,
        }
        if not any(left.values()):
            left["objects"] = objects_of_requests() - self._objects
        return {name: value for name, value in left.items() if value}

    # The end

    async def end(self) -> None:
        """In mid-round, in one of the ways in which servers are ended."""
        playing = asyncio.create_task(self.rounds.play(self.rounds.planner.round(VISITS, last=True)))
        await self.rounds.under_way(playing)
        if self._way == 0:
            self.moment = "draining"
            await self.frontend.drain()
        self.moment = "stopping"
        if self._way == 2:
            await self.router.stop()
        await self.frontend.stop()
        await self.router.stop()
        await playing
        await self.settle()
        if self.journal is not None:
            self._compare_journal(self.journal)

    def _compare_journal(self, folder: Path) -> None:
        written = Counter(number(line) for line in Reader(folder) if isinstance(line, Record))
        missing = [record for record in self.records if number(record) not in written]
        assert not missing, f"in the ledger and not in the journal: {missing}"
        assert written == Counter(map(number, self.records)), "the journal has what the ledger has not"

    def _note_arrows(self) -> None:
        by_number = {number(record): record for record in self.records}
        for each in self.rounds.seen:
            moment = self._moments.get(each.ask.number, self.moment)
            self.arrows |= arrows.taken(each, by_number.get(each.ask.number), moment)


async def _storm(seed: int, folder: Path, bugs: Bugs) -> set[str]:
    asyncio.get_running_loop().set_exception_handler(bugs.loop_failed)
    upstream = Upstream()
    await upstream.start()
    house = House(seed, folder, upstream)
    try:
        await house.router.start()
        await house.frontend.start()
        house.port = house.frontend.port
        for _ in range(ROUNDS):
            await house.rounds.play(house.rounds.planner.round(VISITS))
            await house.rounds.hosts_are_idle()
            await house.settle()
        await house.end()
    finally:
        await house.frontend.stop()
        await house.router.stop()
        await upstream.stop()
    return house.arrows


def storm(seed: int) -> set[str]:
    """All of one seed; the arrows that its requests took. Raises `AssertionError` telling how to repeat it."""
    try:
        with listening() as bugs, tempfile.TemporaryDirectory(prefix="hg-") as folder:
            before = open_sockets()
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as served
                taken = runner.run(_storm(seed, Path(folder), bugs))
            assert not bugs.heard, "\n".join(bugs.heard)
            gc.collect()
            assert open_sockets() == before, "sockets are left open"
            return taken
    except BaseException as error:
        error.add_note(f"in the storm of seed {seed}; to repeat it: python -m tests.storm {seed}")
        raise
