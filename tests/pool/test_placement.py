"""Where engines go: named devices, the cheapest with room, shares that fit together; refusals with the numbers."""

import contextlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from router.config import Config, DeviceSettings, Member, device_names
from router.errors import ConfigError
from router.pool import build
from router.pool.devices import DeviceList
from router.pool.environment import environment, placed
from router.pool.load import gpu_shares, memory_share, usd_per_s
from router.pool.placement import Place, at_index, place
from tests.pool.gpus import GIB, gpus, machine

CPU = DeviceList(kind="cpu", why="there is no GPU")
UNLISTED = DeviceList(kind="unlisted", why="they are AMD's", visible=("4", "5"))


def member(name: str, devices: Any = None, usd: float = 2.0, **args: Any) -> Member:
    return Member(name=name, model=f"org/{name}", devices=devices, usd_per_hour=usd, engine_args=args)


def places(
    pool: list[Member], found: DeviceList, weights: list[float] | None = None, **usd: float
) -> tuple[Place, ...]:
    sizes = [int(gib * GIB) for gib in weights or [0] * len(pool)]
    return place(pool, found, sizes, {name[1:]: DeviceSettings(usd_per_hour=price) for name, price in usd.items()})


def seats(*args: Any, **usd: float) -> list[str]:
    return [",".join(one.devices) for one in places(*args, **usd)]


def share_of(place: Place) -> float | None:
    return place.engine_args.get("gpu_memory_utilization")


def test_a_named_device_is_kept_and_an_engine_alone_is_told_nothing() -> None:
    assert places([member("a", (1,)), member("b", ("0",))], gpus(80, 80)) == (
        Place(devices=("1",)),
        Place(devices=("0",)),
    )


def test_several_devices_set_tensor_parallelism() -> None:
    pool = [member("a", (0, 1)), member("b", (2, 3), pipeline_parallel_size=2)]
    assert places(pool, gpus(80, 80, 80, 80)) == (
        Place(devices=("0", "1"), engine_args={"tensor_parallel_size": 2}),
        Place(devices=("2", "3")),
    )


def test_a_uuid_or_the_beginning_of_one_names_a_device() -> None:
    assert seats([member("a", ("GPU-1a1",)), member("b", ("GPU-0",))], gpus(80, 80)) == ["1", "0"]


def test_engines_of_unknown_size_share_a_device_equally() -> None:
    made = places([member("a"), member("b")], gpus(80))
    assert made == (Place(devices=("0",), engine_args={"gpu_memory_utilization": 0.45, "max_model_len": -1}),) * 2


def test_engines_are_spread_and_larger_ones_go_where_more_is_left() -> None:
    pool = [member("small"), member("large"), member("middle")]
    assert seats(pool, gpus(40, 80), [2, 60, 16]) == ["0", "1", "0"]


def test_the_cheapest_device_with_room_is_taken_first() -> None:
    pool = [member("a"), member("b")]
    assert seats(pool, gpus(80, 80, 24), [14, 14], _0=4.0, _1=3.0, _2=0.5) == ["2", "1"]
    assert seats(pool, gpus(80, 80), [14, 14], _0=2.5) == ["1", "1"]  # the other costs the members' own 2


def test_an_engine_of_several_devices_takes_that_many_and_each_holds_a_part_of_its_weights() -> None:
    pool = [member("large", tensor_parallel_size=4), member("small")]
    assert seats(pool, gpus(*[80] * 5), [280, 16]) == ["0,1,2,3", "4"]
    with pytest.raises(ConfigError, match=r"'large' needs 4 devices; there are 2 - at `\$\.pool\[0\]`"):
        places(pool, gpus(80, 80), [280, 16])


def test_each_rank_of_data_parallelism_holds_all_weights() -> None:
    with pytest.raises(ConfigError, match=r"needs 91\.0 GiB \(weights 90\.0 GiB \+ 1\.0 GiB beside\) on each of 2 dev"):
        places([member("a", data_parallel_size=2)], gpus(80, 80), [90])
    assert seats([member("a", tensor_parallel_size=2)], gpus(80, 80), [90]) == ["0,1"]


