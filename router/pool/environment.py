"""Environment variables and engine arguments that let several engines run on one machine.

These are defaults: a value that the user set in the environment or the config is kept.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from router.config import Member, argument_name

_GPU_DEVICES = ("nvidiactl", "nvidia0", "kfd", "dxg")
#: Of the GPU's memory, by all engines together; the rest is for CUDA contexts and activations.
_GPU_MEMORY = 0.9
#: Of a CPU machine's memory, by the KV caches of all engines together, and by one at most.
_CPU_MEMORY = 0.3
_MOST_KV_BYTES = 4 << 30
#: vLLM's: the model's own context, or what its share of the memory holds of it.
_AS_LONG_AS_FITS = -1


class Machine(msgspec.Struct, frozen=True):
    """What engines share."""

    gpu: bool
    cpus: int
    memory_bytes: int


def this_machine(dev: Path = Path("/dev")) -> Machine:
    """Looks at device files only: nothing is imported, no driver is asked."""
    return Machine(
        gpu=any((dev / name).exists() for name in _GPU_DEVICES),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )


def environment(member: Member, inherited: Mapping[str, str], machine: Machine, engines: int) -> dict[str, str]:
    """The environment of the host of `member`, one of `engines`: the config's `env`, over what is inherited, over
    defaults."""
    defaults = {"VLLM_NO_USAGE_STATS": "1", "PYTHONSAFEPATH": "1"}
    if os.path.isdir(member.model):
        defaults["HF_HUB_OFFLINE"] = "1"
    if not machine.gpu:
        # Threads that every engine pins would all sit on the same cores.
        defaults["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        defaults["OMP_NUM_THREADS"] = str(max(1, machine.cpus // engines))
        defaults["VLLM_CPU_CI_ENV"] = "1"
    return {**defaults, **inherited, **member.env}


def with_engine_defaults(pool: tuple[Member, ...], machine: Machine) -> tuple[Member, ...]:
    """`pool` with the engine arguments that its engines need and do not name."""
    engines = [member for member in pool if member.kind == "engine"]
    sized = any(_says(member, "gpu_memory_utilization") for member in engines)
    defaults: dict[str, Any] = {}
    if machine.gpu:
        if len(engines) > 1 and not sized:
            defaults["gpu_memory_utilization"] = round(_GPU_MEMORY / len(engines), 3)
            defaults["max_model_len"] = _AS_LONG_AS_FITS
    elif engines:
        defaults["block_size"] = 32  # 128, the default, hides prefix hits on short prompts
        defaults["enforce_eager"] = True
        if not sized:
            share = int(_CPU_MEMORY * machine.memory_bytes / len(engines))
            defaults["kv_cache_memory_bytes"] = min(_MOST_KV_BYTES, share)
            defaults["max_model_len"] = _AS_LONG_AS_FITS
    return tuple(_with_defaults(member, defaults) if member.kind == "engine" else member for member in pool)


def _with_defaults(member: Member, defaults: Mapping[str, Any]) -> Member:
    missing = {name: value for name, value in defaults.items() if not _says(member, name)}
    return msgspec.structs.replace(member, engine_args={**missing, **member.engine_args})


def _says(member: Member, name: str) -> bool:
    names = {argument_name(key) for key in member.engine_args}
    # Sizing the KV cache by bytes takes the place of a share.
    return name in names or (name == "gpu_memory_utilization" and "kv_cache_memory_bytes" in names)
