"""Micro-benchmarks of a request's way through pipeline, pool and frames: no HTTP, no scoring, no engine.

`make bench`, or: python -P -m pytest bench/test_pipeline.py --benchmark-only
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

sys.path.insert(0, str(Path(__file__).parent))

from links import Link

from router.config import Config, Member, Routing, Supervision
from router.ipc.frames import FrameDecoder, encode_frame
from router.ipc.messages import Chunks, Done, Message, Submit
from router.native.call import Receiver
from router.pipeline.router import Router
from router.policy import Settings, decide
from router.pool.engine import EngineMember
from router.types import MemberState, Query, Scores, Snapshot, Timings, Turn, Usage

pytest.importorskip("pytest_benchmark")

CHAT = frozenset({"chat"})
QUERY = Query(kind="chat", model="auto", turns=(Turn("user", "word " * 100),), needs=CHAT)
BODY = b'{"model":"auto","messages":[{"role":"user","content":"' + b"word " * 100 + b'"}]}'
EVENT = b"data: " + b"x" * 180 + b"\n\n"


class Sink(Receiver):
    def start(self, decision: Any) -> None: ...

    def chunk(self, data: bytes) -> None: ...

    def done(self, done: Done) -> None: ...

    def fail(self, error: Any) -> None:
        raise AssertionError(error)


class Scoring:
    placements = ()
    typical = ("",)
    head = None
    router = "mf"
    slow = False

    def score(self, query: Query) -> Scores:
        return Scores((0.4, 0.6), 120)


class Rig:
    """Two engine members over wires to nowhere."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        pool = (Member(name="small", model="a", gpu_share=0.2), Member(name="large", model="b", gpu_share=0.7))
        self.members = [EngineMember(m, Supervision(), Path("/nowhere"), gpu_share=m.gpu_share or 0.5) for m in pool]
        self.links = []
        for member in self.members:
            link = Link(member, self.loop, natively=False)
            self.links.append(link)
            member._link, member.phase = link, "ready"  # type: ignore[assignment]
            member.described(CHAT, 8192)
        config = Config(pool=pool, routing=Routing(price=0.0))
        self.router = Router(config, pool=self.members, scoring=Scoring())  # type: ignore[arg-type]

    def hundred(self, chunks: int) -> None:
        """A hundred requests; the chunks of each, in a frame of their own; their ends. In one tick of the loop."""
        first, receive = self.members[1].lane.last_id + 1, self.links[1].channel.data_received
        for _ in range(100):
            self.router.submit(QUERY, BODY, Sink())
        for id in range(first, first + 100):
            frame = bytes(encode_frame(Chunks([(id, EVENT)])))
            for _ in range(chunks):
                receive(frame)
            receive(bytes(encode_frame(Done(id=id, usage=Usage(120, chunks), timings=Timings(0.01, 0.1)))))
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.loop.close()


@pytest.mark.parametrize("chunks", [1, 65])
def test_100_requests(benchmark: Any, rig: Rig, chunks: int) -> None:
    """From `submit` to the end, the host's encoding included. The difference over 6,400 is a token in a frame alone."""
    benchmark(rig.hundred, chunks)
    assert rig.router.in_flight() == 0


@pytest.mark.parametrize("members", [2, 32])
def test_decide(benchmark: Any, members: int) -> None:
    """The policy alone."""
    states = tuple(
        MemberState(name=f"m{i}", capabilities=CHAT, context_tokens=8192, usd_per_s=0.0001 * i) for i in range(members)
    )
    scores = Scores(tuple(0.5 + 0.01 * i for i in range(members)), 120)
    decision = benchmark(decide, QUERY, scores, Snapshot(states), Settings(price=100.0))
    assert decision.terms[0].model == "m0"


@pytest.mark.parametrize(
    "message",
    [
        Submit(id=1, kind="chat", body=BODY, request_id="0123456789abcdef"),
        Chunks([(1, EVENT)]),
        Chunks([(i, EVENT) for i in range(64)]),
        Done(id=1, usage=Usage(120, 16), timings=Timings(0.01, 0.1)),
    ],
    ids=["submit", "1 chunk", "64 chunks", "done"],
)
def test_frame(benchmark: Any, message: Message) -> None:
    """Encoded and decoded."""
    decoder = FrameDecoder()
    assert benchmark(lambda: decoder.feed(encode_frame(message))) == [message]


def test_frame_of_32_mb_in_64_kb_reads(benchmark: Any) -> None:
    frame = bytes(encode_frame(Submit(id=1, kind="chat", body=bytes(32 << 20))))
    decoder = FrameDecoder()

    def read() -> int:
        return sum(len(decoder.feed(frame[at : at + 65_536])) for at in range(0, len(frame), 65_536))

    assert benchmark(read) == 1
