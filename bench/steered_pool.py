"""A pool of two models on two devices on simulated time, decided and priced by the code that serves.

A small model on a small device, a large one on a large device; requests come evenly or at random, with margins of
quality that are normal. What the steered price must become follows from that by arithmetic (`target`). Knows no goals.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import NamedTuple

from router.config import Objective
from router.native import policy as native
from router.native.steering import Steering
from router.policy import Settings
from router.policy.prices import OF_TTFT, Answers, MemberSeen, Prices, Seen
from router.types import MemberState, Query, Scores, Snapshot

TICK_S = 0.5
PROMPT_TOKENS, OUTPUT_TOKENS, PREFILL = 100, 100.0, 5_000.0
LAMBDA = 200.0
BASE_QUALITY = 0.5
ASKED = Query(kind="chat", model="auto", turns=())
_GOLDEN = (math.sqrt(5) - 1) / 2


class Model(NamedTuple):
    """An engine that runs `slots` answers at once, each in `answer_s`, on a device of its own."""

    name: str
    slots: int
    answer_s: float
    usd_per_hour: float

    @property
    def per_s(self) -> float:
        return self.slots / self.answer_s

    @property
    def cost_usd(self) -> float:
        """Of one request, at the bought price."""
        return (PROMPT_TOKENS / PREFILL + self.answer_s) * self.usd_per_hour / 3600


SMALL, LARGE = Model("small", 64, 0.5, 1.0), Model("large", 512, 1.0, 4.0)


class Traffic(NamedTuple):
    """For `seconds`."""

    per_s: float
    margin: NormalDist = NormalDist(0.1, 0.1)  #: by how much the large model is better
    seconds: float = 180.0


class Sample(NamedTuple):
    """At one tick."""

    time_s: float
    price: float  #: what is steered: lambda, or the small device's factor
    target: float
    small: float  #: share of the requests that the small model got


class Engine:
    """First come, first served."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._free_s = [0.0] * model.slots  # a heap
        self._starts_s: deque[float] = deque()

    def submit(self, now_s: float) -> float:
        """Seconds until its first token."""
        start_s = max(now_s, heapq.heappop(self._free_s))
        heapq.heappush(self._free_s, start_s + self.model.answer_s)
        self._starts_s.append(start_s)
        return start_s - now_s + PROMPT_TOKENS / PREFILL

    def state(self, now_s: float, surcharge: float) -> MemberState:
        while self._starts_s and self._starts_s[0] <= now_s:
            self._starts_s.popleft()
        model, waiting = self.model, len(self._starts_s)
        return MemberState(
            name=model.name,
            waiting=waiting,
            prefill_tokens_per_s=PREFILL,
            time_per_output_token_s=model.answer_s / OUTPUT_TOKENS,
            mean_output_tokens=OUTPUT_TOKENS,
            queued_gpu_s=waiting / model.per_s,
            usd_per_s=model.usd_per_hour / 3600,
            surcharge=surcharge,
        )


