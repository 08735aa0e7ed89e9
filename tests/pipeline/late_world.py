"""A pool on simulated time: engines that run so many requests at once, a gate, and requests that are decided for by the
real rule. Late binding is the real one; engines, clients and the clock are not."""

import random
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

from router.config import Member
from router.errors import Overloaded, RouterError
from router.ipc.messages import Load
from router.native.lane import Lane
from router.pipeline.late import Late
from router.policy import Settings, decide
from router.pool.laned import Laned
from router.pool.load import LoadTracker
from router.types import Decision, Query, Scores, Snapshot, Timings, Turn, Usage
from tests.gate.conftest import GateKit

PROMPT, OUTPUT = 10, 100


class Engine(Laned):
    """Runs `most` requests at once, for `mean_s` each, give or take a half; others wait in it."""

    def __init__(self, world: "World", name: str, most: int, mean_s: float, usd_per_hour: float) -> None:
        self.name, self.world, self.mean_s = name, world, mean_s
        self.model = name
        member = Member(
            name=name, usd_per_hour=usd_per_hour, prefill_tokens_per_s=1e6, time_per_output_token_s=mean_s / OUTPUT,
            mean_output_tokens=OUTPUT, context_tokens=1_000, capabilities=("chat",),
        )  # fmt: skip
        self._load = LoadTracker(member, 1.0)
        self._load.most_running = most
        self.lane = Lane(self._load, self._load.usd_per_s)
        self.phase = "ready"
        self.running: list[Asked] = []
        self.waiting: deque[Asked] = deque()
        self.most_waiting = 0

    def state(self) -> Any:
        return self._load.state(ready=self.welcome, breaker_open=False)

    def submit(self, asked: "Asked") -> None:
        self._load.submitted(PROMPT)
        self.waiting.append(asked)
        self.start()

    def start(self) -> None:
        while self.waiting and len(self.running) < self._load.most_running:
            asked = self.waiting.popleft()
            self.running.append(asked)
            asked.started_s = self.world.loop.now_s
            seconds = self.world.source.uniform(0.5, 1.5) * self.mean_s
            self.world.loop.call_later(seconds, lambda asked=asked, seconds=seconds: self.finish(asked, seconds))
        self.most_waiting = max(self.most_waiting, len(self.waiting))
        self._load.reported(Load(running=len(self.running), waiting=len(self.waiting), kv_use=0.5))

    def finish(self, asked: "Asked", seconds: float) -> None:
        if asked not in self.running:  # the engine was lost meanwhile
            return
        self.running.remove(asked)
        self._load.answered(Usage(PROMPT, OUTPUT), Timings(0.001, seconds))
        self._load.ended()
        self.start()
        asked.over("answered")

    def lose(self) -> None:
        """Its requests fail, and it is away."""
        self.phase = "restarting"
        gone, self.running, self.waiting = [*self.running, *self.waiting], [], deque()
        self._load.forget()
        for asked in gone:
            self._load.ended()
            asked.over("lost")


class Asked:
    """One request, as far as `Late` needs a `pipeline.request.Request`."""

    def __init__(self, world: "World", number: int, query: Query, quality: tuple[float, ...], pinned: int) -> None:
        self.world, self.number, self.query, self.quality = world, number, query, quality
        self.settings = Settings(rule="pinned", pinned=pinned) if pinned >= 0 else world.settings
        self.body = b"%d" % number
        self.phase = "new"
        self.permit: Any = None
        self.asked_s = world.loop.now_s
        self.started_s = 0.0
        self.model = ""
        self.ends: list[str] = []
        self.error: RouterError | None = None
        self.on_end: Callable[[Asked], None] | None = None

    def go(self, phase: str) -> None:
        self.phase = phase

    def begin(self) -> None:
        try:
            decision = self.world.late.choose(self, self._decide)  # type: ignore[arg-type]
        except RouterError as error:
            self.refuse(error)
            return
        if decision is not None:
            self.phase, self.model = "waiting", decision.model
            self.world.begun.append(self)
            self.world.pool[decision.member].submit(self)

    def _decide(self, settings: Settings) -> Decision:
        snapshot = Snapshot(tuple(engine.state() for engine in self.world.pool))
        return decide(self.query, Scores(self.quality, PROMPT), snapshot, settings, id=str(self.number))

    def refuse(self, error: RouterError) -> None:
        if not self.ends:
            self.error = error
            self.over("refused")

    def over(self, how: str) -> None:
        self.ends.append(how)
        if self.permit is not None:
            self.permit.settle()
        if self.on_end is not None:
            self.on_end(self)


class World:
    """A large engine of `sizes[1]` sequences, two seconds each, and a small one of `sizes[0]`, half a second each."""

    def __init__(
        self, sizes: tuple[int, int] = (4, 4), price: float = 0.0, queue_s: float = 10.0, **limits: Any
    ) -> None:
        kit = GateKit(queue_s=queue_s, **limits)
        self.gate, self.loop, self.metrics = kit.gate, kit.loop, kit.metrics
        self.source = random.Random(1)
        self.settings = Settings(price=0.0)
        self.pool = [Engine(self, "small", sizes[0], 0.5, 1.0), Engine(self, "large", sizes[1], 2.0, 4.0)]
        self.small, self.large = self.pool
        self.late = Late(
            self.gate,
            lambda decision: self.pool[decision.member],
            lambda engine: self.pool.index(engine),
            lambda asked: asked.begin(),
            min(queue_s, self.gate.lines._most_wait_s or queue_s),
        )  # type: ignore[arg-type, attr-defined, return-value]
        self.asked: list[Asked] = []
        self.begun: list[Asked] = []
        self._number = count().__next__

    def ask(
        self, key: str = "", *, quality: tuple[float, float] = (0.4, 0.8), pinned: int = -1, priority: int = 0,
        body: bytes | None = None, on_end: Callable[[Asked], None] | None = None, **fields: Any,
    ) -> Asked:  # fmt: skip
        query = Query(
            kind="chat", model="auto", turns=(Turn("user", "x"),), needs=frozenset({"chat"}), key_id=key,
            priority=priority, **fields,
        )  # fmt: skip
        asked = Asked(self, self._number(), query, quality, pinned)
        asked.body, asked.on_end = body or asked.body, on_end
        self.asked.append(asked)
        try:
            asked.permit = self.gate.take(key, asked.body, priority)
        except Overloaded as error:
            asked.refuse(error)
            return asked
        if asked.permit.waiting:
            asked.phase = "queued"
            asked.permit.wait(asked.begin, asked.refuse)
        else:
            asked.begin()
        return asked

    @property
    def lined(self) -> int:
        return self.gate.slots.lined

    def check(self) -> None:
        """Nothing is counted that is not there, and no engine holds more than it should."""
        lined = sum(asked.phase == "queued" and asked.permit.line is not None for asked in self.asked)
        assert self.lined == lined == sum(engine.load.lined for engine in self.pool)
        assert all(engine.most_waiting <= 2 for engine in self.pool)

    def check_over(self) -> None:
        assert [asked.number for asked in self.asked if len(asked.ends) != 1] == []
        slots = self.gate.slots
        assert (slots.running, slots.waiting, slots.lined, slots.pending_bytes) == (0, 0, 0, 0)
