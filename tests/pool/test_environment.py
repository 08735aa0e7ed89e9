"""Defaults for engines that share a machine, none of which overrides what the user said."""

from pathlib import Path

import pytest

from router.config import Config, Member
from router.errors import ConfigError
from router.pool.devices import DeviceList, built_for_cpu
from router.pool.environment import Machine, environment, placed, this_machine
from router.pool.folder import RuntimeFolder, log_folder_of
from router.pool.load import gpu_shares
from tests.pool.gpus import Gpus, gpu

CPU = Machine(devices=DeviceList(kind="cpu"), cpus=8, memory_bytes=10 << 30)
GPU = Machine(devices=DeviceList(kind="unlisted"), cpus=8, memory_bytes=100 << 30)
PAIR = (Member(name="a", model="org/a"), Member(name="b", model="org/b"))


def with_engine_defaults(pool: tuple[Member, ...], machine: Machine) -> tuple[Member, ...]:
    return placed(Config(pool=pool), machine, None).pool


def test_engines_on_a_cpu_share_its_cores_and_memory() -> None:
    env = environment(PAIR[0], {"PATH": "/bin"}, CPU, 2)
    assert env["OMP_NUM_THREADS"] == "4"
    assert env["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert env["PATH"] == "/bin"
    assert "HF_HUB_OFFLINE" not in env
    for member in with_engine_defaults(PAIR, CPU):
        assert member.engine_args["kv_cache_memory_bytes"] == int(0.3 * (10 << 30) / 2)
        assert member.engine_args["block_size"] == 32
        assert member.engine_args["max_model_len"] == -1


def test_an_eager_engine_of_a_cpu_compiles_nothing_and_another_does() -> None:
    for args, compiles in (({}, False), ({"enforce-eager": True}, False), ({"enforce_eager": False}, True)):
        member = Member(name="a", model="x", engine_args=args)
        (member,) = with_engine_defaults((member,), CPU)
        assert ("TORCH_COMPILE_DISABLE" not in environment(member, {}, CPU, 1)) is compiles
        assert "TORCH_COMPILE_DISABLE" not in environment(member, {}, GPU, 1)
    member = Member(name="a", model="x", engine_args={"enforce_eager": True}, env={"TORCH_COMPILE_DISABLE": "0"})
    assert environment(member, {}, CPU, 1)["TORCH_COMPILE_DISABLE"] == "0"


def test_what_the_user_says_stays() -> None:
    member = Member(name="a", model="x", env={"OMP_NUM_THREADS": "3"}, engine_args={"block-size": 16})
    env = environment(member, {"VLLM_CPU_OMP_THREADS_BIND": "0-3"}, CPU, 1)
    assert (env["OMP_NUM_THREADS"], env["VLLM_CPU_OMP_THREADS_BIND"]) == ("3", "0-3")
    (member,) = with_engine_defaults((member,), CPU)
    assert "block_size" not in member.engine_args


def test_engines_on_a_gpu_share_its_memory_unless_sized() -> None:
    assert [m.engine_args for m in with_engine_defaults(PAIR, GPU)] == [
        {"gpu_memory_utilization": 0.45, "max_model_len": -1}
    ] * 2
    assert with_engine_defaults(PAIR[:1], GPU) == PAIR[:1]
    sized = (Member(name="a", model="x", engine_args={"kv-cache-memory-bytes": 1}), PAIR[1])
    beside = {"gpu_memory_utilization": 0.45, "max_model_len": -1}
    first, second = with_engine_defaults(sized, GPU)
    # vLLM asks even of an engine sized by bytes whether its share, 0.92 by default, is free.
    assert first.engine_args == {"gpu_memory_utilization": 0.45, "kv-cache-memory-bytes": 1}
    assert second.engine_args == beside
    assert environment(PAIR[0], {}, GPU, 2).keys() == {"VLLM_NO_USAGE_STATS", "PYTHONSAFEPATH"}


@pytest.mark.parametrize("name", ["gpu_memory_utilization", "gpu-memory-utilization", "--gpu-memory-utilization"])
def test_an_argument_is_known_in_every_spelling(name: str) -> None:
    sized = (Member(name="a", model="x", engine_args={name: 0.3}), PAIR[1])
    first, second = with_engine_defaults(sized, GPU)
    assert (first, second.engine_args["gpu_memory_utilization"]) == (sized[0], 0.6)
    assert gpu_shares(sized)[0] == 0.3


def test_weights_in_a_folder_need_no_hub(tmp_path: Path) -> None:
    assert environment(Member(name="a", model=str(tmp_path)), {}, GPU, 1)["HF_HUB_OFFLINE"] == "1"


def test_this_machine_is_told_of_by_its_devices() -> None:
    found = this_machine({"CUDA_VISIBLE_DEVICES": "0"}, Gpus(gpu(0), gpu(1)))
    assert found.cpus >= 1
    assert found.devices.kind == ("cpu" if built_for_cpu() else "listed")


def test_the_runtime_folder_is_private_and_goes_away(tmp_path: Path) -> None:
    folder = RuntimeFolder("", tmp_path)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    (folder.path / "a.sock").touch()
    (folder.path / "a.log").touch()
    folder.remove(keep_logs=True)
    assert [file.name for file in folder.path.iterdir()] == ["a.log"]
    folder.remove()
    assert not folder.path.exists()


def test_a_root_too_long_for_a_socket_is_not_used(tmp_path: Path) -> None:
    folder = RuntimeFolder("", tmp_path / ("x" * 90))
    assert folder.path.parent == Path("/tmp")
    folder.remove()


def test_a_configured_folder_must_be_ours_alone(folder: Path) -> None:
    shared = folder / "shared"
    shared.mkdir(mode=0o755)
    with pytest.raises(ConfigError, match=r"expected a folder of mode 0700 .* at `\$\.supervision\.runtime_dir`"):
        RuntimeFolder(str(shared), folder)
    made = RuntimeFolder(str(folder / "a" / "b"), folder)
    assert made.path.stat().st_mode & 0o777 == 0o700
    made.remove()
    assert made.path.exists()


def test_a_folder_for_logs_is_made(tmp_path: Path) -> None:
    assert log_folder_of(str(tmp_path / "a" / "logs")).is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"at `\$\.supervision\.log_dir`"):
        log_folder_of(str(tmp_path / "file" / "logs"))
