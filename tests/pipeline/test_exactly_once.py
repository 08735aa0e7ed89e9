"""Every accepted request ends exactly once, whatever its engines send and whenever they die.

Real engine members and a real router; in place of a host's connection, hypothesis: chunks, ends, second ends, frames of
ids that do not exist, chunks after the end, deaths, restarts, cancels, sinks that break, figures that nobody can mean
and heads that raise now and then, in any order.
"""

import asyncio
import math
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from router.config import Config, Member, Routing, Supervision
from router.errors import RouterError
from router.ipc.messages import Abort, Chunks, Control, Done, Fail, Handoff, Hello, Load, Message, Submit
from router.native.call import Receiver
from router.pipeline.legs.planner import Planner
from router.pipeline.router import Router
from router.pool.engine import EngineMember
from router.types import Query, Scores, Timings, Turn, Usage
from tests.pipeline.legs_world import Judge, Rule

NAMES = ("m0", "m1")


class FakeLink:
    """Stands in for a connection: keeps what was sent."""

    process = None

    def __init__(self) -> None:
        self.running: set[int] = set()

    def send(self, message: Message) -> None:
        if isinstance(message, Submit):
            assert message.id not in self.running
            self.running.add(message.id)
        elif isinstance(message, Abort):
            self.running.discard(message.id)

    def unsent_bytes(self) -> int:
        return 0

    async def close(self, timeout_s: float) -> None: ...


class Sink(Receiver):
    """Notes every call; may break, or cancel, when told."""

    def __init__(self, mood: str) -> None:
        self.mood = mood
        self.ticket: Any = None
        self.calls: list[str] = []
        self.cancelled = False

    def _call(self, what: str) -> None:
        self.calls.append(what)
        if self.mood == f"cancel at {what}":
            self.cancelled = True
            self.ticket.cancel()
        elif self.mood == f"break at {what}":
            raise ValueError("a scripted bug")

    def start(self, decision: Any) -> None:
        self._call("start")

    def chunk(self, data: bytes) -> None:
        self._call("chunk")

    def done(self, done: Done) -> None:
        self._call("end")

    def fail(self, error: RouterError) -> None:
        self._call("end")

    def check(self, over: bool) -> None:
        ends = self.calls.count("end")
        if self.cancelled:
            assert ends <= (1 if "end" in self.mood else 0), self.calls
            return
        assert ends <= 1, self.calls
        if over:
            assert ends == 1, self.calls
        if ends:
            assert self.calls[-1] == "end", self.calls
        assert self.calls.count("start") <= 1
        if "chunk" in self.calls:
            assert self.calls[0] == "start", self.calls


moods = st.sampled_from(
    ["calm"] * 6
    + ["cancel at start", "cancel at chunk", "cancel at end", "break at start", "break at chunk", "break at end"]
)
member = st.integers(0, len(NAMES) - 1)
id = st.one_of(st.integers(1, 3), st.integers(0, 12))
figure = st.sampled_from([0, 1, 10, -1, 2**31, 2**63, 2**64 - 1])
time_s = st.sampled_from([0.0, 0.1, -1.0, 1e300, math.inf, -math.inf, math.nan])
submit = st.tuples(st.just("submit"), moods, st.sampled_from(["auto", *NAMES, "router-mf-0.5"]))
step = st.one_of(
    submit,
    submit,
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.tuples(st.just("chunks"), member, st.lists(id, max_size=6)),
    st.tuples(st.just("done"), member, id),
    st.tuples(st.just("claim"), member, id, st.tuples(figure, figure, figure), st.tuples(time_s, time_s)),
    st.tuples(st.just("load"), member, st.tuples(figure, figure), st.tuples(time_s, time_s, time_s, time_s)),
    st.tuples(st.just("head"), st.booleans()),
    st.tuples(st.just("handoff"), member, id),
    st.tuples(
        st.just("fail"), member, id, st.sampled_from([400, 429, 500, 502, 503]),
        st.sampled_from(["", "context_length_exceeded"]), st.booleans(),
    ),
    st.tuples(st.just("noise"), member),
    st.tuples(st.just("die"), member),
    st.tuples(st.just("restart"), member),
)  # fmt: skip


