"""What one seed's storm does: what each client asks, when it leaves, and what befalls the engine hosts meanwhile."""

import json
import random
from dataclasses import dataclass, field
from typing import Any, Literal

from router.types import API_PATHS, Kind

KEY, WRONG_KEY = "storm", "calm"
MEMBERS = ("small", "large", "other")  #: engines
URL = "url"  #: a member beside them
#: A body of more is scored on a thread.
LARGE_BYTES = 300 * 1024
#: What the frontend allows, so small that clients meet it.
BODY_BYTES = 1 << 20
#: More than a client's and the kernel's buffers take, and more than a stream may wait for its client.
FLOOD = (40, 1 << 18)
HOLD_S = 600.0  #: a script that waits for its end: its client's, a deadline's, its engine's or the server's

Step = list[Any]
Leave = Literal["", "head", "body", "waiting", "half", "answer"]
#: Ways to act on a host from without; or the server reads its routing settings again.
Blow = Literal["kill", "freeze and kill", "freeze and thaw", "kill core", "kill all", "reload"]


@dataclass(frozen=True)
class Ask:
    """One request. `number` is its own, and known from its record (`number_of`) and from each event of its answer."""

    number: int
    kind: Kind
    model: str
    stream: bool
    steps: list[Step]
    events: int  #: of a whole answer
    headers: tuple[str, ...] = ()
    leave: Leave = ""  #: at which point its client goes away
    reset: bool = False  #: and how: so that the server's writes fail
    after_s: float = 0.0  #: how long the client waits before it leaves
    deadline_s: float | None = None
    large: bool = False
    slow: bool = False  #: its client does not read
    library: bool = False
    refused: int = 0  #: the status with which it must be refused; 0: it may be accepted
    raw: bytes = b""  #: in place of the body

    @property
    def path(self) -> str:
        return API_PATHS[self.kind]

    @property
    def whole_at_first(self) -> bool:
        """Whether the engine says that its stream is whole before it says how the request ended."""
        end = ["chunk", tail(self.kind)]
        return end in self.steps and self.steps.index(end) + 1 < self.steps.index(["done"])

    def fields(self) -> dict[str, Any]:
        """Of the body, but `model` and `stream`."""
        text = "x" * (LARGE_BYTES if self.large else 20)
        fields: dict[str, Any] = {"user": json.dumps(self.steps)}
        if self.kind == "completions":
            return fields | {"prompt": text}
        if self.kind == "messages":
            fields["max_tokens"] = 9
        return fields | {"messages": [{"role": "user", "content": text}]}

    def request(self) -> bytes:
        body = self.raw or json.dumps({"model": self.model, "stream": self.stream, **self.fields()}).encode()
        lines = (f"POST {self.path} HTTP/1.1", "host: storm", "content-type: application/json", *self.headers)
        return "\r\n".join((*lines, f"content-length: {len(body)}", "", "")).encode() + body


@dataclass(frozen=True)
class Visit:
    """One connection's requests, one after another, or `pipelined`: all sent before the first answer is read."""

    asks: tuple[Ask, ...]
    pipelined: bool = False


@dataclass(frozen=True)
class Act:
    """Done once so many requests of the round were begun."""

    at: int
    blow: Blow
    member: int
    for_s: float = 0.0  #: how long it stays frozen


@dataclass
class Plan:
    """One round."""

    visits: list[Visit] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)

    @property
    def asks(self) -> list[Ask]:
        return [ask for visit in self.visits for ask in visit.asks]


def number_of(request_id: str, session_id: str, asked: str) -> int:
    """Which request it was, by what its record says: each request tells its number in one of three ways."""
    for told, start in ((request_id, "storm-"), (session_id, "storm-"), (asked, "router-mf-0.")):
        if told.startswith(start):
            return int(told[len(start) :])
    raise AssertionError(f"a record of no request: {request_id!r}, {session_id!r}, {asked!r}")


