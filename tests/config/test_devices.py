"""What a config says of devices, and what is refused whatever the machine."""

from typing import Any

import pytest

from router import config
from router.config import Member, device_names, devices_needed
from router.config.devices import tensor_parallel_size
from router.errors import ConfigError


def pool(devices: str, args: str = "{}", more: str = "") -> str:
    return f"pool: [{{name: a, model: org/a, devices: {devices}, engine_args: {args}{more}}}]"


@pytest.mark.parametrize(
    ("devices", "names"),
    [
        ("[0]", ("0",)),
        ("'0'", ("0",)),
        ("[0, 1]", ("0", "1")),
        ("['3']", ("3",)),
        ("'${GPU}'", ("2",)),
        ("[GPU-8f3a, MIG-1b/2/0]", ("GPU-8f3a", "MIG-1b/2/0")),
        ("cpu", ("cpu",)),
        ("null", ()),
    ],
)
def test_devices_are_named_by_index_or_uuid_one_or_several(devices: str, names: tuple[str, ...]) -> None:
    parsed = config.parse(pool(devices), env={"GPU": "2"})
    assert device_names(parsed.pool[0]) == names


NO_NAME = "expected a device's index (0, 1, ...) or its UUID (GPU-..., MIG-...), got"
PRICED = "devices: {0: {usd_per_hour: %s}}\n" + pool("[0]")


@pytest.mark.parametrize(
    ("text", "message", "at"),
    [
        (pool("[]"), "expected at least one device; leave the key out to have the engine placed", ""),
        (pool("[0, 0]"), "the device 0 stands twice", "[1]"),
        (pool("[0, cpu]"), "`cpu` stands alone: an engine lives on the CPU or on devices", "[1]"),
        (pool("[-1]"), f"{NO_NAME} '-1'", "[0]"),
        (pool("gpu0"), f"{NO_NAME} 'gpu0'", ""),
        (pool("['00']"), f"{NO_NAME} '00'", "[0]"),
        (pool("[1.5]"), "got `float`", "[0]"),
        (pool("{0: 1}"), "got `object`", ""),
        (pool("[0]", "{tensor-parallel-size: 2}"), "tensor_parallel_size 2 needs 2 devices, got 1", ""),
        (pool("[0, 1]", "{tensor_parallel_size: 1}"), "tensor_parallel_size 1 needs 1 device, got 2", ""),
        (pool("[0, 1, 2]", "{pipeline_parallel_size: 2}"), "pipeline_parallel_size 2 needs 2 devices, got 3", ""),
        (
            pool("[0, 1]", "{tensor_parallel_size: 2, data_parallel_size: 2}"),
            "tensor_parallel_size 2 * data_parallel_size 2 needs 4 devices, got 2",
            "",
        ),
        (
            pool("[0]", more=", env: {CUDA_VISIBLE_DEVICES: '1'}"),
            "give `devices`, or CUDA_VISIBLE_DEVICES in `env`, not both",
            "",
        ),
        (
            "pool: [{name: a, kind: openai, url: 'http://x', devices: [0]}]",
            "only an engine has this; this member is one of `kind: openai`",
            "",
        ),
    ],
)
def test_devices_that_cannot_be_are_refused_with_key_and_value(text: str, message: str, at: str) -> None:
    assert f"{message} - at `$.pool[0].devices{at}`" in refused(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("devices: {gpu: {}}\n" + pool("[0]"), f"{NO_NAME} 'gpu' - at `$.devices.gpu`"),
        (PRICED % "-1", "got -1.0 - at `$.devices.0.usd_per_hour`"),
        (PRICED % "much", "got `str` - at `$.devices.0.usd_per_hour`: 'much'"),
        (PRICED.replace("usd_per_hour", "usd_per_hou") % 1, "unknown key 'usd_per_hou' - at `$.devices[...]`; did you"),
        ("devices: [0]\n" + pool("[0]"), "Expected `object`, got `array` - at `$.devices`"),
    ],
)
def test_prices_that_cannot_be_are_refused_with_their_device(text: str, message: str) -> None:
    assert message in refused(text)


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as error:
        config.parse(text, source="h.yaml", env={})
    assert str(error.value).startswith("h.yaml: ")
    return str(error.value)


def test_a_price_is_given_by_index_or_uuid() -> None:
    parsed = config.parse("devices: {0: {usd_per_hour: 2.5}, GPU-1a: {}}\n" + pool("[0]"))
    assert parsed.devices["0"].usd_per_hour == 2.5
    assert parsed.devices["GPU-1a"].usd_per_hour is None


@pytest.mark.parametrize(
    ("devices", "args", "needed", "tensor"),
    [
        (None, {}, 1, 0),
        (None, {"tensor-parallel-size": 4}, 4, 0),
        (None, {"tensor_parallel_size": "2", "pipeline_parallel_size": 2}, 4, 0),
        (None, {"data_parallel_size": 8, "data_parallel_size_local": 2}, 2, 0),
        ((0, 1), {}, 2, 2),
        ((0, 1, 2, 3), {"data_parallel_size": 2}, 4, 2),
        ((0, 1), {"pipeline_parallel_size": 2}, 2, 0),
        ((0, 1), {"tensor_parallel_size": 2}, 2, 0),
        ("cpu", {}, 1, 0),
        (None, {"tensor_parallel_size": "many"}, 1, 0),
    ],
)
def test_parallel_sizes_say_how_many_devices_are_needed(
    devices: Any, args: dict[str, Any], needed: int, tensor: int
) -> None:
    member = Member(name="a", model="m", devices=devices, engine_args=args)
    assert devices_needed(member) == needed
    assert tensor_parallel_size(member) == tensor
