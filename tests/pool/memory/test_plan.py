"""Shapes and caches of model families, and plans of pools: what fits, what does not, and what is said of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from router.config import Config, Member, Planning
from router.errors import ConfigError
from router.pool.devices import DeviceList
from router.pool.environment import placed
from router.pool.memory.cache import cache_of
from router.pool.memory.mix import Mix, at_once, check
from router.pool.memory.peak import Assumptions
from router.pool.memory.plan import PoolPlan, plan
from router.pool.memory.shape import shape_of
from router.pool.weights import weigh
from tests.pool.gpus import GIB, gpus, machine
from tests.pool.memory import checkpoints
from tests.pool.memory.test_recorded import RECORDED

LLAMA: dict[str, Any] = RECORDED["models"]["Llama-3.1-8B"]
SMALL: dict[str, Any] = RECORDED["models"]["Qwen2.5-0.5B"]
GDN = {
    "model_type": "qwen3_5", "num_hidden_layers": 64, "full_attention_interval": 4, "num_key_value_heads": 4,
    "head_dim": 256, "num_attention_heads": 24, "hidden_size": 5120,
    "linear_num_key_heads": 16, "linear_key_head_dim": 128,
    "linear_num_value_heads": 48, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4,
    "mamba_ssm_dtype": "float32",
}  # fmt: skip


def family(kind: str, layers: int, kv_heads: int, dim: int, **more: Any) -> dict[str, Any]:
    sizes = {"num_attention_heads": 32, "num_key_value_heads": kv_heads, "head_dim": dim, "hidden_size": 4096}
    return {"model_type": kind, "num_hidden_layers": layers, **sizes, **more}


@pytest.mark.parametrize(
    ("card", "how", "expected"),
    [
        (family("llama", 32, 8, 128), {}, 32 * 2 * 8 * 128 * 2),
        (family("llama", 32, 8, 128), {"tensor": 4}, 32 * 2 * 2 * 128 * 2),
        (family("llama", 32, 8, 128), {"tensor": 16}, 32 * 2 * 1 * 128 * 2),  # a head is not split
        (family("llama", 32, 8, 128), {"pipeline": 2}, 16 * 2 * 8 * 128 * 2),
        (family("llama", 32, 8, 128), {"cache_dtype": "fp8_e4m3"}, 32 * 2 * 8 * 128),
        (family("llama", 32, 8, 128, torch_dtype="float32"), {}, 32 * 2 * 8 * 128 * 2),
        (family("llama", 32, 8, 128), {"dtype": "float32"}, 32 * 2 * 8 * 128 * 4),
        (
            family("llama", 32, 8, 128, quantization_config={"kv_cache_scheme": {"num_bits": 8}}),
            {},
            32 * 2 * 8 * 128,
        ),
        # DeepSeek V3: one vector of 512 + 64, whole on each device.
        (family("deepseek_v3", 61, 128, 56, kv_lora_rank=512, qk_rope_head_dim=64), {"tensor": 8}, 61 * 576 * 2),
        # gpt-oss: every second layer sees 128 tokens; only the others keep all.
        (family("gpt_oss", 24, 8, 64, sliding_window=128, layer_types=["sliding_attention", "full_attention"] * 12),
         {}, 12 * 2 * 8 * 64 * 2),
        (family("gemma3_text", 62, 16, 128, sliding_window=1024), {}, 10 * 2 * 16 * 128 * 2),
        (family("mistral", 32, 8, 128, sliding_window=None), {}, 32 * 2 * 8 * 128 * 2),
        (family("qwen2", 28, 4, 128, sliding_window=32768, use_sliding_window=False), {}, 28 * 2 * 4 * 128 * 2),
        ({"text_config": family("qwen3_vl", 36, 8, 128), "model_type": "qwen3_vl"}, {}, 36 * 2 * 8 * 128 * 2),
        (GDN, {}, 16 * 2 * 4 * 256 * 2),
        (family("jamba", 32, 8, 128, attn_layer_period=8, attn_layer_offset=4, mamba_d_state=16), {}, 4 * 4096),
        (family("nemotron_h", 4, 8, 128, hybrid_override_pattern="M-M*", ssm_state_size=128, mamba_num_heads=64,
                mamba_head_dim=64), {}, 4096),
    ],
)  # fmt: skip
def test_kv_bytes_of_a_token_follow_from_config_json(card: dict[str, Any], how: dict[str, Any], expected: int) -> None:
    shape = shape_of(card)
    assert shape.unknown == ""
    assert cache_of(shape, **how).token_bytes == expected


@pytest.mark.parametrize(("cache_dtype", "tensor", "block"), [("fp8", 1, 1568), ("auto", 1, 784), ("auto", 2, 784)])
def test_blocks_of_a_hybrid_model_are_as_large_as_vllm_says_in_its_logs(
    cache_dtype: str, tensor: int, block: int
) -> None:
    # Of Qwen3.8-27B: "Setting attention block size to 1568 tokens" with an fp8 cache, 784 over two devices without.
    assert cache_of(shape_of(GDN), cache_dtype=cache_dtype, tensor=tensor).block == block


def test_a_window_keeps_no_more_of_a_long_sequence_than_itself_and_one_step() -> None:
    card = family("gpt_oss", 24, 8, 64, sliding_window=128, layer_types=["sliding_attention", "full_attention"] * 12)
    cache = cache_of(shape_of(card), step_tokens=2048)
    assert cache.blocks(16) == 2
    assert cache.blocks(131_072) == 8192 + (128 - 1 + 2048 + 15) // 16 + 1


@pytest.mark.parametrize(
    ("card", "says"),
    [
        ({}, "there is no config.json that can be read"),
        (family("newest", 10, 8, 64), "newest is no architecture that is known here"),
        (
            family("newest", 10, 8, 64) | {"architectures": ["NewForCausalLM"]},
            "NewForCausalLM is no architecture that is",
        ),
        ({"model_type": "llama"}, "does not tell the number of layers"),
        ({"model_type": "llama", "num_hidden_layers": 3}, "does not tell its attention heads"),
        (GDN | {"linear_num_value_heads": None}, "does not tell the size of its states"),
        ({"model_type": "llama", "num_hidden_layers": -3, "num_key_value_heads": "8"}, "the number of layers"),
        ({"model_type": "llama", "num_hidden_layers": 1 << 60}, "the number of layers"),
    ],
)
def test_what_cannot_be_known_is_said(card: dict[str, Any], says: str) -> None:
    assert says in shape_of(card).unknown


def test_an_unknown_architecture_gets_full_attention_in_all_layers_as_an_upper_bound(tmp_path: Path) -> None:
    card = LLAMA | {"model_type": "newest", "architectures": ["NewForCausalLM"]}
    [engine] = planned(tmp_path, [("a", card, {})], 80).engines
    assert engine.kv_token_bytes == 32 * 2 * 8 * 128 * 2
    assert engine.bound
    assert "NewForCausalLM is no architecture that is known here" in engine.unknown
    assert engine.fits


# Pools

MIX = Mix()


def members(folder: Path, pool: list[tuple[str, dict[str, Any], dict[str, Any]]]) -> list[Member]:
    for name, card, _ in pool:
        checkpoints.write(folder / name, card)
    return [Member(name=name, model=str(folder / name), engine_args=args) for name, _, args in pool]


def planned(
    folder: Path, pool: list[tuple[str, dict[str, Any], dict[str, Any]]], *gib: float, mix: Mix = MIX
) -> PoolPlan:
    made = members(folder, pool)
    return plan(made, [weigh(one, None) for one in made], gpus(*gib), 0, {}, mix, Assumptions())


def test_two_engines_of_one_device_hold_equally_many_requests_of_the_mix(tmp_path: Path) -> None:
    made = planned(tmp_path, [("large", LLAMA, {}), ("small", SMALL, {})], 80)
    large, small = made.engines
    assert made.fits
    taken = sum(one.weight_bytes + one.kv_bytes + one.activation_bytes + one.overhead_bytes for one in made.engines)
    assert taken == pytest.approx(0.9 * 80 * GIB, abs=8)
    assert large.kv_tokens // 1250 == pytest.approx(small.kv_tokens // 1250, rel=0.01)
    assert large.engine_args == {"kv_cache_memory_bytes": large.kv_bytes, "max_model_len": 131072}
    assert large.sleep_frees_bytes == large.weight_bytes + large.kv_bytes


def test_told_traffic_bounds_the_sequences_and_so_the_activations(tmp_path: Path) -> None:
    few = planned(tmp_path / "few", [("a", LLAMA, {})], 80, mix=Mix(concurrency=20, told=True)).engines[0]
    many = planned(tmp_path / "many", [("a", LLAMA, {})], 80).engines[0]
    assert (few.max_num_seqs, many.max_num_seqs) == (32, 1024)
    assert few.activation_bytes < many.activation_bytes
    assert few.kv_bytes > many.kv_bytes
    assert few.engine_args["max_num_seqs"] == 32
    assert "max_num_seqs" not in many.engine_args


def test_a_context_that_does_not_fit_is_shortened_to_what_fits(tmp_path: Path) -> None:
    [engine] = planned(tmp_path, [("a", LLAMA, {})], 24).engines
    assert engine.fits
    assert 1250 < engine.max_model_len < 131072
    assert engine.max_model_len % 16 == 0
    assert engine.max_model_len * engine.kv_token_bytes <= engine.kv_bytes


def test_what_a_member_says_itself_is_kept(tmp_path: Path) -> None:
    args = {"kv-cache-memory-bytes": 2 * GIB, "max_model_len": 4096, "max_num_seqs": 16}
    [engine] = planned(tmp_path, [("a", LLAMA, args)], 24).engines
    assert (engine.kv_bytes, engine.max_model_len, engine.max_num_seqs) == (2 * GIB, 4096, 16)
    assert engine.engine_args == {}


def test_a_context_that_must_be_and_does_not_fit_is_told_with_what_would(tmp_path: Path) -> None:
    made = planned(tmp_path, [("a", LLAMA, {"max_model_len": 131072})], 24)
    assert not made.fits
    assert "'a' needs 33.1 GiB (weights 15.0 GiB + 18.1 GiB beside)" in made.why
    assert "the other members leave 24.0 GiB of 24.0 GiB on 0" in made.why
    assert any("kv_cache_dtype: fp8" in line for line in made.engines[0].advice)
    assert made.engines[0].devices == ()


def test_more_members_than_fit_name_the_one_that_does_not(tmp_path: Path) -> None:
    made = planned(tmp_path, [("a", LLAMA, {}), ("b", LLAMA, {}), ("c", LLAMA, {})], 24, 24)
    assert not made.fits
    assert made.why.startswith("'c' needs ")
    assert "`tensor_parallel_size: 2`" in " ".join(made.engines[2].advice)


def test_an_engine_over_two_devices_takes_half_of_the_weights_on_each(tmp_path: Path) -> None:
    [engine] = planned(tmp_path, [("a", LLAMA, {"tensor_parallel_size": 2})], 24, 24).engines
    whole = weigh(Member(name="a", model=str(tmp_path / "a")), None).size
    assert engine.devices == ("0", "1")
    assert engine.weight_bytes == whole // 2
    assert engine.kv_token_bytes == 32 * 2 * 4 * 128 * 2


def test_missing_shards_are_named_and_the_rest_is_a_lower_bound(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "a", SMALL)
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    index = {"weight_map": {"x": "model-1.safetensors", "y": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    found = weigh(Member(name="a", model=str(folder)), None)
    [engine] = plan([Member(name="a", model=str(folder))], [found], gpus(80), 0, {}, Mix(), Assumptions()).engines
    assert found.missing == ("model-2.safetensors",)
    assert "1 of its files are missing (model-2.safetensors): its weights take more than 0.92 GiB" in engine.unknown


def test_a_gguf_is_counted_by_its_size_and_its_cache_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(bytes(1000))
    member = Member(name="a", model=str(tmp_path / "a.gguf"))
    [engine] = plan([member], [weigh(member, None)], gpus(24), 0, {}, Mix(), Assumptions()).engines
    assert (engine.weight_bytes, engine.kv_tokens) == (1000, 0)
    assert engine.unknown == "there is no config.json that can be read"


def test_a_model_that_is_not_here_is_left_as_it_is(tmp_path: Path) -> None:
    member = Member(name="a", model="org/away")
    [engine] = plan([member], [weigh(member, None)], gpus(24), 0, {}, Mix(), Assumptions()).engines
    assert engine.unknown.startswith("its files are not on this machine")
    assert engine.engine_args == {}


@pytest.mark.parametrize(
    ("mix", "says"),
    [
        (Mix(prompt_tokens=-1), "prompt_tokens: expected 0 to 1,000,000,000, got -1"),
        (Mix(concurrency=float("nan")), "concurrency: expected 0 to 1,000,000,000, got nan"),
        (Mix(prompt_tokens=0, output_tokens=0), "requests of one token at the least"),
    ],
)
def test_traffic_that_cannot_be_is_refused(mix: Mix, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check(mix)


def test_a_rate_becomes_requests_at_once_by_the_seconds_of_an_answer() -> None:
    mix = Mix(prompt_tokens=1000, output_tokens=100, requests_per_s=10)
    assert at_once(mix, 0.5, 1000.0, 0.02) == pytest.approx(10 * 0.5 * (1.0 + 2.0))


def test_devices_of_unknown_or_no_memory_are_refused() -> None:
    unlisted = DeviceList(kind="unlisted", why="they are AMD's")
    with pytest.raises(ConfigError, match=r"not known \(they are AMD's\): `headgate plan --device-memory 80GiB"):
        plan([], [], unlisted, 0, {}, Mix(), Assumptions())
    with pytest.raises(ConfigError, match="device 0: expected memory above 0, got 0 bytes"):
        plan([], [], gpus(0.0), 0, {}, Mix(), Assumptions())


def test_plan_auto_of_a_config_gives_engines_bytes_and_devices_and_placing_them_again_changes_nothing(
    tmp_path: Path,
) -> None:
    config = Config(pool=tuple(members(tmp_path, [("a", LLAMA, {}), ("b", SMALL, {})])), plan=Planning(auto=True))
    there = machine(gpus(80))
    once = placed(config, there, None)
    assert [member.devices for member in once.pool] == [("0",), ("0",)]
    assert all(member.engine_args["kv_cache_memory_bytes"] > GIB for member in once.pool)
    assert placed(once, there, None) == once


def test_plan_auto_that_does_not_fit_is_refused_with_why(tmp_path: Path) -> None:
    pool = tuple(members(tmp_path, [("a", LLAMA, {"max_model_len": 131072})]))
    with pytest.raises(ConfigError, match="the plan: 'a' needs"):
        placed(Config(pool=pool, plan=Planning(auto=True)), machine(gpus(24)), None)


@pytest.mark.parametrize(("size", "bytes_"), [("4G", 4 << 30), ("4g", 4 * 10**9), (4 << 30, 4 << 30)])
def test_a_cache_sized_by_hand_in_words_is_planned_as_in_bytes(tmp_path: Path, size: object, bytes_: int) -> None:
    [engine] = planned(tmp_path, [("a", LLAMA, {"kv_cache_memory_bytes": size})], 80).engines
    assert engine.kv_bytes == bytes_
    assert "kv_cache_memory_bytes" not in engine.engine_args
