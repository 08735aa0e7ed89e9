"""The simulated engine of csrc/simulated_engine.hpp, step by step and with plain lists: what its tests hold it to."""

from collections.abc import Sequence
from dataclasses import dataclass, field

Law = tuple[float, float, float, float]  #: seconds of a step, a sequence in it, a token held, a prompt token


@dataclass
class Request:
    at_s: float
    prompt: int
    cached: int
    output: int
    written: int = 0
    read: int = 0  #: tokens in the KV cache
    decodes: bool = False
    first_s: float = -1.0
    end_s: float = -1.0
    preempted: int = 0

    @property
    def wanted(self) -> int:
        """Tokens to be in the KV cache before the next one can be written."""
        return self.prompt + self.written


@dataclass
class Twin:
    law: Law
    most_running: int = 256
    step_tokens: int = 8192
    kv_tokens: int = 1 << 40
    block: int = 16
    waiting: list[Request] = field(default_factory=list)
    running: list[Request] = field(default_factory=list)
    steps: int = 0
    now_s: float = 0.0

    def play(self, requests: Sequence[Request]) -> None:
        coming = list(requests)
        while coming or self.waiting or self.running:
            if not self.waiting and not self.running:
                self.now_s = coming[0].at_s
                self.waiting.append(self._came(coming.pop(0)))
            self.step()
            while coming and coming[0].at_s < self.now_s:
                self.waiting.append(self._came(coming.pop(0)))

    def _came(self, it: Request) -> Request:
        it.read = min(it.cached, it.prompt - 1)
        return it

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.block)

    def _room(self, more: dict[int, int]) -> int:
        """Blocks that are left once each of the running has `more` tokens."""
        held = sum(self._blocks(it.read + more.get(id(it), 0)) for it in self.running)
        return self.kv_tokens // self.block - held

    def step(self) -> None:
        gave_up = False
        while True:
            plan = {id(it): 1 for it in self.running if it.decodes}
            left = self.step_tokens - len(plan)
            for it in self.running:
                if not it.decodes:
                    plan[id(it)] = min(left, it.wanted - it.read)
                    left -= plan[id(it)]
            if self._room(plan) >= 0:
                break
            last = self.running.pop()
            last.read = min(last.cached, last.wanted - 1)
            last.decodes = False
            last.preempted += 1
            self.waiting.insert(0, last)
            gave_up = True
        while not gave_up and self.waiting and left > 0 and len(self.running) < self.most_running:
            it = self.waiting[0]
            now = min(left, it.wanted - it.read)
            if self._room(plan) < self._blocks(it.read + now):
                break
            self.running.append(self.waiting.pop(0))
            plan[id(it)] = now
            left -= now
        self._take(plan)

    def _take(self, plan: dict[int, int]) -> None:
        a, b, c, d = self.law
        told = [it for it in self.running if it.read + plan.get(id(it), 0) == it.wanted]
        prompts = sum(plan.get(id(it), 0) for it in self.running if not it.decodes)
        self.now_s += a + b * len(told) + c * sum(it.wanted for it in told) + d * prompts
        self.steps += 1
        for it in self.running:
            it.read += plan.get(id(it), 0)
        for it in told:
            it.written += 1
            it.decodes = True
            if it.first_s < 0:
                it.first_s = self.now_s
            if it.written == it.output:
                it.end_s = self.now_s
                self.running.remove(it)