class SteeredPool:
    """`even`: requests and margins come evenly, so that what is seen is the law and no chance."""

    def __init__(self, objective: Objective, *, even: bool = True, seed: int = 1) -> None:
        self.objective = objective
        self._even, self._random = even, random.Random(seed)
        self.prices = Prices(objective, LAMBDA)
        self.steering = Steering()
        self.steering.adds = True
        self.engines = (Engine(SMALL), Engine(LARGE))
        self._now_s, self._next_s, self._count = 0.0, 0.0, 0
        self._ended = {SMALL.name: [0, 0, 0], LARGE.name: [0, 0, 0]}

    def run(self, traffics: Sequence[Traffic]) -> Iterator[list[Sample]]:
        """Of each traffic in turn."""
        for traffic in traffics:
            begun_s, samples = self._now_s, []
            while self._now_s < begun_s + traffic.seconds:
                small = self._tick(traffic)
                samples.append(Sample(self._now_s - begun_s, self._price(), self.target(traffic), small))
            yield samples

    def _tick(self, traffic: Traffic) -> float:
        until_s, took = self._now_s + TICK_S, [0, 0]
        self._next_s = max(self._next_s, self._now_s)
        while self._next_s < until_s:
            took[self._request(self._next_s, traffic)] += 1
            self._next_s += 1 / traffic.per_s if self._even else self._random.expovariate(traffic.per_s)
        self._now_s = until_s
        answers = {name: Answers(*counts) for name, counts in self._ended.items()}
        self._ended = {name: [0, 0, 0] for name in self._ended}
        states = self._states(until_s)
        seen = [
            MemberSeen(
                name=state.name,
                devices=((state.name, engine.model.usd_per_hour),),
                wait_s=state.queued_gpu_s,
                output_token_s=state.time_per_output_token_s,
            )
            for engine, state in zip(self.engines, states, strict=True)
        ]
        self.prices.step(until_s, Seen(members=seen, sums=self.steering.sums(), answers=answers))
        return took[0] / max(sum(took), 1)

    def _states(self, now_s: float) -> tuple[MemberState, ...]:
        return tuple(
            engine.state(now_s, self.prices.surcharge(((engine.model.name, 1.0),))[0]) for engine in self.engines
        )

    def _request(self, now_s: float, traffic: Traffic) -> int:
        self._count += 1
        draw = (self._count * _GOLDEN) % 1 if self._even else self._random.random()
        quality = (BASE_QUALITY, BASE_QUALITY + traffic.margin.inv_cdf(min(max(draw, 1e-9), 1 - 1e-9)))
        goal = self.prices.goal
        settings = Settings(price=goal.price, price_of=goal.price_of, strong=1)
        numbers = native.decide(ASKED, Scores(quality, PROMPT_TOKENS), Snapshot(self._states(now_s)), settings)
        numbers.note(self.steering)
        ttft_s = self.engines[numbers.member].submit(now_s)
        counts = self._ended[self.engines[numbers.member].model.name]
        counts[0] += 1
        if self.objective.ttft_ms is not None and ttft_s * 1e3 > self.objective.ttft_ms:
            predicted_s = numbers.column("wait_s")[numbers.member]
            counts[1] += 1
            counts[2] += isinstance(predicted_s, float) and predicted_s * 1e3 <= OF_TTFT * self.objective.ttft_ms
        return numbers.member

    def _price(self) -> float:
        goal = self.prices.goal
        return goal.price if goal.steers else self.prices.devices[SMALL.name].factor

    # What it must become

    def target(self, traffic: Traffic) -> float:
        """Lambda, or the small device's factor, at which the objective holds exactly, by the traffic's law;
        infinite where none does."""
        dearer = LARGE.cost_usd - SMALL.cost_usd
        if self.objective.kind == "budget":
            small = (LARGE.cost_usd - self.objective.usd_per_s / traffic.per_s) / dearer
            return traffic.margin.inv_cdf(small) / dearer if 0 < small < 1 else math.inf
        if self.objective.kind == "quality":
            return _threshold(traffic.margin, self.objective.of_strongest or 1.0) / dearer
        share = SMALL.per_s / traffic.per_s
        if share >= traffic.margin.cdf(LAMBDA * dearer):
            return 1.0
        return (LARGE.cost_usd - traffic.margin.inv_cdf(share) / LAMBDA) / SMALL.cost_usd


def _threshold(margin: NormalDist, of_strongest: float) -> float:
    """The margin from which on the large model is asked, so that the mean quality is so much of its own."""
    wanted = of_strongest * (BASE_QUALITY + margin.mean) - BASE_QUALITY
    low, high = margin.mean - 6 * margin.stdev, margin.mean + 6 * margin.stdev
    for _ in range(60):
        middle = (low + high) / 2
        z = (middle - margin.mean) / margin.stdev
        won = margin.mean * (1 - NormalDist().cdf(z)) + margin.stdev * NormalDist().pdf(z)
        low, high = (middle, high) if won > wanted else (low, middle)
    return low


def settle_s(samples: Sequence[Sample], within: float = 0.05) -> float:
    """From when on the price stays near its target."""
    return max((each.time_s for each in samples if abs(each.price / each.target - 1) > within), default=0.0)


def swing(samples: Sequence[Sample], after_s: float = 60.0) -> float:
    """Between the highest and the lowest price that late, over the target."""
    late = [each.price / each.target for each in samples if each.time_s > after_s]
    return max(late) - min(late)
