"""Environment variables and engine arguments that let several engines run on one machine.

These are defaults: a value that the user set in the environment or the config is kept.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from router.config import Config, Member, argument_name, by_argument_name, device_names, in_file, switched_on
from router.errors import ConfigError
from router.pool.device import DeviceSource
from router.pool.devices import DeviceList, device_list, lost, visible_to
from router.pool.memory.planned import with_planned
from router.pool.mps import Mps
from router.pool.nvml import Nvml
from router.pool.placement import AS_LONG_AS_FITS, Place, at_index, place
from router.pool.weights import weigh_pool

#: Of a CPU machine's memory, by the KV caches of all engines together, and by one at most.
_CPU_MEMORY = 0.3
_MOST_KV_BYTES = 4 << 30


class Machine(msgspec.Struct, frozen=True):
    """What engines share."""

    devices: DeviceList
    cpus: int
    memory_bytes: int
    source: DeviceSource | None = None  #: where the devices can be asked for again
    mps: Mps | None = None  #: under whose control daemon engines run

    @property
    def gpu(self) -> bool:
        return self.devices.kind != "cpu"


def this_machine(env: Mapping[str, str], source: DeviceSource | None = None) -> Machine:
    """`env`: of this process. Raises `ConfigError` where it names devices that do not exist."""
    found = device_list(env, source)
    return Machine(
        source=(source or Nvml()) if found.kind == "listed" else None,
        devices=found,
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )


def environment(member: Member, inherited: Mapping[str, str], machine: Machine, engines: int) -> dict[str, str]:
    """The environment of the host of `member`, one of `engines`: the config's `env`, over its devices, over what is
    inherited, over defaults."""
    defaults = {"VLLM_NO_USAGE_STATS": "1", "PYTHONSAFEPATH": "1"}
    if os.path.isdir(member.model):
        defaults["HF_HUB_OFFLINE"] = "1"
    if not machine.gpu:
        # Threads that every engine pins would all sit on the same cores.
        defaults["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        defaults["OMP_NUM_THREADS"] = str(max(1, machine.cpus // engines))
        defaults["VLLM_CPU_CI_ENV"] = "1"
        if _eager(member):
            # Else the start, or the first request with logprobs, compiles one operation for 3 to 80 s. Uncompiled it
            # takes longer, by 1 ms in a step of 8 rows of 152,000 tokens with logprobs.
            defaults["TORCH_COMPILE_DISABLE"] = "1"
    return {**defaults, **inherited, **visible_to(machine.devices, device_names(member)), **member.env}


def lost_devices(member: Member, machine: Machine) -> Callable[[], str] | None:
    """Asks which of the devices of `member` are gone, in words; None where they are not listed."""
    devices = machine.devices.of(device_names(member))
    return partial(lost, machine.source, devices) if machine.source is not None and devices else None


def placed(config: Config, machine: Machine, hub: Path | None) -> Config:
    """`config` with the devices of each engine, by index, and the engine arguments that it needs and does not name.
    Placed once more it stays the same. Raises `ConfigError` with the key where engines do not fit."""
    found = machine.devices
    weights = weigh_pool(config.pool, hub)
    if config.plan.auto:
        config = with_planned(config, found, machine.memory_bytes, weights)
    settings = at_index(config.devices, found)
    try:
        places = place(config.pool, found, [each.whole for each in weights], settings)
    except ConfigError as error:
        raise ConfigError(in_file(config.pool, str(error))) from None
    pool = tuple(map(_at_its_place, config.pool, places))
    if machine.gpu:
        pool = tuple(map(_able_to_sleep, pool))
    if found.kind == "cpu":
        pool = with_cpu_defaults(pool, machine)
    return msgspec.structs.replace(config, pool=pool, devices=settings)


def _at_its_place(member: Member, place: Place) -> Member:
    args = {**place.engine_args, **member.engine_args}
    return msgspec.structs.replace(member, devices=place.devices or member.devices, engine_args=args)


def _able_to_sleep(member: Member) -> Member:
    return member if member.sleep is None else _with_defaults(member, {"enable_sleep_mode": True})


def with_cpu_defaults(pool: tuple[Member, ...], machine: Machine) -> tuple[Member, ...]:
    """`pool` with the engine arguments that engines of a CPU need and do not name."""
    engines = [member for member in pool if member.kind == "engine"]
    defaults: dict[str, Any] = {"block_size": 32, "enforce_eager": True}  # 128 hides prefix hits on short prompts
    if engines and not any(_says(member, "gpu_memory_utilization") for member in engines):
        share = int(_CPU_MEMORY * machine.memory_bytes / len(engines))
        defaults["kv_cache_memory_bytes"] = min(_MOST_KV_BYTES, share)
        defaults["max_model_len"] = AS_LONG_AS_FITS
    return tuple(_with_defaults(member, defaults) if member.kind == "engine" else member for member in pool)


def _eager(member: Member) -> bool:
    return switched_on(by_argument_name(member.engine_args).get("enforce_eager"))


def _with_defaults(member: Member, defaults: Mapping[str, Any]) -> Member:
    missing = {name: value for name, value in defaults.items() if not _says(member, name)}
    return msgspec.structs.replace(member, engine_args={**missing, **member.engine_args}) if missing else member


def _says(member: Member, name: str) -> bool:
    names = {argument_name(key) for key in member.engine_args}
    # Sizing the KV cache by bytes takes the place of a share.
    return name in names or (name == "gpu_memory_utilization" and "kv_cache_memory_bytes" in names)
