"""What a member says of the devices that it lives on: their names, and how many its parallelism needs.

Knows no machine: whether a device exists is found out by `router.pool.placement`.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from router.config.engine_args import by_argument_name
from router.config.explain import shown
from router.config.tree import Member

#: The only name that is none of a device: the engine lives on the machine's processors.
CPU: Final = "cpu"
#: Variables by which CUDA and ROCm show a process some devices only.
VISIBLE_DEVICES: Final = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
#: vLLM's arguments, each of which multiplies the devices of an engine.
_TENSOR: Final = "tensor_parallel_size"
_SIZES: Final = (_TENSOR, "pipeline_parallel_size", "prefill_context_parallel_size", "data_parallel_size")
_MOST_DEVICES = 1 << 20  #: of one engine; what is larger is a slip, and no float
_INDEX = re.compile(r"0|[1-9][0-9]{0,3}")
_UUID = re.compile(r"(?:GPU|MIG)-[0-9A-Za-z][0-9A-Za-z/-]{0,127}")


def device_names(member: Member) -> tuple[str, ...]:
    """The devices that `member` names, indices as text; none where it is to be placed."""
    given = member.devices
    if given is None:
        return ()
    return tuple(map(str, given if isinstance(given, tuple) else (given,)))


def devices_needed(member: Member) -> int:
    """By its arguments of parallelism, as far as they are given; those that it names, where they are more."""
    sizes = _sizes_of(member.engine_args)
    needed = math.prod(sizes.values())
    if _TENSOR in sizes:
        return needed
    return max(needed, sum(name != CPU for name in device_names(member)))


def tensor_parallel_size(member: Member) -> int:
    """What it must be for an engine on the devices that are named; 0: it is given, or need not be."""
    sizes = _sizes_of(member.engine_args)
    size = len(device_names(member)) // math.prod(sizes.values())
    return size if _TENSOR not in sizes and size > 1 and not spans_machines(member) else 0


def spans_machines(member: Member) -> bool:
    """Whether its ranks may be elsewhere, so that neither their devices nor their number are known here."""
    given = by_argument_name(member.engine_args)
    backends = (given.get("distributed_executor_backend"), given.get("data_parallel_backend"))
    return "ray" in backends or _count(given.get("nnodes")) > 1


def fault_of_device(name: str) -> str:
    """Why `name` can be no device's, or empty."""
    if _INDEX.fullmatch(name) or _UUID.fullmatch(name):
        return ""
    return f"expected a device's index (0, 1, ...) or its UUID (GPU-..., MIG-...), got {shown(name)}"


def fault_of_devices(member: Member) -> tuple[str, str] | None:
    """The key below the member and why it is refused; None where its devices and its arguments agree."""
    if member.devices is None:
        return None
    names = device_names(member)
    if not names:
        return "devices", "expected at least one device; leave the key out to have the engine placed"
    if names == (CPU,):
        return None
    for i, name in enumerate(names):
        at = f"devices[{i}]" if isinstance(member.devices, tuple) else "devices"
        if name == CPU:
            return at, "`cpu` stands alone: an engine lives on the CPU or on devices"
        if why := fault_of_device(name):
            return at, why
        if name in names[:i]:
            return at, f"the device {name} stands twice"
    for variable in VISIBLE_DEVICES:
        if variable in member.env:
            return "devices", f"give `devices`, or {variable} in `env`, not both"
    return _fault_of_sizes(member, len(names))


def _fault_of_sizes(member: Member, named: int) -> tuple[str, str] | None:
    sizes = _sizes_of(member.engine_args)
    needed = math.prod(sizes.values())
    if spans_machines(member):
        return None
    if needed == named or (_TENSOR not in sizes and named % needed == 0):
        return None
    said = " * ".join(f"{name} {size}" for name, size in sizes.items())
    return "devices", f"{said} needs {needed} {'device' if needed == 1 else 'devices'}, got {named}"


def _sizes_of(engine_args: Mapping[str, Any]) -> dict[str, int]:
    """Those that are given. `data_parallel_size_local` says how many of its ranks are on this machine."""
    given = by_argument_name(engine_args)
    sizes = {name: _count(given[name]) for name in _SIZES if given.get(name) is not None}
    if given.get("data_parallel_size_local") is not None:
        sizes["data_parallel_size"] = _count(given["data_parallel_size_local"])
    return sizes


def _count(value: object) -> int:
    """What vLLM will refuse is no size of ours."""
    try:
        number = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else 1
    except ValueError:
        return 1
    return min(max(1, number), _MOST_DEVICES)
