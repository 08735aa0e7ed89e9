"""How true `headgate simulate` is, and how fast: a pool of stub hosts whose steps follow a known law, behind a real
`headgate serve`, beside the same journal in simulated time.

`sim_err` is the worst of the relative errors of throughput and p95 TTFT, over the loads: requests that the rule sends
to one of two models by fixed rates, or by what it has learnt of their steps, and more requests than one model can
answer. The real TTFT is the journal's: from receipt to the
first bytes. `sim_per_s` is simulated requests a second of CPU of one core: two models, 16 engines, at some 70 % of what
they can do; reading the requests in included.
"""

import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import headgate_server
import launch
import msgspec
import numpy as np
import report
import uvloop

from router import config as configuration
from router.config import Config
from router.learn.bench import arrivals, policies
from router.learn.bench.arrivals import Arrivals
from router.learn.bench.generator import Ask, Generator, Planned
from router.learn.simulate import configured, journal, quality, traffic
from router.learn.simulate.configured import EngineFlag
from router.learn.simulate.pool import Pool
from router.learn.simulate.run import Outcome, simulate
from router.observe.journal import Reader
from router.observe.record import Record
from router.policy import Settings
from router.steps import StepModel

GOALS = (report.Goal("sim_err", 0.1), report.Goal("sim_per_s", 50_000, at_most=False))
_HOST = Path(__file__).resolve().parent / "law_host.py"
#: Seconds of a step, a sequence in it, a token held and a prompt token. Slow, so that a busy machine's delays are small
#: beside them.
LAWS = {"small": (0.010, 5e-4, 1e-7, 5e-5), "large": (0.025, 1e-3, 2e-7, 1e-4)}
RUNNING, BUDGET = 16, 512
#: Rates that the config fixes, so that decisions go by the same numbers there and here.
RATES = {"small": (4_000.0, 0.014), "large": (2_500.0, 0.033)}
USD_PER_HOUR = {"small": 1.0, "large": 4.0}
_KV = "kv_tokens=500000"


class Load(NamedTuple):
    name: str
    model: str
    rate: float
    seconds: float
    price: float = 54.0  #: lambda by which both models are asked
    learnt: bool = False  #: the server learns what steps take, and decides by it; else by fixed rates


LOADS = (
    Load("routed", "auto", 10.0, 60.0),
    Load("learnt", "auto", 10.0, 90.0, price=250.0, learnt=True),
    Load("overload", "large", 13.0, 40.0),
)
_LEARN_PER_S, _LEARN_S = 8.0, 20.0  #: that each model is asked by name before, where the server has still to learn


def members(load: Load) -> list[dict[str, Any]]:
    rates = {} if load.learnt else {name: _rates(name) for name in LAWS}
    return [
        {
            "name": name, "model": "stub", "strength": strength, "usd_per_hour": USD_PER_HOUR[name], "gpu_share": 1.0,
            "devices": "cpu",
            "mean_output_tokens": 40.0, **rates.get(name, {}),
            "engine_args": {"law": list(LAWS[name]), "most_running": RUNNING, "budget": BUDGET},
        }
        for name, strength in (("small", 0.44), ("large", 0.63))
    ]  # fmt: skip


def _rates(name: str) -> dict[str, float]:
    return {"prefill_tokens_per_s": RATES[name][0], "time_per_output_token_s": RATES[name][1]}


def bodies(count: int, seed: int) -> list[bytes]:
    """Streamed chats that say how long prompt and answer are to be taken; the text is about as long."""
    source = random.Random(seed)
    words = ("what", "is", "the", "sum", "of", "prove", "that", "there", "are", "many", "primes", "in", "a", "set")
    out = []
    for _ in range(count):
        tokens = source.randint(50, 400)
        text = " ".join(source.choice(words) for _ in range(tokens))
        body = {"messages": [{"role": "user", "content": text}], "stream": True}
        out.append(json.dumps(body | {"prompt_tokens": tokens, "max_tokens": source.randint(10, 70)}).encode())
    return out


def play(url: str, load: Load, seconds: float, seed: int) -> int:
    """Requests that were sent."""
    moments = arrivals.planned(Arrivals(), load.rate, seconds, seed)
    plan = [Planned(float(at), number) for number, at in enumerate(moments)]
    made = Generator(
        policies.target(f"headgate={url},model={load.model}"),
        plan,
        bodies(len(plan), seed),
        Ask(max_tokens=70, timeout_s=300),
    )
    sent = uvloop.run(made.run())
    faults = [row.fault for row in sent.rows if row.fault]
    assert not faults, f"{len(faults)} of {len(plan)} requests failed: {faults[0]}"
    return len(plan)


def _learn(url: str, seconds: float, seed: int) -> int:
    """A model that is never asked is never known, and what is not known is taken to be dear."""
    lasts_s = min(_LEARN_S, seconds)
    return sum(play(url, Load("learn", name, _LEARN_PER_S, lasts_s), lasts_s, seed + 1) for name in LAWS)


def records(path: Path, count: int) -> list[Record]:
    """Those of the journal, once all are written."""
    end = time.monotonic() + 60
    while True:
        found = [line for line in Reader(path) if isinstance(line, Record)]
        if len(found) >= count:
            return found
        assert time.monotonic() < end, f"expected {count} records in the journal, got {len(found)}"
        time.sleep(0.2)


class Figures(NamedTuple):
    requests_per_s: float
    ttft_p95_ms: float
    large_share: float