def test_what_is_left_of_a_device_goes_to_engines_by_what_they_need_and_equally_beyond() -> None:
    small, large = places([member("small"), member("large")], gpus(80), [2, 30])
    # 72 GiB less 3 and 31: 38, of which each gets 19.
    assert (share_of(small), share_of(large)) == (0.275, 0.625)


def test_a_sized_engine_keeps_its_size_and_the_others_get_the_rest() -> None:
    sized = member("a", gpu_memory_utilization=0.3)
    first, second = places([sized, member("b")], gpus(80))
    assert (first.engine_args, share_of(second)) == ({}, 0.6)


def test_engines_sized_by_their_kv_cache_are_asked_for_what_they_take_only() -> None:
    pool = [member("a", kv_cache_memory_bytes=8 * GIB), member("b", kv_cache_memory_bytes=4 * GIB, max_model_len=9)]
    assert [one.engine_args for one in places(pool, gpus(80), [15, 1])] == [
        {"gpu_memory_utilization": 0.3},  # (15 + 8 + 1) / 80
        {"gpu_memory_utilization": 0.075},
    ]


def test_an_engine_over_devices_that_others_share_takes_the_smaller_share() -> None:
    pool = [member("a", (0, 1)), member("b", (0,), gpu_memory_utilization=0.5), member("c", (1,))]
    both, _, last = places(pool, gpus(80, 80))
    assert both.engine_args == {"tensor_parallel_size": 2, "gpu_memory_utilization": 0.4, "max_model_len": -1}
    assert share_of(last) == 0.45


