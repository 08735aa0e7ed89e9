"""The devices of this machine, asked of NVIDIA's driver by NVML.

vLLM brings NVIDIA's own Python binding along as one file. It is loaded by its path: vLLM itself, and torch with it,
would take seconds to import.
"""

import importlib.util
import sys
from types import ModuleType
from typing import Any

from router.pool.device import Device

_BINDING = ("third_party", "pynvml.py")
_NAME = "router_vllm_pynvml"


class Nvml:
    """Implements `DeviceSource`. `binding`: in the place of vLLM's."""

    def __init__(self, binding: Any = None) -> None:
        self._binding = binding

    def devices(self) -> tuple[Device, ...]:
        nvml = self._binding or _binding()
        try:
            nvml.nvmlInit()
            try:
                return tuple(device for i in range(nvml.nvmlDeviceGetCount()) for device in _devices_at(nvml, i))
            finally:
                nvml.nvmlShutdown()
        except nvml.NVMLError as error:
            raise OSError(f"NVML: {error}") from error


def _devices_at(nvml: Any, index: int) -> list[Device]:
    """The GPU, or the instances it is divided into; none where it does not answer any more."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        instances = _instances(nvml, handle)
        if instances is None:
            return [_device(nvml, handle, str(index))]
        return [_device(nvml, instance, "") for instance in instances]
    except nvml.NVMLError_GpuIsLost:
        return []


def _instances(nvml: Any, handle: Any) -> list[Any] | None:
    """The MIG instances of a GPU; None where it is not divided."""
    try:
        if nvml.nvmlDeviceGetMigMode(handle)[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return None
    except nvml.NVMLError_NotSupported:
        return None
    found = []
    for i in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, i))
        except nvml.NVMLError_NotFound:
            continue
    return found


def _device(nvml: Any, handle: Any, index: str) -> Device:
    uuid = _text(nvml.nvmlDeviceGetUUID(handle))
    return Device(
        uuid=uuid,
        name=_text(nvml.nvmlDeviceGetName(handle)),
        memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        variable=index or uuid,
    )


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _binding() -> ModuleType:
    """Raises `OSError` where there is none."""
    if _NAME in sys.modules:
        return sys.modules[_NAME]
    vllm = importlib.util.find_spec("vllm")
    if vllm is None or not vllm.submodule_search_locations:
        raise OSError("vLLM, whose binding of NVML is used, is not installed")
    path = "/".join((vllm.submodule_search_locations[0], *_BINDING))
    spec = importlib.util.spec_from_file_location(_NAME, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = module  # it looks itself up while it is loaded
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[_NAME]
        raise OSError(f"{path}: the binding of NVML cannot be loaded: {error}") from error
    return module