def figures(at_s: Any, first_s: Any, total_s: Any, large: Any, count: int) -> Figures:
    """Of the last `count` requests. Throughput: answers from the first arrival to the last end, the tail in which the
    queue drains included."""
    at_s, first_s, total_s, large = (column[-count:] for column in (at_s, first_s, total_s, large))
    lasted_s = float(np.max(at_s + total_s) - at_s[0])
    return Figures(len(at_s) / lasted_s, float(np.percentile(first_s, 95)) * 1e3, float(np.mean(large)))


def real(found: list[Record], count: int) -> Figures:
    found = sorted(found, key=lambda one: one.time_s)
    return figures(
        np.array([one.time_s for one in found]), np.array([one.ttft_s for one in found], float),
        np.array([one.total_s for one in found]), np.array([one.model == "large" for one in found]), count,
    )  # fmt: skip


def simulated(outcome: Outcome, count: int) -> Figures:
    large = outcome.model == outcome.pool.names.index("large")
    return figures(outcome.traffic.at_s, outcome.first_s, outcome.total_s, large, count)


def pool(config: Config, costs: Path | None) -> Pool:
    """Of the config that the server ran by, with the law of its hosts; `costs`: or what the server learnt of it."""
    flags = [EngineFlag(name=name, max_num_seqs=RUNNING, max_num_batched_tokens=BUDGET) for name in LAWS]

    def law(_: str, name: str) -> StepModel:
        a, b, c, d = LAWS[name]
        return StepModel(step_s=a, running_s=b, context_s=c, prefill_s=d)

    settings = Settings(price=config.routing.price, most_waiting=config.server.limits.waiting)
    return configured.pool_of(config, flags, law if costs is None else configured.step_models(costs), settings)


def compare(load: Load, seconds: float, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder:
        path = Path(folder) / "journal"
        branches = {"journal": {"path": str(path)}, "devices": {}}
        routing = {"price": load.price}
        env = {"HEADGATE_CACHE_HOME": folder}
        with headgate_server.run(
            members(load), stub=True, host=_HOST, routing=routing, branches=branches, env=env
        ) as server:
            before = _learn(server.url, seconds, seed) if load.learnt else 0
            count = play(server.url, load, seconds, seed)
            found = records(path, before + count)
        (Path(folder) / "pool.yaml").write_text(json.dumps({"pool": members(load), "routing": routing}))
        made = pool(configuration.load(Path(folder) / "pool.yaml"), Path(folder) if load.learnt else None)
        replayed = journal.of_journal(path, made.names)
        ours, truth = simulated(simulate(made, replayed), count), real(found, count)
    errors = {
        "requests_per_s": abs(ours.requests_per_s / truth.requests_per_s - 1),
        "ttft_p95_ms": abs(ours.ttft_p95_ms / truth.ttft_p95_ms - 1),
    }
    told = {"real": truth._asdict(), "simulated": ours._asdict(), "errors": errors, "requests": count}
    report.progress(f"{load.name}: {told}")
    return told


def speed(requests: int, seed: int) -> float:
    """Simulated requests a second of CPU."""
    rng = np.random.default_rng(seed)
    flags = [
        configured.engine_flag(f"small,step_s=.004,running_s=2e-5,context_s=1e-8,prefill_s=5e-6,{_KV},copies=4"),
        configured.engine_flag(f"large,step_s=.02,running_s=1e-4,context_s=4e-8,prefill_s=3e-5,{_KV},copies=12"),
    ]
    made = configured.pool_of(Config(), flags, lambda key, name: None, Settings(price=100.0))
    made = msgspec.structs.replace(made, in_flight=1 << 40)
    at_s = np.cumsum(rng.exponential(1 / 200, requests))
    drawn = quality.drawn({"small": 0.6, "large": 0.9}, made.names, requests, rng)
    asked = traffic.made(
        "made up", made.names, at_s, traffic.lengths(500, 0.8, requests, rng), traffic.lengths(200, 0.8, requests, rng),
        drawn.score, drawn.quality,
    )  # fmt: skip
    begun_s = time.process_time()
    outcome = simulate(made, asked, seed=seed)
    spent_s = time.process_time() - begun_s
    assert outcome.answered.all()
    busy = sum(one["worked_s"] for one in outcome.engines) / outcome.seconds / len(outcome.engines)
    report.progress(f"{requests / spent_s:,.0f} requests/s; engines busy for {busy:.2f} of the time")
    return requests / spent_s


def main() -> None:
    parser = report.parser(__doc__, runs=1)
    args = parser.parse_args()
    launch.prefer(args.priority)
    compared: dict[str, list[dict[str, Any]]] = {}
    for run in range(1 if args.quick else args.runs):
        for load in LOADS:
            seconds = 5.0 if args.quick else load.seconds
            compared.setdefault(load.name, []).append(compare(load, seconds, run))
    speeds = [speed(5_000 if args.quick else 100_000, seed) for seed in range(1 if args.quick else 5)]
    worst = max(error for runs in compared.values() for run in runs for error in run["errors"].values())
    told = {
        "sim_err": round(worst, 4),
        "sim_per_s": round(float(np.median(speeds))),
        "speeds": report.spread(speeds, 0),
        **compared,
    }
    report.finish(args, "simulate", told, goals=GOALS, distributions=("numpy", "uvloop"))


if __name__ == "__main__":
    main()
