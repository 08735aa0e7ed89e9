"""Engine members without hosts behind a real router: what is sent to each engine is kept, its answers are played."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from router.config import Config, Member, Routing, Supervision
from router.errors import RouterError
from router.heads.base import Placement
from router.ipc.messages import Abort, Chunks, Done, Fail, Handoff, Hello, Message, Submit
from router.native.call import Receiver
from router.observe.record import Record
from router.observe.tick import Tick
from router.pipeline.legs.planner import Planner
from router.pipeline.request import Request
from router.pipeline.router import Router
from router.pool.engine import EngineMember
from router.types import Decision, Query, Scores, Timings, Turn, Usage
from router.verify.evidence import Evidence
from router.verify.judged import Running

VERBS = ("continue", "watch")


class Link:
    """Stands in for a host's connection."""

    process = None

    def __init__(self) -> None:
        self.sent: list[Submit] = []
        self.running: set[int] = set()

    def send(self, message: Message) -> None:
        if isinstance(message, Submit):
            self.sent.append(message)
            self.running.add(message.id)
        elif isinstance(message, Abort):
            self.running.discard(message.id)

    def unsent_bytes(self) -> int:
        return 0

    async def close(self, timeout_s: float) -> None: ...


class Engine:
    """One member, and the words of its host."""

    def __init__(self, member: EngineMember, verbs: tuple[str, ...]) -> None:
        self.member, self.link = member, Link()
        member._link = self.link  # type: ignore[assignment]
        member._hello = Hello(role="host", verbs=verbs)
        member.verbs, member.lane.continues = verbs, "continue" in verbs
        member.described(frozenset({"chat", "completions"}), 4000)
        member.phase = "ready"

    @property
    def last(self) -> Submit:
        return self.link.sent[-1]

    def tell(self, *texts: str, id: str = "chat-1", finish: str | None = None, usage: str = "") -> None:
        """Events of the last request's stream."""
        for text in texts:
            self.event({"delta": {"content": text}, "index": 0}, id)
        if finish:
            self.event({"delta": {}, "index": 0, "finish_reason": finish}, id)
        if usage:
            self.raw(b'data: {"choices":[],"usage":%b}\n\n' % usage.encode())

    def event(self, choice: dict[str, Any], id: str = "chat-1") -> None:
        told = {"id": id, "created": 7, "model": self.member.model, "choices": [choice]}
        self.raw(b"data: " + json.dumps(told).encode() + b"\n\n")

    def raw(self, data: bytes) -> None:
        self.member.received(Chunks([(self.last.id, data)]))

    def done(self, *usage: int, reason: str = "stop", **fields: Any) -> None:
        self.link.running.discard(self.last.id)
        self.member.received(
            Done(
                id=self.last.id,
                usage=Usage(*usage or (10, 2)),
                finish_reason=reason,
                timings=Timings(0.1, 0.3),
                **fields,
            )
        )

    def handoff(self, text: str, tokens: int, **fields: Any) -> None:
        self.link.running.discard(self.last.id)
        usage = fields.pop("usage", Usage(10, tokens))
        self.member.received(Handoff(id=self.last.id, text=text, tokens=tokens, why="watch", usage=usage, **fields))

    def fail(self, status: int = 500, *, retryable: bool = True, code: str = "engine_failed") -> None:
        self.link.running.discard(self.last.id)
        body = b'{"error":{"message":"scripted","type":"engine_error"}}'
        self.member.received(Fail(id=self.last.id, status=status, body=body, code=code, retryable=retryable))

    def die(self) -> None:
        self.link.running.clear()
        self.member._lost(self.link, None)  # type: ignore[arg-type]


class Scoring:
    head = None
    router = "mf"
    slow = False
    typical = ("",)

    def __init__(self, *quality: float) -> None:
        self.quality = quality
        self.placements = tuple(Placement(name=f"m{i}", by="default") for i in range(len(quality)))

    def score(self, query: Query) -> Scores:
        return Scores(self.quality, 10)


class Sink(Receiver):
    """Keeps what a client gets; fails a test that looks where the order was broken."""

    def __init__(self, breaks_at: str = "") -> None:
        self.decision: Decision | None = None
        self.chunks: list[bytes] = []
        self.ends: list[Done | RouterError] = []
        self.breaks_at = breaks_at

    def start(self, decision: Decision) -> None:
        assert self.decision is None
        self.decision = decision
        self._break("start")

    def chunk(self, data: bytes) -> None:
        assert self.decision is not None
        assert not self.ends
        self._break("chunk")
        self.chunks.append(data)

    def done(self, done: Done) -> None:
        self.ends.append(done)
        self._break("done")

    def fail(self, error: RouterError) -> None:
        self.ends.append(error)

    def _break(self, at: str) -> None:
        if self.breaks_at == at:
            raise ValueError("a scripted bug")

    @property
    def text(self) -> str:
        """Of a stream."""
        told = ""
        for event in b"".join(self.chunks).split(b"\n\n"):
            if event.startswith(b"data: {"):
                for choice in json.loads(event[6:])["choices"]:
                    told += choice["delta"].get("content") or ""
        return told

    @property
    def end(self) -> Done | RouterError:
        assert len(self.ends) == 1, self.ends
        return self.ends[0]

    @property
    def usage(self) -> Usage:
        assert isinstance(self.end, Done), self.end
        return self.end.usage

    @property
    def error(self) -> str:
        assert isinstance(self.end, RouterError), self.end
        return str(self.end)


