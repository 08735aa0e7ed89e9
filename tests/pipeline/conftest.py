"""A pool whose members do as they are told, a scoring too, and a sink that checks the contract."""

from collections.abc import Sequence
from typing import Any

import pytest

from router.config import Config, Member, Routing
from router.errors import NoEngine, RouterError
from router.heads.base import Placement
from router.ipc.messages import Done
from router.native.call import Receiver
from router.pipeline.router import Router
from router.pool.base import Call, MemberPhase, MemberStatus, Work
from router.types import Decision, MemberState, Query, Scores, Turn


class FakeCall:
    """One request in a fake member; the test drives it."""

    def __init__(self, work: Work, call: Call) -> None:
        self.work = work
        self.receiver = call
        self.chunk = call.chunk
        self.aborted = 0

    def abort(self) -> None:
        self.aborted += 1


class FakeMember:
    """Implements `PoolMember`."""

    def __init__(self, name: str, **state: Any) -> None:
        self.name = name
        self.phase: MemberPhase = "ready"
        self.fields: dict[str, Any] = {
            "context_tokens": 1000,
            "capabilities": frozenset({"chat", "completions"}),
            "usd_per_s": 0.0001,
            **state,
        }
        self.calls: list[FakeCall] = []
        self.refusal: RouterError | None = None

    def submit(self, work: Work, call: Call) -> None:
        if self.phase != "ready":
            raise NoEngine(f"{self.name} is not ready")
        if self.refusal is not None:
            raise self.refusal
        self.calls.append(FakeCall(work, call))

    def abort(self, call: Call) -> None:
        next(each for each in reversed(self.calls) if each.receiver is call).abort()

    def state(self) -> MemberState:
        return MemberState(name=self.name, ready=self.phase == "ready", **self.fields)

    def status(self) -> MemberStatus:
        return MemberStatus(name=self.name, kind="engine", phase=self.phase, state=self.state())

    async def start(self) -> None: ...

    async def stop(self) -> None:
        self.phase = "stopped"


class FakeScoring:
    """Scores every query the same, unless told otherwise."""

    head = None
    router = "mf"

    def __init__(self, *quality: float) -> None:
        self.quality = quality
        self.slow = False
        self.typical = ("",)
        self.placements = tuple(Placement(name=f"m{i}", by="default") for i in range(len(quality)))
        self.prompt_tokens = 10
        self.asked: list[Query] = []

    def score(self, query: Query) -> Scores:
        self.asked.append(query)
        return Scores(self.quality, self.prompt_tokens)


class CheckedSink(Receiver):
    """A `Sink` that fails the test when called out of order."""

    def __init__(self) -> None:
        self.decision: Decision | None = None
        self.chunks: list[bytes] = []
        self.end: Done | RouterError | None = None
        self.open = True  #: False once the door cancelled: nothing may come any more
        self.violations: list[str] = []

    def _check(self, what: str, *, started: bool | None = None) -> None:
        if not self.open:
            self.violations.append(f"{what} after cancel")
        if self.end is not None:
            self.violations.append(f"{what} after the end")
        if started is not None and started != (self.decision is not None):
            self.violations.append(f"{what} {'before' if started else 'after'} start")

    def start(self, decision: Decision) -> None:
        self._check("start", started=False)
        self.decision = decision

    def chunk(self, data: bytes) -> None:
        self._check("chunk", started=True)
        self.chunks.append(data)

    def done(self, done: Done) -> None:
        self._check("done", started=True)
        self.end = done

    def fail(self, error: RouterError) -> None:
        self._check("fail")
        self.end = error


def query(model: str = "auto", **fields: Any) -> Query:
    return Query(kind="chat", model=model, turns=(Turn("user", "hello"),), needs=frozenset({"chat"}), **fields)


class Kit:
    """Everything a pipeline test needs, without imports between test files."""

    Member, Scoring, Sink = FakeMember, FakeScoring, CheckedSink
    query = staticmethod(query)

    @staticmethod
    def router(members: Sequence[FakeMember], *quality: float, routing: Routing | None = None, **config: Any) -> Router:
        pool = tuple(Member(name=member.name, model=f"org/{member.name}", strength=None) for member in members)
        settings = Config(pool=pool, routing=routing or Routing(price=0.0), **config)
        return Router(settings, pool=members, scoring=FakeScoring(*quality))  # type: ignore[arg-type]


@pytest.fixture
def kit() -> type[Kit]:
    return Kit


class Two:
    """A weak and a strong member behind a router that prefers the strong."""

    def __init__(self, **options: Any) -> None:
        self.small, self.large = FakeMember("small"), FakeMember("large", context_tokens=4000, usd_per_s=0.001)
        self.router = Kit.router([self.small, self.large], *options.pop("quality", (0.4, 0.8)), **options)
        self.sink = CheckedSink()

    def submit(self, model: str = "auto", body: bytes = b'{"messages": []}', **fields: Any) -> Any:
        return self.router.submit(query(model, **fields), body, self.sink)


@pytest.fixture
def two() -> type[Two]:
    return Two
