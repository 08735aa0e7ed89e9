"""What the price bench loads: a pool of a config file, or stubs, and its largest model alone with the whole machine.

All engines share the CPU cores of one machine, and a second of a core costs the same whichever engine takes it.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import headgate_server
import launch
import yaml

from router.cli import admin_port
from router.cli.bench_plan import pool_members

USD_PER_CORE_HOUR = 1.0  #: of every engine; ratios do not depend on it
_GRADED = Path(__file__).resolve().parent / "graded_host.py"
#: vLLM's CPU platform makes `mp` of `uni`: a worker process, which polls for a second after each message. Named by its
#: import path the executor stays in the engine core's process, and no engine second is spent on waiting.
ONE_PROCESS = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
_OURS = ("version", "server", "pool", "supervision")  #: branches that the bench writes itself
_PATHS = ("checkpoint",)  #: of `routing`


class Pool(NamedTuple):
    """Members, weakest first, and further branches of the config."""

    members: list[dict[str, Any]]
    routing: dict[str, Any]
    branches: dict[str, Any]
    workload: Path
    labels: Path | None  #: outcomes by which lambda is found; None: it stays as the config has it
    stub: bool = False

    @property
    def names(self) -> list[str]:
        return [member["name"] for member in self.members]


def of_file(config: Path, workload: Path, labels: Path | None, changes: Mapping[str, Any]) -> Pool:
    """With paths of its own and one price for a second of a core. Rates that the config fixes are left out: they are
    learnt. `changes`: by branch, what stands in the place of the config's keys."""
    read = yaml.safe_load(config.read_text(encoding="utf-8"))
    members = [_member(member, config.parent) for member in read["pool"]]
    branches = {name: of for name, of in read.items() if name not in _OURS}
    for name, of in changes.items():
        branches[name] = {**(branches.get(name) or {}), **of}
    routing = dict(branches.pop("routing", None) or {})
    for key in _PATHS:
        if key in routing:
            routing[key] = str((config.parent / routing[key]).resolve())
    return Pool(members, routing, branches, workload, labels)


def of_stubs(folder: Path) -> Pool:
    """Two that answer easy questions, or all, in steps of known length; a workload of theirs."""
    steps = {"small": (0.004, 1), "large": (0.02, 2)}
    members = [
        {
            "name": name, "model": "stub", "strength": 0.4 * right_upto, "usd_per_hour": USD_PER_CORE_HOUR,
            "gpu_share": 1.0, "engine_args": {"step_s": step_s, "right_upto": right_upto, "most_running": 4},
        }
        for name, (step_s, right_upto) in steps.items()
    ]  # fmt: skip
    workload = folder / "workload.jsonl"
    rows = [
        {"id": str(n), "prompt": f"level {1 + n % 2}: repeat {n}", "expected": str(n), "grader": "number",
         "max_tokens": 8}
        for n in range(40)
    ]  # fmt: skip
    workload.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Pool(members, {"price": 0.0}, {}, workload, None, stub=True)


class Alone(NamedTuple):
    """How the largest model has the whole machine."""

    threads: int  #: of each engine
    engines: int = 1
    drafted: int = 0  #: tokens that the smallest model drafts a step (speculative decoding); 0: none

    @property
    def name(self) -> str:
        engines = f"x{self.engines}" if self.engines > 1 else ""
        return f"alone-{self.threads}{engines}" + (f"-spec{self.drafted}" if self.drafted else "")


def alone(pool: Pool, how: Alone) -> dict[str, Any]:
    """Its last member, the largest, with the KV memory of all."""
    largest = pool.members[-1]
    arguments = dict(largest.get("engine_args") or {})
    kv = [int((member.get("engine_args") or {}).get("kv_cache_memory_bytes", 0)) for member in pool.members]
    if all(kv):
        arguments["kv_cache_memory_bytes"] = sum(kv) // how.engines
    if how.drafted:
        arguments["speculative_config"] = {
            "method": "draft_model", "model": pool.members[0]["model"], "num_speculative_tokens": how.drafted,
        }  # fmt: skip
    env = {**(largest.get("env") or {}), "OMP_NUM_THREADS": str(how.threads)}
    several = {"replicas": how.engines} if how.engines > 1 else {}
    return {**largest, "name": how.name, "engine_args": arguments, "env": env, **several}


class Running(NamedTuple):
    pool: launch.Server
    targets: tuple[str, ...]  #: of `headgate bench --target`: the large model alone


@contextmanager
def run(pool: Pool, settings: Sequence[Alone]) -> Iterator[Running]:
    """The pool, and a server of the large model alone for each of `settings`. Only who has the turn is asked: an idle
    engine waits without the processor, and the memory is there for all."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                headgate_server.run(members, routing=routing, branches=branches, stub=pool.stub, host=_GRADED)
            )
            for members, routing, branches in (
                (pool.members, pool.routing, pool.branches),
                *(([alone(pool, how)], {}, {}) for how in settings),
            )
        ]
        targets = [_target(how.name, server) for how, server in zip(settings, servers[1:], strict=True)]
        yield Running(servers[0], tuple(targets))


def set_price(server: launch.Server, price: float, *, wait_s: float = 60.0) -> None:
    """Put lambda into the running server's config, and wait until it goes by it."""
    config = json.loads(server.config.read_text(encoding="utf-8"))
    config["routing"]["price"] = price
    server.config.write_text(json.dumps(config), encoding="utf-8")
    os.kill(server.pid, signal.SIGHUP)
    end_s = time.monotonic() + wait_s
    while time.monotonic() < end_s:
        if json.loads(admin_port.ask(server.admin, "/config"))["routing"]["price"] == price:
            return
        time.sleep(0.1)
    raise RuntimeError(f"the server did not take routing.price {price:g} within {wait_s:g} s")


def settings_told(pool: Pool, settings: Sequence[Alone]) -> dict[str, Any]:
    """Cores and KV memory of each, as the result's JSON has them."""
    told = [*pool.members, *(alone(pool, how) for how in settings)]
    return {
        member["name"]: {
            "omp_num_threads": (member.get("env") or {}).get("OMP_NUM_THREADS"),
            "kv_cache_memory_bytes": (member.get("engine_args") or {}).get("kv_cache_memory_bytes"),
            "engines": member.get("replicas", 1),
            "speculative_config": (member.get("engine_args") or {}).get("speculative_config"),
            "executor": (member.get("engine_args") or {}).get("distributed_executor_backend"),
        }
        for member in told
    }


def _member(member: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    arguments = dict(member.get("engine_args") or {})
    if arguments.get("distributed_executor_backend", "uni") == "uni":
        arguments["distributed_executor_backend"] = ONE_PROCESS
    made = {**member, "usd_per_hour": USD_PER_CORE_HOUR, "gpu_share": 1.0, "engine_args": arguments}
    model = folder / str(member["model"])
    if model.exists():
        made["model"] = str(model.resolve())
    for rate in ("prefill_tokens_per_s", "time_per_output_token_s"):
        made.pop(rate, None)
    return made


def _target(name: str, server: launch.Server) -> str:
    """Its engines' processes alone are charged, as of the pool's members: no frontend is."""
    pids = "+".join(str(engine.pid) for engine in pool_members(server.admin))
    return f"{name}={server.url},model={name},pid={pids},usd-hour={USD_PER_CORE_HOUR:g}"


def headgate(*words: str) -> list[str]:
    """The `headgate` command of this checkout."""
    return [sys.executable, "-P", "-m", "router.cli.main", *words]