@pytest.mark.parametrize(
    ("pool", "weights", "message", "at"),
    [
        ([member("a", (2,))], [0], "there is no device 2; there are 0 (H100, GPU-0a0), 1 (H100, GPU-1a1)", ".devices"),
        ([member("a", ("GPU-7",))], [0], "there is no device GPU-7; there are 0 (H100, GPU-0a0), 1 ", ".devices"),
        ([member("a", ("GPU-0", 0))], [0], "a device stands twice, by index and by UUID", ".devices"),
        ([member("a", "cpu")], [0], "the vLLM that is installed runs on GPUs, not on the CPU", ".devices"),
        (
            [member("b", (0,)), member("a", (0,))],
            [35, 40],
            "device 0, of 80.0 GiB, has no room for its engines: 'b' needs 36.0 GiB (weights 35.0 GiB + 1.0 GiB "
            "beside), 'a' needs 41.0 GiB",
            "",
        ),
        (
            [member("b", (1,), gpu_memory_utilization=0.6), member("a", (1,), gpu_memory_utilization=0.5)],
            [0, 0],
            "device 1, of 80.0 GiB, has no room for its engines: 'b' takes 0.6, 'a' takes 0.5",
            "",
        ),
        (
            [member("a", gpu_memory_utilization=0.1)],
            [15],
            "'a': its weights alone take 15.0 GiB, 0.1 of 80.0 GiB are 8.0 GiB",
            ".engine_args.gpu_memory_utilization",
        ),
        (
            [member("b"), member("c"), member("a")],
            [60, 60, 60],
            "'a' needs 61.0 GiB (weights 60.0 GiB + 1.0 GiB beside) on one device; the other members leave 19.0 GiB of "
            "80.0 GiB on 0, 19.0 GiB of 80.0 GiB on 1",
            "",
        ),
        (
            [member("a", kv_cache_memory_bytes=70 * GIB)],
            [20],
            "'a' needs 91.0 GiB (weights 20.0 GiB + KV cache 70.0 GiB + 1.0 GiB beside) on one device",
            "",
        ),
    ],
)
def test_what_does_not_exist_or_fit_is_refused_with_the_numbers(
    pool: list[Member], weights: list[float], message: str, at: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        places(pool, gpus(80, 80), weights)
    assert message in str(refused.value)
    assert str(refused.value).endswith(f" - at `$.pool[{len(pool) - 1}]{at}`")


def test_a_device_is_refused_where_there_is_none() -> None:
    with pytest.raises(ConfigError) as refused:
        places([member("a", (0,))], CPU)
    assert str(refused.value) == (
        "there is no device 0: there is no GPU; this machine has no device that engines can live on - at "
        "`$.pool[0].devices`"
    )
    assert places([member("a", "cpu"), member("b")], CPU) == (Place(), Place())


def test_devices_that_are_not_listed_are_taken_at_their_word() -> None:
    pool = [member("a", (0, 1)), member("b", (1,)), member("c")]
    assert [one.devices for one in places(pool, UNLISTED, [90, 90, 90])] == [("0", "1"), ("1",), ()]
    assert [share_of(one) for one in places(pool, UNLISTED)] == [0.45, 0.45, None]
    assert [share_of(one) for one in places([member("a"), member("b")], UNLISTED)] == [0.45, 0.45]


def test_an_index_beyond_what_the_environment_shows_is_refused_where_devices_are_not_listed_too() -> None:
    with pytest.raises(ConfigError) as refused:
        places([member("a", (2,))], UNLISTED)
    assert str(refused.value) == (
        "there is no device 2: CUDA_VISIBLE_DEVICES=4,5 shows others - at `$.pool[0].devices`"
    )
    anywhere = msgspec.structs.replace(UNLISTED, visible=())
    assert seats([member("a", (7,))], anywhere) == ["7"]


def test_a_members_own_variable_says_where_it_lives() -> None:
    pool = [Member(name="a", model="m", env={"CUDA_VISIBLE_DEVICES": "1"}), member("b")]
    assert seats(pool, gpus(80, 80), [60, 60]) == ["1", "0"]


@pytest.mark.parametrize("variable", ["1", "GPU-1a1", "GPU-1", " GPU-1a1 "])
def test_a_members_own_variable_names_a_device_by_uuid_too(variable: str) -> None:
    own = Member(name="a", model="m", env={"CUDA_VISIBLE_DEVICES": variable})
    made = places([own, member("b", (1,)), member("c")], gpus(80, 80), [30, 30, 30])
    assert [place.devices for place in made] == [("1",), ("1",), ("0",)]
    assert share_of(made[0]) == 0.45


@pytest.mark.parametrize(
    ("variable", "why"),
    [
        ("2", "'2' is no device that this server may use; there are 0 ("),
        ("0,2", "'2' is no device that this server may use"),
        ("GPU-9", "'GPU-9' is no device that this server may use"),
        ("", "'' is no device that this server may use"),
        ("-1", "'-1' is no device that this server may use"),
        ("0,", "'' is no device that this server may use"),
        ("one", "'one' is no device that this server may use"),
        ("0,0", "'0' stands twice"),
        ("1,GPU-1a1", "'GPU-1a1' stands twice"),
    ],
)
def test_a_members_own_variable_that_names_no_device_of_ours_is_refused(variable: str, why: str) -> None:
    own = Member(name="a", model="m", env={"CUDA_VISIBLE_DEVICES": variable})
    with pytest.raises(ConfigError) as refused:
        places([member("b"), own], gpus(80, 80), [10, 10])
    assert str(refused.value).startswith(f"CUDA_VISIBLE_DEVICES={variable}: {why}")
    assert str(refused.value).endswith(" - at `$.pool[1].env.CUDA_VISIBLE_DEVICES`")


@pytest.mark.parametrize(
    ("size", "gib"),
    [
        ("8G", 8.0),
        (" 8192M ", 8.0),
        ("8388608K", 8.0),
        ("1T", 1024.0),
        ("8g", 8e9 / GIB),
        ("8.5g", 8.5e9 / GIB),
        ("8000m", 8e9 / GIB),
        ("8000000k", 8e9 / GIB),
        ("0.008t", 8e9 / GIB),
        (str(8 * GIB), 8.0),
        (8 * GIB, 8.0),
        ("8.5G", None),
        ("8GB", None),
        ("8 G", None),
        ("G", None),
    ],
)
def test_a_size_of_the_kv_cache_in_words_counts_as_vllm_reads_it(size: Any, gib: float | None) -> None:
    pool = [member("a", (0,), kv_cache_memory_bytes=size), member("b", (0,))]
    if gib is not None and gib > 80:
        with pytest.raises(ConfigError, match=r"KV cache 1024\.0 GiB"):
            places(pool, gpus(80), [10, 10])
        return
    told = share_of(places(pool, gpus(80), [10, 10])[0])
    unknown = share_of(places([member("a", (0,)), member("b", (0,))], gpus(80), [10, 10])[0])
    assert told is not None
    if gib is None:  # vLLM will refuse it
        assert told == unknown
    else:
        assert told == pytest.approx((10 + gib + 1) / 80, abs=0.002)


@pytest.mark.parametrize("found", [gpus(80, 80), UNLISTED], ids=["listed", "unlisted"])
@pytest.mark.parametrize("size", [10**30, 10**400], ids=["a float", "none"])
@pytest.mark.parametrize(
    "key", ["kv_cache_memory_bytes", "gpu_memory_utilization", "tensor_parallel_size", "data_parallel_size"]
)
def test_a_number_too_large_for_a_float_is_refused_or_left_to_vllm(key: str, size: int, found: DeviceList) -> None:
    made: tuple[Place, ...] = ()
    with contextlib.suppress(ConfigError):
        made = places([member("a", **{key: size}), member("b")], found, [10, 10])
    assert all(key not in place.engine_args for place in made[:1])


def test_an_engine_whose_ranks_may_be_on_other_machines_is_left_as_it_is() -> None:
    many: dict[str, Any] = {"tensor_parallel_size": 8, "pipeline_parallel_size": 2}
    pool = [
        member("ray", distributed_executor_backend="ray", **many),
        member("nodes", (0, 1), nnodes=2, **many),
        member("here"),
    ]
    assert places(pool, gpus(80, 80), [900, 900, 15]) == (Place(), Place(), Place(devices=("0",)))


def test_prices_by_uuid_and_by_index_are_one_and_one_of_no_device_is_refused() -> None:
    price = DeviceSettings(usd_per_hour=1.0)
    assert at_index({"GPU-1": price}, gpus(80, 80)) == {"1": price}
    with pytest.raises(ConfigError, match=r"there is no device 2; there are 0 \(H100, .* - at `\$\.devices\.2`"):
        at_index({"2": price}, gpus(80, 80))
    with pytest.raises(ConfigError, match=r"the device 1 stands twice, by index and by UUID - at `\$\.devices\.GPU-1`"):
        at_index({"1": price, "GPU-1": price}, gpus(80, 80))


def test_devices_of_different_sizes_that_do_not_leave_enough_of_the_smaller_are_refused() -> None:
    pool = [member("a", (0, 1)), member("b", (1,), gpu_memory_utilization=0.85)]
    with pytest.raises(ConfigError) as refused:
        places(pool, gpus(24, 80), [6, 0])
    assert str(refused.value) == (
        "'a' needs 4.0 GiB (weights 3.0 GiB + 1.0 GiB beside) on each device; the share that is left for it of its "
        "largest device, 0.05, is too little of device 0 - at `$.pool[0].devices`"
    )
    assert seats([member("a", tensor_parallel_size=2)], gpus(80, 24, 80), [100]) == ["0,2"]


# The whole config


def config_of(*pool: Member, **usd: float) -> Config:
    return Config(pool=pool, devices={name[1:]: DeviceSettings(usd_per_hour=price) for name, price in usd.items()})


def test_the_price_of_a_member_is_its_share_of_the_price_of_each_of_its_devices() -> None:
    config = placed(
        config_of(
            member("a", (0, 1), usd=2.0),
            member("b", (1,), gpu_memory_utilization=0.25),
            Member(name="c", model="m", devices=(2,), gpu_share=0.1),
            Member(name="d", kind="openai", url="http://x", usd_per_hour=7.0),
            _1=3.0,
            _2=10.0,
        ),
        machine(gpus(80, 80, 80)),
        None,
    )
    assert gpu_shares(config.pool) == (0.65, 0.25, 0.1, 1.0)
    assert usd_per_s(config) == pytest.approx([0.65 * 5 / 3600, 0.25 * 3 / 3600, 1 / 3600, 7 / 3600])


def test_an_engine_alone_on_its_device_is_charged_the_whole_of_it() -> None:
    config = placed(config_of(member("a"), member("b")), machine(gpus(80, 80)), None)
    assert gpu_shares(config.pool) == (1.0, 1.0)


def test_before_it_is_placed_a_member_is_charged_as_many_devices_as_its_parallelism_needs() -> None:
    assert usd_per_s(config_of(member("a", tensor_parallel_size=4))) == (8.0 / 3600,)


def test_each_engine_sees_its_own_devices_alone() -> None:
    here = machine(gpus(80, 80))
    own = Member(name="b", model="m", env={"CUDA_VISIBLE_DEVICES": "1"})
    config = placed(config_of(member("a", (1, 0)), own), here, None)
    seen = [environment(one, {"CUDA_VISIBLE_DEVICES": "0,1"}, here, 2) for one in config.pool]
    assert [env["CUDA_VISIBLE_DEVICES"] for env in seen] == ["1,0", "1"]
    assert seen[0]["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_built_members_tell_their_devices_share_and_price_and_are_priced_by_the_device(tmp_path: Path) -> None:
    here = machine(gpus(80, 80))
    pool = (member("a", (0,)), member("b", (0,), gpu_memory_utilization=0.25), member("c", (0, 1)))
    config = placed(Config(pool=pool, devices={"GPU-0": DeviceSettings(usd_per_hour=4.0)}), here, None)
    built = [one.status() for one in build(config, tmp_path, {"PATH": "/bin"}, here)]
    assert [(one.devices, one.memory_share, one.usd_per_hour) for one in built] == [
        (("0",), 0.325, 1.3),
        (("0",), 0.25, 1.0),
        (("0", "1"), 0.325, 1.95),
    ]
    assert [one.state.usd_per_s for one in built] == pytest.approx(list(usd_per_s(config)))


# Whatever the pool

SIZES = st.sampled_from([0.0, 1.0, 8.0, 15.0, 40.0, 140.0])
ARGS = st.fixed_dictionaries(
    {},
    optional={
        "tensor_parallel_size": st.sampled_from([1, 2, 4]),
        "gpu_memory_utilization": st.floats(0.05, 1.0),
        "kv_cache_memory_bytes": st.integers(1, 60 * GIB),
    },
)


@st.composite
def pools(draw: st.DrawFn) -> tuple[list[Member], list[int], DeviceList, dict[str, DeviceSettings]]:
    found = gpus(*draw(st.lists(st.sampled_from([24.0, 40.0, 80.0]), min_size=1, max_size=8)))
    names = [str(i) for i in range(len(found.devices))]
    pool, sizes = [], []
    for i in range(draw(st.integers(1, 12))):
        args = draw(ARGS)
        named = draw(st.booleans()) and args.get("tensor_parallel_size", 1) == 1
        pool.append(member(f"m{i}", (draw(st.sampled_from(names)),) if named else None, **args))
        sizes.append(int(draw(SIZES) * GIB))
    prices = draw(st.dictionaries(st.sampled_from(names), st.floats(0.1, 9.0), max_size=3))
    return pool, sizes, found, {name: DeviceSettings(usd_per_hour=usd) for name, usd in prices.items()}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(pools())
def test_whatever_is_placed_exists_fits_and_is_placed_so_again(
    made: tuple[list[Member], list[int], DeviceList, dict[str, DeviceSettings]],
) -> None:
    pool, sizes, found, prices = made
    first: tuple[Place, ...] = ()
    with contextlib.suppress(ConfigError):
        first = place(pool, found, sizes, prices)
    assume(first)
    assert place(pool, found, sizes, prices) == first
    told = [
        msgspec.structs.replace(one, devices=where.devices, engine_args=where.engine_args | one.engine_args)
        for one, where in zip(pool, first, strict=True)
    ]
    for index, device in enumerate(found.devices):
        here = [i for i, one in enumerate(told) if str(index) in device_names(one)]
        shares = [memory_share(told[i].engine_args) for i in here]
        if len(here) > 1:
            assert all(shares)
            assert sum(filter(None, shares)) <= 1.0 + 0.001 * len(here)  # rounded up to thousandths
        for i, share in zip(here, shares, strict=True):
            part = sizes[i] / told[i].engine_args.get("tensor_parallel_size", 1)
            assert part <= (share or 1.0) * device.memory_bytes
    for one, before in zip(told, pool, strict=True):
        assert len(set(device_names(one))) == before.engine_args.get("tensor_parallel_size", 1)
        assert set(device_names(before)) <= set(device_names(one))
    again = place(told, found, sizes, prices)
    assert [(one.devices, one.engine_args) for one in again] == [(one.devices, {}) for one in first]
