"""The simulator: steps by hand and by its twin, the gate's code for its gate, queues of known theory, nothing lost."""

import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.config import Limits
from router.errors import Overloaded, RouterError
from router.gate.gate import Gate
from router.learn.simulate.pool import Law
from router.native.simulator import STATUSES
from router.observe.metrics import Metrics
from router.policy import Settings
from tests.gate.conftest import VirtualLoop
from tests.house.imports import graph
from tests.native.engine_twin import Request, Twin
from tests.native.simulated import LAW, engine, run, simulator

A, B, C, D = LAW.step_s, LAW.running_s, LAW.context_s, LAW.prefill_s
ANSWERED = STATUSES.index("answered")


def test_one_request_takes_the_steps_that_are_counted_by_hand() -> None:
    found, made = run([engine()], [1.0], [100], [3])
    first = A + B + 100 * (C + D)
    assert found["first_s"][0] == pytest.approx(1 + first, rel=1e-12)
    assert found["end_s"][0] == pytest.approx(1 + first + (A + B + 101 * C) + (A + B + 102 * C), rel=1e-12)
    (totals,) = made.engines()
    assert (totals["steps"], totals["prefill_tokens"], totals["output_tokens"]) == (3, 100, 3)


def test_a_long_prompt_is_read_in_parts_while_the_other_sequence_goes_on() -> None:
    found, made = run([engine(most_running=8, step_tokens=64)], [0.0, 0.001], [10, 100], [9, 1])
    # The first is read alone; then the second in 63 and 37 tokens, each beside a token of the first.
    one = A + B + 10 * (C + D)
    two = A + B + 11 * C + 63 * D
    three = A + 2 * B + (12 + 100) * C + 37 * D
    assert found["first_s"][1] == pytest.approx(one + two + three, rel=1e-12)
    rest = sum(A + B + held * C for held in range(13, 19))
    assert found["end_s"][0] == pytest.approx(one + two + three + rest, rel=1e-12)
    assert made.engines()[0]["steps"] == 9


def test_a_request_that_comes_in_mid_run_waits_for_the_end_of_the_step_under_way() -> None:
    law = Law(step_s=0.01)
    found, _ = run([engine(law)], [0.0, 0.0351], [16, 16], [100, 1])
    assert found["first_s"] == pytest.approx([0.01, 0.05])


def test_without_a_block_the_sequence_that_began_last_gives_up_its_own_and_is_read_anew() -> None:
    law = Law(step_s=0.01, prefill_s=0.001)
    found, made = run([engine(law, kv_tokens=64, block_tokens=16, context_tokens=64)], [0.0, 0.0], [30, 30], [20, 20])
    assert found["preempted"].tolist() == [0, 1]
    # The first is read alone, the second beside a token of the first. As the first needs a third block, the second,
    # which has two tokens, gives up its own; it is read anew once the first has ended.
    assert found["end_s"][0] == pytest.approx(0.04 + 0.04 + 18 * 0.01)
    read_again = 0.01 + (30 + 2) * 0.001
    assert found["end_s"][1] == pytest.approx(found["end_s"][0] + read_again + 17 * 0.01)
    assert made.engines()[0]["preemptions"] == 1


def test_slots_that_are_used_up_let_the_next_in_as_one_ends() -> None:
    law = Law(step_s=0.01)
    found, _ = run([engine(law, most_running=2)], [0.0, 0.0, 0.0], [8, 8, 8], [3, 5, 1])
    assert found["first_s"] == pytest.approx([0.01, 0.02, 0.04])


def test_a_neighbour_that_works_slows_the_steps_that_begin_meanwhile() -> None:
    law = Law(step_s=0.01, slowdown=0.5)
    rules = [Settings(rule="pinned", pinned=0), Settings(rule="pinned", pinned=1)]
    pool = [engine(law, model=0, beside=(1,)), engine(law, model=1, beside=(0,))]
    found, _ = run(pool, [0.0, 0.025], [8, 8], [10, 2], models=2, rules=rules, rule=[0, 1])
    # Alone for .03 s (the step under way ends), then 1.5 times slower until the other ends at .055 s; the step under
    # way then ends at .06 s.
    assert found["end_s"] == pytest.approx([0.03 + 2 * 0.015 + 5 * 0.01, 0.025 + 2 * 0.015])


