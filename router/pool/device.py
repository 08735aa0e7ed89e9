"""One device that engines may live on, and where devices are asked for."""

from typing import Protocol

import msgspec


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU, or one MIG instance of it."""

    uuid: str  #: `GPU-...` or `MIG-...`
    name: str = ""
    memory_bytes: int
    variable: str  #: how `CUDA_VISIBLE_DEVICES` is told of it: its index among all of the machine, or its UUID


class DeviceSource(Protocol):
    """Where the devices are asked for."""

    def devices(self) -> tuple[Device, ...]:
        """All of the machine, whatever the environment hides, in the order of their indices. Raises `OSError`."""
        ...