class Planner:
    """Draws rounds from one seed. Numbers go on from round to round."""

    def __init__(self, seed: int, *, library: bool = True, url: bool = True) -> None:
        """`library`, `url`: whether the router is asked without HTTP too; whether the pool has a URL member."""
        self._random = random.Random(seed)
        self._library = library
        self._pinned = (*MEMBERS, URL) if url else MEMBERS
        self._number = 100_000  # six digits: none is the start of another

    def round(self, visits: int, *, last: bool = False) -> Plan:
        """`last`: the server ends meanwhile, so answers may take for ever."""
        plan = Plan([*self._rare(), *(self._visit(last=last) for _ in range(visits))])
        self._random.shuffle(plan.visits)
        count = len(plan.asks)
        blows: tuple[Blow, ...] = (
            "kill",
            "kill",
            "freeze and kill",
            "freeze and thaw",
            "kill core",
            "kill all",
            "reload",
        )
        plan.acts = sorted(
            (
                Act(
                    at=self._random.randrange(count // 8, count),
                    blow=self._random.choice(blows),
                    member=self._random.randrange(len(MEMBERS)),
                    for_s=self._random.uniform(0.05, 0.3),
                )
                for _ in range(0 if last else 3)
            ),
            key=lambda act: act.at,
        )
        return plan

    def count(self, member: str) -> Ask:
        """Asks a host how many other requests it runs."""
        return self._plain(member, [["count"], ["done"]])

    def _plain(self, model: str, steps: list[Step], *, leave: Leave = "", stream: bool = False) -> Ask:
        """One that may take native steps only."""
        number = self._next()
        headers = (f"x-api-key: {KEY}", f"x-request-id: storm-{number}")
        steps = [[*step, number] if step == ["count"] else step for step in steps]
        after_s = self._random.uniform(0, 0.1)
        return Ask(number, "chat", model, stream, steps, 1, headers, leave, self._random.random() < 0.5, after_s)

    def _rare(self) -> list[Visit]:
        """What drawing alone would seldom bring about."""
        asks = [self._refused(status) for status in (400, 401, 404, 408, 413)]
        asks += [self._ask(large=True, leave="waiting"), self._ask(large=True, deadline_s=0.1)]
        asks += [self._ask(large=True), self._ask(stream=True, deadline_s=0.3, held_at=1)]
        asks += [self._plain(member, [["sleep", HOLD_S]], leave="waiting") for member in MEMBERS]
        held = [["chunk", event(0, "chat", 1)], ["sleep", HOLD_S]]
        asks += [self._plain(member, held, leave="answer", stream=True) for member in MEMBERS]
        return [Visit((ask,)) for ask in asks] + [self._sick(self._random.choice(MEMBERS))]

    def _sick(self, member: str) -> Visit:
        """Makes `member` fail so often that its breaker may open."""
        return Visit(tuple(self._plain(member, [["fail", 500, "broken", False]]) for _ in range(5)))

    def _visit(self, *, last: bool) -> Visit:
        draw = self._random.random()
        if draw < 0.1 and self._library:
            return Visit((self._ask(library=True, last=last),))
        asks = [self._ask(last=last) for _ in range(1 if draw < 0.7 else self._random.randint(2, 4))]
        # Only the last one's client leaves, or does not read: with it goes its connection.
        asks = [ask for ask in asks[:-1] if not ask.leave and not ask.slow] + asks[-1:]
        return Visit(tuple(asks), pipelined=self._random.random() < 0.4)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _refused(self, status: int) -> Ask:
        number = self._next()
        told: dict[int, dict[str, Any]] = {
            401: {"headers": (f"x-api-key: {WRONG_KEY}", f"x-request-id: storm-{number}")},
            400: {"raw": b'{"model": "auto", "messages"'},
            413: {"raw": b" " * (BODY_BYTES + 1)},
            404: {"model": "nobody"},
            408: {"leave": "body"},
        }
        usual = {"headers": (f"x-api-key: {KEY}", f"x-request-id: storm-{number}"), "model": "auto"}
        fields = usual | told[status]
        return Ask(
            number=number, kind="chat", stream=number % 2 == 0, steps=[], events=0, refused=status, **fields
        )  # fmt: skip

    def _ask(
        self,
        *,
        library: bool = False,
        last: bool = False,
        stream: bool | None = None,
        large: bool | None = None,
        leave: Leave | None = None,
        deadline_s: float | None = None,
        held_at: int | None = None,
    ) -> Ask:
        """What is not told is drawn. `held_at`: the step before which the engine waits for ever."""
        draw, number = self._random, self._next()
        kinds: tuple[Kind, ...] = ("chat",) if library else ("chat",) * 8 + ("completions", "messages")
        kind = draw.choice(kinds)
        drawn = stream is large is leave is deadline_s is None
        stream = draw.random() < 0.6 if stream is None else stream
        large = draw.random() < 0.05 if large is None else large
        slow = drawn and stream and not library and draw.random() < 0.02
        if drawn and not slow and draw.random() < 0.25:
            leave = self._leave(stream=stream, library=library)
        if drawn and draw.random() < 0.08:
            deadline_s = draw.choice([0.02, 0.1, 0.3])
        steps, events = (_flood(number, kind), 0) if slow else self._steps(number, kind, stream=stream)
        if held_at is None and not slow:
            if leave in ("waiting", "half", "answer") or deadline_s is not None or (last and draw.random() < 0.5):
                held_at = draw.randrange(len(steps))
            elif draw.random() < 0.25:
                self._spoil(steps)
        if held_at is not None:
            steps.insert(held_at, ["sleep", HOLD_S])
        model, headers = self._told(number, kind, library=library, deadline_s=deadline_s)
        return Ask(
            number, kind, model, stream, steps, events, headers, leave or "", draw.random() < 0.5,
            draw.uniform(0, 0.1), deadline_s, large, slow, library,
        )  # fmt: skip

    def _leave(self, *, stream: bool, library: bool) -> Leave:
        if library:
            return self._random.choice(("waiting", "answer") if stream else ("waiting",))
        return self._random.choice(("head", "body", "waiting", "half", *(("answer", "answer") if stream else ())))

    def _told(self, number: int, kind: Kind, *, library: bool, deadline_s: float | None) -> tuple[str, tuple[str, ...]]:
        """The model asked for and the header lines, one of which tells the number."""
        draw = self._random
        model = draw.choice(("auto", "auto", "auto", *(MEMBERS if kind == "messages" else self._pinned)))
        if library:
            return f"router-mf-0.{number}", ()
        lines = [f"x-api-key: {KEY}"]
        match draw.randrange(3):
            case 0:
                lines.append(f"x-request-id: storm-{number}")
            case 1:
                lines.append(f"x-session-id: storm-{number}")
            case _:
                model = f"router-mf-0.{number}"
        if draw.random() < 0.15:
            lines.append("x-headgate-debug: true")
        if draw.random() < 0.15:
            lines.append(f"traceparent: 00-{number:032x}-{number:016x}-01")
        if deadline_s is not None:
            lines.append(f"x-headgate-deadline: {deadline_s}")
        return model, tuple(lines)

    def _steps(self, number: int, kind: Kind, *, stream: bool) -> tuple[list[Step], int]:
        """What the engine does, and how many events a whole answer has."""
        draw = self._random
        events = draw.randint(1, 4) if stream else 1
        steps: list[Step] = []
        for n in range(1, events + 1):
            if n > 1 and draw.random() < 0.5:
                steps.append(["sleep", draw.uniform(0, 0.05)])
            steps.append(["chunk", event(number, kind, n) if stream else whole(number, kind)])
        return [*steps, *([["chunk", tail(kind)]] if stream else []), ["done"]], events

    def _spoil(self, steps: list[Step]) -> None:
        draw = self._random
        fatal = draw.random() < 0.12
        spoilt: Step = draw.choice(
            [["die"], ["hang_up"], ["garbage"]]
            if fatal
            else [
                ["fail", 400, "bad_tool", False], ["fail", 500, "broken", False], ["fail", 503, "draining", True],
                ["fail", 502, "engine_failed", True], ["stranger"], ["twice"], ["handoff"],
            ]
        )  # fmt: skip
        steps.insert(len(steps) if spoilt == ["twice"] else draw.randint(0, len(steps)), spoilt)


def _flood(number: int, kind: Kind) -> list[Step]:
    """Behind the first event comments, which are no events."""
    count, size = FLOOD
    return [["chunk", event(number, kind, 1)], *[["chunk", ": flood\n\n", size // 9]] * count, ["sleep", HOLD_S]]


def event(number: int, kind: Kind, n: int) -> str:
    """The `n`-th event of a streamed answer."""
    line = json.dumps({"of": number, "n": n, "choices": [{"index": 0, "delta": {"content": ""}}]})
    return f"event: content_block_delta\ndata: {line}\n\n" if kind == "messages" else f"data: {line}\n\n"


def tail(kind: Kind) -> str:
    """What ends a streamed answer."""
    return 'event: message_stop\ndata: {"type": "message_stop"}\n\n' if kind == "messages" else "data: [DONE]\n\n"


def whole(number: int, kind: Kind) -> str:
    return json.dumps({"of": number, "n": 1, "choices": [{"index": 0, "message": {"content": ""}}]})
