"""The host of `stepping_host.py`, whose steps take what a known law says (docs/price.md), as that of an engine does.

`engine_args` also: `law`, the seconds of a step, of a sequence in it, of a token held and of a prompt token. What a
step does is decided as it begins, and it ends when it is due: a late one makes the next no later. The steps' sums are
told, so that a server can learn the law.
"""

import asyncio
import json
import sys
from pathlib import Path

import msgspec

from router.ipc.messages import Chunks, Done, Load, Message, Submit
from router.ipc.spec import HostSpec
from router.native.cost import StepMeter
from router.types import Timings, Usage

sys.path.insert(0, str(Path(__file__).resolve().parent))  # hosts are started with -P

import stepping_host
from stepping_host import Sequence

Plan = list[tuple[Sequence, int]]
_REPORT_S = 0.05  #: between load frames, at least, as real hosts do


class LawHost(stepping_host.SteppingHost):
    def __init__(self, spec: HostSpec) -> None:
        super().__init__(spec)
        self._law: tuple[float, float, float, float] = tuple(map(float, spec.engine_args["law"]))  # type: ignore[assignment]
        self._loop = asyncio.get_running_loop()
        self._meter = StepMeter()
        self._came_s: dict[int, float] = {}  # by id; and first tokens
        self._first_s: dict[int, float] = {}
        self._told_s = 0.0

    def received(self, message: Message) -> None:
        if isinstance(message, Submit):
            self._came_s[message.id] = self._loop.time()
        super().received(message)

    async def _run(self) -> None:
        due_s = self._loop.time()
        while self._running or self._waiting:
            plan, begun_s = self._plan(), due_s
            due_s += self._seconds(plan)
            await asyncio.sleep(due_s - self._loop.time())
            self._step += 1
            self._measure(plan, begun_s, due_s)
            self._apply(plan)
            if self._loop.time() >= self._told_s + _REPORT_S:
                self._report()
        self._report()
        self._stepping = None

    def _plan(self) -> Plan:
        """Tokens of each sequence in the step; those that begin with it run from now on."""
        left, plan = self._budget, []
        for each in self._running:
            if left > 0:
                plan.append((each, min(left, each.unread or 1)))
                left -= plan[-1][1]
        while self._waiting and len(self._running) < self._most and left > 0:
            each = self._waiting.pop(0)
            self._running.append(each)
            plan.append((each, min(left, each.unread)))
            left -= plan[-1][1]
        return plan

    def _seconds(self, plan: Plan) -> float:
        a, b, c, d = self._law
        told = [each for each, tokens in plan if tokens >= each.unread]
        return a + b * len(told) + c * _held(told) + d * _prefill(plan)

    def _measure(self, plan: Plan, begun_s: float, due_s: float) -> None:
        told = [each for each, tokens in plan if tokens >= each.unread]
        fresh = [each for each in told if each.unread]
        if told:
            prefill = sum(each.prompt_tokens for each in fresh)
            self._meter.outputs(due_s, len(told), len(fresh), _held(told), prefill, begun_s)
        self._meter.stepped(len(told) < len(plan))

    def _apply(self, plan: Plan) -> None:
        for each, tokens in plan:
            if not each.unread:
                each.written += 1
                continue
            each.unread -= tokens
            if not each.unread:
                each.first, each.written = self._step, 1
                self._first_s[each.id] = self._loop.time()
        for each in [each for each in self._running if each.stream and each.written > each.told]:
            each.told = each.written
            self._send(Chunks([(each.id, b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n')]))
        for each in [each for each in self._running if each.written >= each.wanted]:
            self._running.remove(each)
            whole = json.dumps({"steps": each.first - each.arrived, "choices": [{}]}).encode()
            self._send(Chunks([(each.id, b"data: [DONE]\n\n" if each.stream else whole)]))
            came_s, first_s = self._came_s.pop(each.id), self._first_s.pop(each.id)
            timings = Timings(first_s - came_s, self._loop.time() - came_s)
            self._send(Done(id=each.id, usage=Usage(each.prompt_tokens, each.written, 0), timings=timings))

    def _report(self) -> None:
        a, b, c, d = self._law
        self._told_s = self._loop.time()
        held = _held([each for each in self._running if each.written])
        self._send(
            Load(
                running=len(self._running), waiting=len(self._waiting), prefill_tokens_per_s=1 / d if d else 0.0,
                time_per_output_token_s=a + b * len(self._running) + c * held, context_tokens=held,
                sums=self._meter.sums(),
            )
        )  # fmt: skip


def _held(sequences: list[Sequence]) -> int:
    return sum(each.prompt_tokens + each.written for each in sequences)


def _prefill(plan: Plan) -> int:
    return sum(tokens for each, tokens in plan if each.unread)


if __name__ == "__main__":
    asyncio.run(stepping_host.serve(msgspec.json.decode(sys.stdin.buffer.readline(), type=HostSpec), LawHost))
