"""Devices that are not there: a `DeviceSource`, and a stand-in for NVIDIA's binding of NVML."""

from types import SimpleNamespace
from typing import Any

from router.pool.device import Device
from router.pool.devices import DeviceList
from router.pool.environment import Machine

GIB = 1 << 30


def gpu(index: int, gib: float = 80.0, name: str = "H100") -> Device:
    return Device(uuid=f"GPU-{index}a{index}", name=name, memory_bytes=int(gib * GIB), variable=str(index))


def gpus(*gib: float) -> DeviceList:
    return DeviceList(kind="listed", devices=tuple(gpu(i, size) for i, size in enumerate(gib)))


def machine(found: DeviceList) -> Machine:
    return Machine(devices=found, cpus=8, memory_bytes=100 * GIB)


class Gpus:
    """Implements `DeviceSource`. `there` may change; `broken`: why it cannot be asked."""

    def __init__(self, *there: Device, broken: str = "") -> None:
        self.there = there
        self.broken = broken

    def devices(self) -> tuple[Device, ...]:
        if self.broken:
            raise OSError(self.broken)
        return self.there


class FakeNvml:
    """As much of the binding as is used. `gpus`: each the size of a whole GPU, those of its MIG instances, or None for
    one that is lost."""

    NVML_DEVICE_MIG_ENABLE = 1

    class NVMLError(Exception): ...

    class NVMLError_GpuIsLost(NVMLError): ...

    class NVMLError_NotSupported(NVMLError): ...

    class NVMLError_NotFound(NVMLError): ...

    def __init__(self, *gpus: float | list[float] | None, broken: bool = False) -> None:
        self._gpus = gpus
        self._broken = broken
        self.open = 0

    def nvmlInit(self) -> None:
        if self._broken:
            raise self.NVMLError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        if self._gpus[index] is None:
            raise self.NVMLError_GpuIsLost("GPU is lost")
        return (index,)

    def nvmlDeviceGetMigMode(self, handle: Any) -> list[int]:
        if handle == (0,):  # an older one, that knows no MIG
            raise self.NVMLError_NotSupported("Not Supported")
        return [int(isinstance(self._gpus[handle[0]], list))] * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Any) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Any, index: int) -> Any:
        parts = self._gpus[handle[0]]
        assert isinstance(parts, list)
        if index >= len(parts):
            raise self.NVMLError_NotFound("Not Found")
        return (*handle, index)

    def nvmlDeviceGetUUID(self, handle: Any) -> str | bytes:
        return b"GPU-%d" % handle if len(handle) == 1 else f"MIG-{handle[0]}/{handle[1]}"

    def nvmlDeviceGetName(self, handle: Any) -> str:
        return "H100" if len(handle) == 1 else "H100 MIG 1g.10gb"

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:
        size: Any = self._gpus[handle[0]]
        return SimpleNamespace(total=int((size[handle[1]] if len(handle) == 2 else size) * GIB))