class Pool:
    """Two engines behind one router."""

    def __init__(self, choice: str = "") -> None:
        """`choice`: requests may have several legs."""
        self.choice = choice
        pool = tuple(Member(name=name, model=f"x/{name}") for name in NAMES)
        self.members = [EngineMember(one, Supervision(), Path("/nowhere"), gpu_share=0.3) for one in pool]
        for i, one in enumerate(self.members):
            one.described(frozenset({"chat"}), 1000 * (i + 1))
            self.restart(i)
        self.scoring: Any = FakeScoring()
        self.router = Router(Config(pool=pool, routing=Routing(price=0.0)), pool=self.members, scoring=self.scoring)
        choose = self.router._decider.choose

        def choose_or_raise(*arguments: Any, **again: Any) -> Any:
            if self.scoring.broken:
                raise ScriptedBug("of a policy")
            return choose(*arguments, **again)

        self.router._decider.choose = choose_or_raise  # type: ignore[method-assign]
        if choice:
            judge, verbs = Judge({"m0": 0.1}, {}), ("continue", "watch")
            self.router._desk.legs.planner = Planner(judge, Rule(), choice, 60.0)  # type: ignore[arg-type]
            for one in self.members:
                one.verbs, one.lane.continues, one._hello = verbs, True, Hello(role="host", verbs=verbs)
        self.sinks: list[Sink] = []

    def restart(self, i: int) -> None:
        one = self.members[i]
        if one.phase != "ready":
            one._link = FakeLink()  # type: ignore[assignment]
            one.phase = "ready"

    def play(self, step: tuple[Any, ...]) -> None:
        what, *rest = step
        if what == "submit":
            self.submit(*rest)
        elif what == "cancel":
            if rest[0] < len(self.sinks):
                sink = self.sinks[rest[0]]
                sink.cancelled = sink.cancelled or "end" not in sink.calls
                sink.ticket.cancel()
        elif what == "die":
            one = self.members[rest[0]]
            one._lost(one._link, None)  # type: ignore[arg-type]
        elif what == "restart":
            self.restart(rest[0])
        elif what == "head":
            self.scoring.broken = rest[0]
        elif self.members[rest[0]].phase == "ready":
            for message in _messages(what, *rest[1:], legs=bool(self.choice)):
                self.members[rest[0]].received(message)

    def submit(self, mood: str, model: str) -> None:
        sink = Sink(mood)
        query = Query(
            kind="chat",
            model=model,
            turns=(Turn("user", "x"),),
            needs=frozenset({"chat"}),
            stream=bool(self.choice) and len(self.sinks) % 3 > 0,
        )
        try:
            sink.ticket = self.router.submit(query, b"{}", sink)
        except (RouterError, ScriptedBug):
            assert sink.calls == []
            return
        assert sink.calls == [], "the sink was called before submit returned"
        self.sinks.append(sink)

    def check(self) -> None:
        over = self.router.in_flight() == 0
        for sink in self.sinks:
            sink.check(over)
        running = sum(len(one._calls) for one in self.members)
        assert running == self.router.in_flight()
        assert running == sum(one._load.in_flight for one in self.members)
        for one in self.members:
            figures = one._load.figures().values()
            assert all(math.isfinite(value) and value >= 0 for value in figures), figures


class ScriptedBug(Exception):
    """Of a plug-in."""


class FakeScoring:
    broken = False
    placements = ()
    head = None
    router = "mf"
    slow = False
    typical = ("",)

    def score(self, query: Query) -> Scores:
        if self.broken:
            raise ScriptedBug("of a head")
        return Scores((0.3, 0.5), 10)


EVENT = b'data: {"id":"c","created":7,"choices":[{"index":0,"delta":{"content":"One"}}]}\n\n'


def _messages(what: str, *rest: Any, legs: bool = False) -> list[Message]:
    if what == "chunks":
        return [Chunks([(one, EVENT if legs else b"data") for one in rest[0]])]
    if what == "done":
        return [Done(id=rest[0])]
    if what == "claim":
        return [Done(id=rest[0], usage=Usage(*rest[1]), timings=Timings(*rest[2]))]
    if what == "load":
        return [_load(*rest)]
    if what == "handoff":
        return [Handoff(id=rest[0], text="One two" if legs else "", tokens=2 * legs, why="x")]
    if what == "fail":
        return [Fail(id=rest[0], status=rest[1], body=b"{}", code=rest[2], retryable=rest[3])]
    return [Control("pong"), Load(running=3, waiting=1), Control("drained")]


def _load(counts: tuple[int, int], reals: tuple[float, float, float, float]) -> Load:
    running, waiting = counts
    kv_use, prefix_hit, prefill_tokens_per_s, time_per_output_token_s = reals
    return Load(
        running=running,
        waiting=waiting,
        kv_use=kv_use,
        prefix_hit=prefix_hit,
        prefill_tokens_per_s=prefill_tokens_per_s,
        time_per_output_token_s=time_per_output_token_s,
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(step, min_size=10, max_size=80))
def test_every_accepted_request_ends_exactly_once(steps: list[tuple[Any, ...]]) -> None:
    _play(Pool(), steps)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["cascade", "handoff"]), st.lists(step, min_size=10, max_size=80))
def test_every_request_of_several_legs_ends_exactly_once(choice: str, steps: list[tuple[Any, ...]]) -> None:
    async def play() -> None:  # what is held back has a timer
        pool = Pool(choice)
        _play(pool, steps, over=False)
        await pool.router.stop()
        _over(pool)

    asyncio.run(play())


def _play(pool: Pool, steps: list[tuple[Any, ...]], *, over: bool = True) -> None:
    for one in steps:
        pool.play(one)
        pool.check()
    if over:
        asyncio.run(pool.router.stop())
        _over(pool)


def _over(pool: Pool) -> None:
    for sink in pool.sinks:
        sink.check(over=True)
    assert pool.router.in_flight() == 0
    assert pool.router.pending_bytes == 0