class World:
    """Two models, or more: `engines` by name. The first of `names` is the smallest; a name `a*2` has two engines."""

    def __init__(
        self, *names: str, quality: tuple[float, ...] = (0.4, 0.8), verbs: tuple[str, ...] = VERBS, **routing: Any
    ) -> None:
        made = []
        for i, name in enumerate(names or ("small", "large")):
            base, _, count = name.partition("*")
            for k in range(int(count or 1)):
                several = f"{base}/{k}" if count else base
                cost = {"usd_per_hour": 1.0 * (i + 1), "prefill_tokens_per_s": 1000.0, "time_per_output_token_s": 0.01}
                made.append(Member(name=several, model=f"x/{base}", replica_of=base if count else "", **cost))
        members = [EngineMember(one, Supervision(), Path("/nowhere"), gpu_share=0.3) for one in made]
        self.engines = {member.name: Engine(member, verbs) for member in members}
        routing = {"price": 0.0, **routing}
        config = Config(pool=tuple(made), routing=Routing(**routing))
        self.router = Router(config, pool=members, scoring=Scoring(*quality))  # type: ignore[arg-type]
        self.records: list[Record] = []
        self.router.ledger.subscribe(self._ended)
        self.sink = Sink()

    def __getitem__(self, name: str) -> Engine:
        return self.engines[name]

    def _ended(self, tick: Tick) -> None:
        self.records += list(tick)

    def ask(self, model: str = "auto", *, stream: bool = True, **fields: Any) -> Request:
        query = Query(
            kind=fields.pop("kind", "chat"),
            model=model,
            turns=(Turn("user", "What is it?"),),
            needs=fields.pop("needs", frozenset({"chat"})),
            stream=stream,
            **fields,
        )
        body = json.dumps({"messages": [{"role": "user", "content": "What is it?"}], "stream": stream}).encode()
        return self.router.submit(query, body, self.sink)  # type: ignore[arg-type]

    def record(self) -> Record:
        """Of the only request, which has ended; nothing of it is left anywhere."""
        self.router.ledger.tell()
        self.at_rest()
        assert len(self.records) == 1, self.records
        return self.records[0]

    def at_rest(self) -> None:
        assert self.router.in_flight() == 0
        assert self.router.pending_bytes == 0
        assert self.router._requests.kept_bytes == 0
        for name, engine in self.engines.items():
            assert not engine.link.running, f"{name} still works"
            assert len(engine.member._calls) == 0
            assert engine.member._load.in_flight == 0


class Judge:
    """Says of each model's answer what `says` holds; else the prior."""

    def __init__(self, says: dict[str, float], gains: dict[str, float]) -> None:
        self.says, self.gains, self.correlation = says, gains, 0.0
        self.asked: list[Evidence] = []
        self.broken = False

    def quality(self, prior: float, evidence: Evidence, model: str) -> float:
        if self.broken:
            raise ValueError("a scripted bug")
        self.asked.append(evidence)
        return self.says.get(model, prior)

    def running(self, prior: float, model: str, expected_tokens: float | None = None) -> Running:
        if self.broken:
            raise ValueError("a scripted bug")
        return Running(tokens=(1.0,), intercept=(0.0,), slope=(0.0,), prior_weight=(1.0,), left=(10.0,))

    def spread(self, model: str) -> float:
        return 0.1

    def first(self, model: str, prior: float = 0.5) -> Any:
        return None


class Planned(NamedTuple):
    next: int


class Handover:
    def __init__(self, rule: "Rule") -> None:
        self._rule = rule

    def knots(self) -> tuple[tuple[float, float], ...]:
        return self._rule.bounds

    def worth(self, tokens: float, statistic: float = 0.0) -> tuple[float, float]:
        return (0.0, 1.0) if self._rule.over else (1.0, 0.0)


class Rule:
    """Begins with the first model, and runs the next one as long as the best answer is below `enough`."""

    def __init__(self, enough: float = 0.6) -> None:
        self.enough = enough
        self.bounds: tuple[tuple[float, float], ...] = ((20.0, -1.0), (100.0, -0.5))
        self.over = True

    def plan(self, options: Sequence[Any], price: float, correlation: float = 0.0) -> Planned:
        best = max((each.quality for each in options if each.run), default=0.0)
        left = [i for i, each in enumerate(options) if not each.run and not each.excluded]
        return Planned(left[0] if left and best < self.enough else -1)

    def handover(self, *numbers: Any, **more: Any) -> Handover:
        return Handover(self)


class Legs(World):
    """Of requests that may have several legs."""

    def __init__(
        self,
        *names: str,
        choice: Any = "cascade",
        says: dict[str, float] | None = None,
        gains: dict[str, float] | None = None,
        hold_s: float = 60.0,
        **world: Any,
    ) -> None:
        super().__init__(*names, **world)
        self.judge, self.rule = Judge(says or {}, gains or {}), Rule()
        self.router._desk.legs.planner = Planner(self.judge, self.rule, choice, hold_s)
