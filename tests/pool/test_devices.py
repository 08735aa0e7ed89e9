"""The list of devices, from a stand-in for the driver: what the environment hides, MIG, what each engine is shown."""

import importlib.util
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from router.errors import ConfigError
from router.pool import devices
from router.pool.devices import DeviceList, device_list, lost, visible_to, with_lost_devices
from router.pool.nvml import Nvml, _binding
from tests.pool.gpus import FakeNvml, Gpus, gpu

FOUR = Gpus(*(gpu(i) for i in range(4)))


def uuids(found: DeviceList) -> list[str]:
    return [device.uuid for device in found.devices]


@pytest.mark.parametrize(
    ("variable", "seen"),
    [
        (None, ["GPU-0a0", "GPU-1a1", "GPU-2a2", "GPU-3a3"]),
        ("2,0", ["GPU-2a2", "GPU-0a0"]),
        (" 3 , GPU-1a1", ["GPU-3a3", "GPU-1a1"]),
        ("GPU-2", ["GPU-2a2"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
    ],
)
def test_cuda_visible_devices_hides_devices_and_numbers_the_others(variable: str | None, seen: list[str]) -> None:
    env = {} if variable is None else {"CUDA_VISIBLE_DEVICES": variable}
    assert uuids(device_list(env, FOUR, cpu=False)) == seen


@pytest.mark.parametrize(
    ("variable", "why"),
    [
        ("0,4", "'4' is no device; there are 0 (H100, GPU-0a0), 1 (H100, GPU-1a1), 2 "),
        ("GPU-", "'GPU-' is no device"),
        ("GPU-9", "'GPU-9' is no device"),
        ("0,,1", "'' is no device"),
        (",", "'' is no device"),
        ("\u00b2", "'\u00b2' is no device"),
        ("9" * 5_000, "'99999"),
        ("1,GPU-1", "'GPU-1' stands twice"),
    ],
)
def test_cuda_visible_devices_that_names_no_device_is_refused_with_those_there_are(variable: str, why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        device_list({"CUDA_VISIBLE_DEVICES": variable}, FOUR, cpu=False)
    assert str(refused.value).startswith(f"CUDA_VISIBLE_DEVICES={variable}: {why}")


def test_an_engine_is_shown_its_devices_by_the_indices_of_the_driver() -> None:
    found = device_list({"CUDA_VISIBLE_DEVICES": "2,0"}, FOUR, cpu=False)
    assert visible_to(found, ("1",)) == {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert visible_to(found, ("0", "1"))["CUDA_VISIBLE_DEVICES"] == "2,0"
    assert visible_to(found, ()) == {}


def test_an_engine_is_shown_a_mig_instance_by_its_uuid() -> None:
    found = device_list({}, Nvml(FakeNvml(80.0, [10.0, 20.0])), cpu=False)
    assert uuids(found) == ["GPU-0", "MIG-1/0", "MIG-1/1"]
    assert [device.memory_bytes >> 30 for device in found.devices] == [80, 10, 20]
    assert found.devices[1].name == "H100 MIG 1g.10gb"
    assert visible_to(found, ("2",))["CUDA_VISIBLE_DEVICES"] == "MIG-1/1"
    assert visible_to(found, ("0",))["CUDA_VISIBLE_DEVICES"] == "0"


def test_a_gpu_divided_into_nothing_is_no_device() -> None:
    assert uuids(device_list({}, Nvml(FakeNvml(80.0, [])), cpu=False)) == ["GPU-0"]


def test_a_gpu_that_is_lost_is_left_out_and_the_others_keep_their_numbers_for_cuda() -> None:
    binding = FakeNvml(80.0, None, 80.0)
    found = device_list({}, Nvml(binding), cpu=False)
    assert uuids(found) == ["GPU-0", "GPU-2"]
    assert visible_to(found, ("1",))["CUDA_VISIBLE_DEVICES"] == "2"
    assert binding.open == 0


def test_a_driver_that_does_not_answer_leaves_the_devices_unlisted_and_the_indices_to_cuda() -> None:
    found = device_list({"CUDA_VISIBLE_DEVICES": "5,6"}, Nvml(FakeNvml(broken=True)), cpu=False)
    assert (found.kind, found.why) == ("unlisted", "NVML: Driver Not Loaded")
    assert visible_to(found, ("1",)) == {"CUDA_VISIBLE_DEVICES": "6"}
    assert visible_to(found, ("GPU-1",)) == {"CUDA_VISIBLE_DEVICES": "GPU-1"}


def test_amds_devices_are_not_listed_and_shown_by_rocms_own_variable(tmp_path: Path) -> None:
    (tmp_path / "kfd").touch()
    found = device_list({"HIP_VISIBLE_DEVICES": "4,5"}, dev=tmp_path, cpu=False)
    assert (found.kind, found.variable) == ("unlisted", "HIP_VISIBLE_DEVICES")
    assert visible_to(found, ("1",)) == {"HIP_VISIBLE_DEVICES": "5"}
    assert visible_to(device_list({}, dev=tmp_path, cpu=False), ("1",)) == {"CUDA_VISIBLE_DEVICES": "1"}


def test_without_device_files_and_with_vllm_of_the_cpu_there_are_no_devices(tmp_path: Path) -> None:
    assert device_list({}, dev=tmp_path, cpu=False).kind == "cpu"
    (tmp_path / "nvidia0").touch()
    assert device_list({}, dev=tmp_path, cpu=True) == DeviceList(kind="cpu", why="vLLM is its build for the CPU")


def test_without_the_binding_the_devices_are_unlisted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "router_vllm_pynvml", raising=False)
    found = device_list({}, dev=tmp_path, cpu=False)
    assert (found.kind, found.why) == ("unlisted", "vLLM, whose binding of NVML is used, is not installed")


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_the_binding_that_vllm_brings_has_all_that_is_used() -> None:
    binding: Any = _binding()
    used = {name for name in dir(FakeNvml) if name.startswith(("nvml", "NVML"))}
    assert used
    assert [name for name in used if not hasattr(binding, name)] == []


def test_of_one_device_an_empty_name_means_none() -> None:
    with pytest.raises(ConfigError, match="'' is no device"):
        device_list({"CUDA_VISIBLE_DEVICES": "0,"}, Gpus(gpu(0)), cpu=False)


def test_devices_that_vanish_are_named() -> None:
    source, there = Gpus(gpu(0), gpu(1)), (gpu(0), gpu(1))
    assert lost(source, there) == ""
    source.there = (gpu(0),)
    assert lost(source, there) == "device GPU-1a1 (H100) is gone"
    source.broken = "NVML: Unknown Error"
    assert lost(source, there) == "the devices cannot be asked: NVML: Unknown Error"


async def test_a_driver_that_hangs_is_told_and_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    monkeypatch.setattr(devices, "_DRIVER_S", 0.05)
    assert await with_lost_devices("it died", lambda: str(end.wait(60))) == (
        "it died; the driver did not answer within 0.05 s"
    )
    end.set()
    assert await with_lost_devices("it died", None) == await with_lost_devices("it died", str) == "it died"
