"""The longest stop of the frontend's event loop as an engine is lost with many requests in flight.

A whole frontend in this process, from the bytes of requests to those of answers, its clients over socket pairs; engines
are connections without an engine behind. A callback that the loop calls once in each turn measures how long turns last.
"""

import asyncio
import gc
import resource
import time
from typing import Any, NamedTuple

import launch
import msgspec
import prompts
import report
import uvloop
from instruction_work import CHAT, EVENT, Front, never_yield

from router.ipc.channel import encode_frame
from router.ipc.messages import Chunks
from router.learn.bench import client

GOALS = (report.Goal("loss_stop_ms", 20),)
LARGE, SMALL = 1, 0
#: What is in flight as the engine is lost: header lines of each request, and whether its answer has begun.
KINDS = {"begun": (b"", True), "begun_ordinary": (b"x-headgate-debug: true\r\n", True), "waiting": (b"", False)}


class Sample(NamedTuple):
    stop_ms: float  #: the longest turn of the loop
    stop_cpu_ms: float  #: the same in CPU time of the thread: other work on the machine does not count
    all_ms: float  #: until the last request had ended, or was another engine's


class Pulse:
    """The longest turn of the loop since `begin`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.longest = [0.0, 0.0]
        self._last = [0.0, 0.0]
        self.beating = False

    def begin(self) -> None:
        self.beating, self.longest, self._last = True, [0.0, 0.0], self._now()
        self._loop.call_soon(self._beat)

    def _beat(self) -> None:
        now = self._now()
        self.longest = [max(most, at - last) for most, at, last in zip(self.longest, now, self._last, strict=True)]
        self._last = now
        if self.beating:
            self._loop.call_soon(self._beat)

    def _now(self) -> list[float]:
        return [time.perf_counter(), time.thread_time()]


async def lose(kind: str, streams: int, words: int) -> Sample:
    header, begun = KINDS[kind]
    front, pulse = Front(), Pulse()
    member, link, other = front.members[LARGE], front.links[LARGE], front.members[SMALL]
    model = "large" if begun else "auto"  # what is pinned is not tried elsewhere
    front.router.reload(msgspec.structs.replace(front.router.config.routing, price=0.0))
    for text in prompts.texts(streams, words):
        request = client.post(CHAT, prompts.chat(text, model=model, stream=True))
        front.connect().data_received(request.replace(b"\r\n", b"\r\n" + header, 1))
    front.turn()
    owed = dict(member.lane.calls)
    if begun:
        link.channel.data_received(bytes(encode_frame(Chunks([(id, EVENT) for id in owed]))))
    front.clear()
    gc.collect()
    kept = len(other.lane.calls)
    pulse.begin()
    await asyncio.sleep(0)
    at = time.perf_counter()
    member._lost(link, None)  # type: ignore[arg-type]
    while len(member._calls._failing):
        await asyncio.sleep(0)
    all_s = time.perf_counter() - at
    await asyncio.sleep(0)
    pulse.beating = False
    await asyncio.sleep(0)
    check(front, kind, owed=len(owed), moved=len(other.lane.calls) - kept, streams=streams)
    for wire in front.wires:
        wire.near.close()
        wire.far.close()
    return Sample(pulse.longest[0] * 1e3, pulse.longest[1] * 1e3, all_s * 1e3)


def check(front: Front, kind: str, *, owed: int, moved: int, streams: int) -> None:
    """Each request has ended, or the other engine has it."""
    begun = KINDS[kind][1]
    ended = sum(b"[DONE]" in wire.far.recv(1 << 20) for wire in front.wires[-streams:]) if begun else owed - moved
    if (begun and ended != streams) or (not begun and (ended or not owed)):
        raise RuntimeError(f"{kind}: of {streams} requests {owed} were owed, {ended} ended and {moved} moved")


def measure(kind: str, streams: int, words: int) -> Sample:
    never_yield()  # as requests are begun: all of them in one turn
    return uvloop.run(lose(kind, streams, words))


def main() -> None:
    parser = report.parser(__doc__ or "")
    parser.add_argument("--streams", type=int, default=1000, help="requests in flight in the engine that is lost")
    parser.add_argument("--words", type=int, default=100, help="words of a prompt")
    args = parser.parse_args()
    launch.prefer(args.priority)
    streams, runs = (100, 1) if args.quick else (args.streams, args.runs)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * streams + 256)), hard))
    samples: dict[str, list[Sample]] = {kind: [] for kind in KINDS}
    for _ in range(runs):
        for kind, of in samples.items():
            of.append(measure(kind, streams, args.words))
            report.progress(f"{kind}: {of[-1].stop_ms:.1f} ms, {of[-1].all_ms:.1f} ms in all")
    report.finish(args, "loss", figures(samples, streams), goals=GOALS)


def figures(samples: dict[str, list[Sample]], streams: int) -> dict[str, Any]:
    kinds = {
        kind: {field: report.spread([getattr(sample, field) for sample in of]) for field in Sample._fields}
        for kind, of in samples.items()
    }
    worst = max(of["stop_ms"]["median"] for of in kinds.values())
    return {"loss_stop_ms": worst, "streams": streams, "kinds": kinds}


if __name__ == "__main__":
    main()