@st.composite
def loads(draw: Any) -> tuple[list[Request], dict[str, int]]:
    size = draw(st.integers(1, 40))
    source = random.Random(draw(st.integers(0, 1 << 32)))
    rate = draw(st.sampled_from([1.0, 20.0, 200.0]))
    at_s, requests = 0.0, []
    for _ in range(size):
        at_s += source.expovariate(rate)
        prompt = source.choice([1, 15, 16, 17, 100, 900])
        cached = source.choice([0, 0, prompt // 2, prompt])
        requests.append(Request(at_s, prompt, cached, source.choice([1, 2, 15, 16, 40, 200])))
    most = draw(st.sampled_from([1, 4, 16]))
    kept = draw(st.sampled_from([1120, 2000, 1 << 30]))
    budget = draw(st.sampled_from([16, 64, 2048]))
    block = draw(st.sampled_from([1, 16]))
    return requests, {"most_running": most, "kv_tokens": kept, "step_tokens": budget, "block": block}


@given(loads())
@settings(max_examples=150, deadline=None)
def test_runs_of_steps_at_once_are_those_of_its_twin_one_by_one(load: tuple[list[Request], dict[str, int]]) -> None:
    requests, bounds = load
    twin = Twin((A, B, C, D), **bounds)
    twin.play(requests)
    bounds["block_tokens"] = bounds.pop("block")
    columns = zip(*((r.at_s, r.prompt, r.output, r.cached) for r in requests), strict=True)
    at_s, prompt, output, cached = map(list, columns)
    found, made = run([engine(**bounds)], at_s, prompt, output, cached=cached)
    assert found["status"].tolist() == [ANSWERED] * len(requests)
    assert made.engines()[0]["steps"] == twin.steps
    assert found["preempted"].tolist() == [r.preempted for r in requests]
    assert found["first_s"] == pytest.approx([r.first_s for r in requests], rel=1e-9)
    assert found["end_s"] == pytest.approx([r.end_s for r in requests], rel=1e-9)


def crowd(size: int, rate: float, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """Moments, prompts, answers, and scores of two models."""
    rng = np.random.default_rng(seed)
    at_s = np.cumsum(rng.exponential(1 / rate, size))
    answers = np.maximum(1, rng.exponential(60, size)).astype(int)
    return at_s, rng.integers(1, 900, size), answers, np.sort(rng.random((size, 2)), axis=1)


def pool_of_two(copies: int, **fields: Any) -> list[Any]:
    return [engine(model=i // copies, usd_per_s=(1 + 4 * (i // copies)) * 1e-3, **fields) for i in range(2 * copies)]


def test_the_same_seed_gives_the_same_to_the_bit_and_another_one_does_not() -> None:
    at_s, prompt, output, score = crowd(3_000, 400)
    seen = [
        run(pool_of_two(12), at_s, prompt, output, models=2, score=score, seed=seed, rules=[Settings(price=20)])[0]
        for seed in (1, 1, 2)
    ]
    for name, column in seen[0].items():
        assert np.array_equal(column, seen[1][name]), name
    assert not np.array_equal(seen[0]["engine"], seen[2]["engine"])


@pytest.mark.parametrize("price", [0.0, 20.0, 1000.0])
def test_every_request_ends_once_and_no_token_is_lost(price: float) -> None:
    at_s, prompt, output, score = crowd(4_000, 300, seed=3)
    found, made = run(
        pool_of_two(2, kv_tokens=20_000, context_tokens=2_000), at_s, prompt, output, models=2, score=score,
        in_flight=300, places=50, queue_s=2.0, rules=[Settings(price=price)],
    )  # fmt: skip
    status = np.bincount(found["status"], minlength=len(STATUSES))
    assert status[STATUSES.index("open")] == 0
    assert status.sum() == made.ended == 4_000
    assert status[STATUSES.index("gate_full")] > 0
    answered = found["status"] == ANSWERED
    assert sum(one["output_tokens"] for one in made.engines()) == found["output"][answered].sum()
    assert (found["first_s"][answered] > at_s[answered]).all()
    assert (found["end_s"][answered] >= found["first_s"][answered]).all()
    assert (found["engine"][~answered] == -1).all()


def test_steps_of_one_length_serve_as_a_queue_of_known_theory() -> None:
    """One at a time, of one step each: M/D/1, whose mean wait is rho s / (2 (1 - rho)) (Pollaczek, Khinchine)."""
    service_s, rho, size = 0.01, 0.7, 200_000
    at_s = np.cumsum(np.random.default_rng(5).exponential(service_s / rho, size))
    found, _ = run([engine(Law(step_s=service_s), most_running=1)], at_s, np.ones(size), np.ones(size))
    waits = (found["first_s"] - at_s - service_s).reshape(100, -1).mean(axis=1)
    expected = rho * service_s / (2 * (1 - rho))
    assert abs(waits.mean() - expected) < 3 * waits.std(ddof=1) / 10, (waits.mean(), expected)
    busy = service_s * size / found["end_s"].max()
    assert busy == pytest.approx(rho, rel=0.01)


class Played:
    """The requests of a simulated run at the gate that serves, in a loop of simulated time: each holds its slot for as
    long as it did there."""

    def __init__(self, found: Any, at_s: Any, limits: Limits) -> None:
        self.loop = VirtualLoop()
        self.loop.now_s = 0.0
        self.gate = Gate(limits, Metrics(), clock=self.loop.time, loop=lambda: self.loop)
        self.took_s = found["end_s"] - found["gate_s"]
        self.begun_s = np.full(len(at_s), -1.0)
        self.ends = ["" for _ in at_s]
        for id, moment in enumerate(at_s):
            self.loop.call_later(float(moment), partial(self._ask, id))
        self.loop.run_for(1e6)

    def _ask(self, id: int) -> None:
        try:
            permit = self.gate.take("", id.to_bytes(4))
        except Overloaded:
            self.ends[id] = "gate_full"
            return
        if permit.waiting:
            permit.wait(partial(self._begin, id, permit), partial(self._refused, id))
        else:
            self._begin(id, permit)

    def _begin(self, id: int, permit: Any) -> None:
        self.begun_s[id], self.ends[id] = self.loop.now_s, "answered"
        self.loop.call_later(float(self.took_s[id]), permit.settle)

    def _refused(self, id: int, error: RouterError) -> None:
        self.ends[id] = "gate_late"


@pytest.mark.parametrize(("queue_s", "late"), [(0.5, {"gate_late"}), (3.0, set())])
def test_the_gate_lets_in_and_refuses_whom_the_gate_that_serves_does(queue_s: float, late: set[str]) -> None:
    at_s, prompt, output, _ = crowd(3_000, 60, seed=8)
    at_s[1_500:] += 5.0  # a pause
    limits = Limits(in_flight=20, queue_requests=30, queue_s=queue_s)
    found, _ = run([engine()], at_s, prompt, output, in_flight=20, places=30, queue_s=queue_s)
    played = Played(found, at_s, limits)
    ends = [STATUSES[status] for status in found["status"]]
    assert {"answered", "gate_full"} | late == set(ends)
    assert played.ends == ends
    assert played.begun_s[found["status"] == ANSWERED] == pytest.approx(found["gate_s"][found["status"] == ANSWERED])


def test_a_prompt_too_long_for_all_is_refused_and_one_too_long_for_the_chosen_goes_elsewhere() -> None:
    pool = [engine(model=0, context_tokens=100), engine(model=1, context_tokens=1_000)]
    score = [[1.0, 0.0]] * 4
    found, _ = run(pool, [0.0, 1.0, 2.0, 3.0], [50, 150, 1_500, 5_000], [5] * 4, models=2, score=score)
    assert found["engine"].tolist() == [0, 1, -1, -1]
    assert [STATUSES[status] for status in found["status"]] == ["answered", "answered", "too_long", "no_model"]


def test_engines_whose_queues_are_full_refuse() -> None:
    rules = [Settings(most_waiting=3)]
    found, _ = run(
        [engine(Law(step_s=1.0), most_running=1)], [i * 0.3 for i in range(8)], [8] * 8, [2] * 8, rules=rules
    )
    ends = [STATUSES[status] for status in found["status"]]
    assert set(ends) == {"answered", "queues_full"}


def test_answers_end_at_what_was_asked_for_and_at_the_context() -> None:
    found, _ = run([engine(context_tokens=60)], [0.0, 0.0], [50, 50], [100, 100], max_tokens=[4, -1])
    assert found["output"].tolist() == [4, 10]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"at_s": [1.0, 0.5]}, "request 1: expected a time from 0 that is not before the last one's"),
        ({"at_s": [0.0, float("nan")]}, "request 1: expected a time"),
        ({"prompt": [5, 0]}, "request 1: .* a prompt of 1 token or more"),
        ({"output": [5, 0]}, "request 1: .* an answer of 1 token or more, got 1.0, 0"),
        ({"score": [[1.0], [float("nan")]]}, "request 1: expected a score that is a number"),
        ({"rule": [0, 1]}, "request 1: .* one of 1 rules"),
    ],
)
def test_requests_that_can_be_none_are_refused_by_number(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"at_s": [0.0, 1.0], "prompt": [5, 5], "output": [5, 5], **change}
    with pytest.raises(ValueError, match=message):
        simulator([engine()], **given)


def test_a_model_without_an_engine_is_refused() -> None:
    with pytest.raises(ValueError, match="expected engines of each of 2 models, 0 to 1"):
        simulator([engine()], [0.0], [1], [1], models=2)


def test_nothing_that_serves_imports_the_simulator(root: Path) -> None:
    arrows = graph(root)
    users = {name for name, targets in arrows.items() if "router.native.simulator" in targets}
    assert users
    assert all(name.startswith("router.learn.simulate") for name in users)
