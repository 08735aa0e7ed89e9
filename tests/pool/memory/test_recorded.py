"""The plan's numbers against start logs of vLLM on real GPUs (`recorded.json`, with their sources)."""

import json
import statistics
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.config import Member
from router.pool.device import Device
from router.pool.devices import DeviceList
from router.pool.memory.mix import Mix
from router.pool.memory.peak import Assumptions
from router.pool.memory.plan import EnginePlan, plan
from router.pool.weights import weigh
from tests.pool.memory import checkpoints

GIB = 1 << 30
RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded.json").read_text())
LOGS: list[dict[str, Any]] = RECORDED["logs"]
IDS = [f"{log['model']}, {log['gpu']}, {log['vllm']}" for log in LOGS]
NOW = Assumptions()


def assumed(log: dict[str, Any]) -> Assumptions:
    """What vLLM of that time held and took off: sampling held more up to 0.15; the graphs, captured after the cache was
    sized, are taken off it since its profiler estimates them, which these logs show from 0.28 on."""
    release = float(".".join(log["vllm"].split()[0].split(".")[:2]).replace("0.", "", 1))
    copies = 9.7 if release <= 15 else NOW.logit_copies
    graphs = NOW.graphs_bytes if release >= 28 else 0
    return msgspec.structs.replace(NOW, logit_copies=copies, graphs_bytes=graphs)


def planned(log: dict[str, Any], folder: Path, assumptions: Assumptions) -> EnginePlan:
    model = checkpoints.write(folder / "model", RECORDED["models"][log["model"]])
    args = {**log["args"], "gpu_memory_utilization": log["memory_share"]}
    member = Member(name="a", model=str(model), engine_args=args)
    device = Device(uuid="GPU-0", name=log["gpu"], memory_bytes=int(log["memory_gib"] * GIB), variable="0")
    found = DeviceList(kind="listed", devices=(device,) * log.get("devices", 1))
    [engine] = plan([member], [weigh(member, None)], found, 0, {}, Mix(), assumptions).engines
    return engine


@pytest.mark.parametrize("log", LOGS, ids=IDS)
def test_kv_bytes_of_a_token_are_those_of_the_log_to_its_last_digit(log: dict[str, Any], tmp_path: Path) -> None:
    engine = planned(log, tmp_path, NOW)
    logged = log["kv_gib"] * GIB / log["kv_tokens"]
    rounding = (0.006 * GIB + 16 * engine.kv_token_bytes) / log["kv_tokens"]  # two digits of GiB, and one block
    assert abs(engine.kv_token_bytes - logged) <= rounding


@pytest.mark.parametrize("log", [log for log in LOGS if "weights_gib" in log])
def test_weights_are_within_two_percent_of_those_that_the_engine_loaded(log: dict[str, Any], tmp_path: Path) -> None:
    engine = planned(log, tmp_path, NOW)
    assert engine.weight_bytes / GIB == pytest.approx(log["weights_gib"], rel=0.02, abs=0.02)


@pytest.mark.parametrize("log", [log for log in LOGS if "activation_gib" in log])
def test_activations_are_within_five_percent_of_those_that_the_engine_measured(
    log: dict[str, Any], tmp_path: Path
) -> None:
    engine = planned(log, tmp_path, assumed(log))
    assert engine.activation_bytes / GIB == pytest.approx(log["activation_gib"], rel=0.05)


def errors(folder: Path, assumptions: Any) -> list[float]:
    found = []
    for i, log in enumerate(LOGS):
        engine = planned(log, folder / str(i), assumptions(log))
        found.append(engine.kv_tokens / log["kv_tokens"] - 1)
    return found


def test_kv_tokens_are_within_five_percent_of_the_logs_by_the_assumptions_of_their_release(tmp_path: Path) -> None:
    found = errors(tmp_path, assumed)
    print("\n" + "\n".join(f"{100 * error:+6.2f} %  {id}" for error, id in zip(found, IDS, strict=True)))
    print(f"median {100 * statistics.median(map(abs, found)):.2f} %, largest {100 * max(map(abs, found)):.2f} %")
    assert len(found) >= 10
    assert statistics.median(map(abs, found)) <= 0.02
    assert max(map(abs, found)) <= 0.05


def test_kv_tokens_by_today_s_assumptions_are_never_much_more_than_an_older_release_had(tmp_path: Path) -> None:
    found = errors(tmp_path, lambda _: NOW)
    print(f"\nby today's: from {100 * min(found):.2f} to {100 * max(found):+.2f} %")
    assert max(found) <= 0.09
