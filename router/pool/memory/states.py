"""Layers that keep a state of fixed size in the place of keys and values: Mamba, Mamba 2 and gated delta nets; and
which layers of a hybrid model are such.

A state is (values in the model's type, bytes in a type that the model says itself), of one sequence and one layer.
"""

from collections.abc import Mapping
from typing import Any

Card = Mapping[str, Any]
State = tuple[int, int]

MOST_HEADS = 1 << 16
_MOST = 1 << 40
_LETTERS = {"M": "mamba", "*": "full_attention", "-": "mlp", "E": "moe"}


def number(card: Card, *names: str) -> int:
    """The first of these keys that holds a whole number above 0; 0 where none does."""
    for name in names:
        value = card.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST:
            return value
    return 0


def states_of(text: Card, family: str, count: int) -> list[str] | None:
    """The kind of each layer, by the ways in which hybrid models say it; None where `config.json` does not."""
    if isinstance(text.get("layer_types"), list):
        return list(map(str, text["layer_types"]))
    if isinstance(blocks := text.get("layers_block_type"), list):
        return ["full_attention" if "attention" in str(block) or block == "hybrid" else "mamba" for block in blocks]
    if isinstance(letters := text.get("hybrid_override_pattern"), str):
        return [_LETTERS.get(letter, "mamba") for letter in letters]
    if family in ("mamba", "mamba2", "falcon_mamba"):
        return ["mamba"] * count
    if isinstance(at := text.get("attn_layer_indices"), list):
        return ["full_attention" if i in at else "mamba" for i in range(count)]
    if period := number(text, "attn_layer_period"):
        offset = number(text, "attn_layer_offset")
        return ["full_attention" if i % period == offset else "mamba" for i in range(count)]
    if every := number(text, "full_attention_interval"):
        return ["full_attention" if (i + 1) % every == 0 else "linear_attention" for i in range(count)]
    return None


def delta_state(text: Card) -> State | None:
    """A gated delta net's (Qwen3-Next and on): the convolution's last inputs, and a matrix for each value head."""
    keys, values = number(text, "linear_num_key_heads"), number(text, "linear_num_value_heads")
    key_dim, value_dim = number(text, "linear_key_head_dim"), number(text, "linear_value_head_dim")
    if not (keys and values and key_dim and value_dim):
        return None
    kernel = number(text, "linear_conv_kernel_dim") or 4
    conv = (kernel - 1) * (2 * keys * key_dim + values * value_dim)
    return _typed(text, conv, values * value_dim * key_dim)


def mamba1_state(text: Card) -> State | None:
    size, hidden = number(text, "mamba_d_state", "state_size"), number(text, "hidden_size")
    inner = number(text, "intermediate_size") if text.get("model_type") != "jamba" else 0
    inner = inner or (number(text, "mamba_expand", "expand") or 2) * hidden
    if not (size and inner):
        return None
    kernel = number(text, "mamba_d_conv", "conv_kernel") or 4
    return _typed(text, (kernel - 1) * inner, inner * size)


def mamba2_state(text: Card) -> State | None:
    size = number(text, "mamba_d_state", "ssm_state_size", "state_size")
    heads = number(text, "mamba_n_heads", "mamba_num_heads", "n_mamba_heads", "num_heads")
    dim = number(text, "mamba_d_head", "mamba_head_dim", "mamba_headdim", "head_dim")
    if not (size and heads and dim):
        return None
    groups = number(text, "mamba_n_groups", "n_groups", "mamba_ngroups") or 1
    kernel = number(text, "mamba_d_conv", "conv_kernel") or 4
    return _typed(text, (kernel - 1) * (heads * dim + 2 * groups * size), heads * dim * size)


def _typed(text: Card, conv: int, ssm: int) -> State:
    """vLLM keeps the convolution's inputs in the model's type, and the other part so too, unless the model says."""
    told = str(text.get("mamba_ssm_dtype") or text.get("mamba_ssm_cache_dtype") or "")
    return (conv, 4 * ssm) if told == "float32" else (conv + ssm, 0)
