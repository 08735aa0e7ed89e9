"""What a model's `config.json` says of the memory it takes: its layers by what each keeps of a sequence, and the sizes
that its activations follow from.

Where the architecture is not one of those that are known, or a key is missing, `unknown` says what cannot be known;
then the cache is an upper bound: full attention in all layers.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from router.pool.memory.states import MOST_HEADS, delta_state, mamba1_state, mamba2_state, number, states_of

Card = Mapping[str, Any]
#: What one layer keeps. `full`: keys and values of all tokens; `window`: of the last ones; `latent`: one compressed
#: vector a token (MLA); `state`: so many bytes a sequence, however long; `none`.
Keeps = Literal["full", "window", "latent", "state", "none"]

#: Of `model_type`: attention as `config.json` says it, and nothing beside it.
_PLAIN: Final = frozenset({
    "llama", "mistral", "mistral3", "ministral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen2_vl",
    "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "gemma", "gemma2", "gemma3", "gemma3_text", "phi", "phi3", "phimoe",
    "opt", "gpt2", "gpt_neox", "gpt_oss", "falcon", "starcoder2", "stablelm", "olmo", "olmo2", "olmo3", "olmoe",
    "granite", "granitemoe", "cohere", "cohere2", "internlm2", "internlm3", "glm", "glm4", "glm4_moe", "exaone",
    "exaone4", "minimax_m2", "seed_oss", "smollm3", "ernie4_5", "ernie4_5_moe", "arcee", "apertus", "nemotron",
    "llama4", "llama4_text", "llava", "pixtral", "hunyuan_v1_dense", "hunyuan_v1_moe",
})  # fmt: skip
#: Models whose layers differ in a way of their own, each read below.
_LATENT: Final = frozenset({
    "deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "kimi_vl", "glm4_moe_lite", "longcat_flash",
})  # fmt: skip
_HYBRID: Final = frozenset({
    "qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text", "jamba", "bamba", "nemotron_h",
    "granitemoehybrid", "mamba", "mamba2", "falcon_mamba", "zamba2",
})  # fmt: skip
#: Encoders: they keep nothing between steps.
_ENCODERS: Final = frozenset({
    "bert", "roberta", "xlm-roberta", "distilbert", "modernbert", "mpnet", "nomic_bert", "electra",
})  # fmt: skip
_TEXT_PARTS: Final = ("text_config", "llm_config", "language_config")
_NAMED: Final[Mapping[str, Keeps]] = {
    "full_attention": "full", "attention": "full", "sliding_attention": "window", "chunked_attention": "window",
    "linear_attention": "state", "mamba": "state", "mamba2": "state", "conv": "state", "mlp": "none", "moe": "none",
}  # fmt: skip


class Layers(msgspec.Struct, frozen=True, kw_only=True):
    """So many layers that keep the same."""

    keeps: Keeps
    count: int
    window: int = 0  #: tokens, of `window`
    #: of `state`: bytes of one sequence whole, of floats of the model's type / of floats that the model says itself
    state_values: int = 0
    state_bytes: int = 0


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a model."""

    architecture: str = ""
    layers: tuple[Layers, ...] = ()
    kv_heads: int = 0
    key_dim: int = 0  #: of one head
    value_dim: int = 0
    latent_dim: int = 0  #: of one token of an MLA layer: the compressed vector and its positions
    sparse: bool = False  #: DeepSeek V3.2's index beside the latent vector
    hidden: int = 0
    intermediate: int = 0  #: of one expert, where there are several
    experts_per_token: int = 0  #: 0: the model is dense
    vocabulary: int = 0
    context_tokens: int = 0
    dtype: str = ""  #: of the weights, as the model says
    cache_dtype: str = ""  #: of the cache, where the checkpoint says it
    unknown: str = ""  #: what cannot be known, in words; empty: nothing

    @property
    def layer_count(self) -> int:
        return sum(each.count for each in self.layers)


def shape_of(card: Card) -> Shape:
    """`card`: the objects of `config.json`; empty: there is none."""
    if not card:
        return Shape(unknown="there is no config.json that can be read")
    text = _text_part(card)
    family = str(text.get("model_type") or card.get("model_type") or "")
    names = card.get("architectures")
    architecture = str(names[0]) if isinstance(names, list) and names else family
    if family in _ENCODERS:
        return _sizes(text, card, architecture)
    layers, why = _layers(text, family)
    sized = _sizes(text, card, architecture)
    if family not in _PLAIN | _LATENT | _HYBRID:
        named = f"{architecture or 'a model without a name'} is no architecture that is known here"
        why = f"{named}: its KV cache is taken to be full attention in all layers, which is an upper bound"
    elif not sized.kv_heads and not sized.latent_dim and any(each.keeps in ("full", "window") for each in layers):
        why = "config.json does not tell its attention heads"
    return msgspec.structs.replace(sized, layers=layers, unknown=why)


def _text_part(card: Card) -> Card:
    """Of a model that sees or hears: the part that writes."""
    for name in _TEXT_PARTS:
        part = card.get(name)
        if isinstance(part, dict) and (part.get("num_hidden_layers") or part.get("hidden_size")):
            return part
    return card


def _sizes(text: Card, card: Card, architecture: str) -> Shape:
    heads = number(text, "num_attention_heads", "n_head", "num_heads")
    hidden = number(text, "hidden_size", "n_embd", "d_model")
    head_dim = number(text, "head_dim", "attention_head_dim") or (hidden // heads if heads else 0)
    kv_heads = number(text, "num_key_value_heads", "num_kv_heads") or (1 if text.get("multi_query") else heads)
    latent = number(text, "kv_lora_rank")
    experts = number(text, "num_experts_per_tok", "num_experts_per_token", "moe_topk", "experts_per_token")
    expert = number(text, "moe_intermediate_size", "expert_intermediate_size")
    dense = number(text, "intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size") or 4 * hidden
    quantised = card.get("quantization_config") or text.get("quantization_config")
    return Shape(
        architecture=architecture,
        kv_heads=min(kv_heads, MOST_HEADS),
        key_dim=head_dim,
        value_dim=number(text, "v_head_dim") or head_dim,
        latent_dim=latent + number(text, "qk_rope_head_dim") if latent else 0,
        sparse=bool(number(text, "index_topk")),
        hidden=hidden,
        intermediate=(expert or dense) if experts else dense,
        experts_per_token=experts,
        vocabulary=number(text, "vocab_size"),
        context_tokens=number(text, "max_position_embeddings", "n_positions", "max_seq_len", "seq_length"),
        dtype=str(text.get("dtype") or text.get("torch_dtype") or card.get("dtype") or card.get("torch_dtype") or ""),
        cache_dtype="fp8" if isinstance(quantised, dict) and _eight_bit_cache(quantised) else "",
    )


def _eight_bit_cache(quantised: Card) -> bool:
    """As compressed-tensors and ModelOpt say it."""
    scheme = quantised.get("kv_cache_scheme")
    told = str(quantised.get("kv_cache_quant_algo") or "")
    return (isinstance(scheme, dict) and scheme.get("num_bits") == 8) or told.upper() in ("FP8", "INT8")


def _layers(text: Card, family: str) -> tuple[tuple[Layers, ...], str]:
    """And what cannot be known of them."""
    count = number(text, "num_hidden_layers", "n_layer", "num_layers")
    if not count:
        return (), "config.json does not tell the number of layers"
    if family in _LATENT and number(text, "kv_lora_rank"):
        return (Layers(keeps="latent", count=count),), ""
    window = _window(text)
    kinds = _kinds(text, family, count, window)
    state, why = _state(text, family) if "state" in kinds else (Layers(keeps="state", count=0), "")
    if why and number(text, "kv_lora_rank"):
        return (Layers(keeps="latent", count=count),), why
    groups = {
        "full": Layers(keeps="full", count=kinds.count("full")),
        "window": Layers(keeps="window", count=kinds.count("window"), window=window),
        "state": msgspec.structs.replace(state, count=kinds.count("state")),
        "none": Layers(keeps="none", count=kinds.count("none")),
    }
    return tuple(group for group in groups.values() if group.count), why


def _window(text: Card) -> int:
    if text.get("use_sliding_window") is False:
        return 0
    return number(text, "sliding_window", "attention_chunk_size")


def _kinds(text: Card, family: str, count: int, window: int) -> list[Keeps]:
    """What each layer keeps, in order."""
    told = states_of(text, family, count) if family in _HYBRID else text.get("layer_types")
    if isinstance(told, list) and len(told) >= count:
        kinds = [_NAMED.get(str(kind), "full") for kind in told[:count]]
        return [kind if kind != "window" or window else "full" for kind in kinds]
    if not window:
        return ["full"] * count
    # Every so many layers one sees all; older configs of Gemma 2 and 3 and of Cohere 2 say it so, or not at all.
    every = number(text, "sliding_window_pattern") or {"gemma2": 2, "gemma3": 6, "gemma3_text": 6, "cohere2": 4}.get(
        family, 0
    )
    return ["full" if every and (i + 1) % every == 0 else "window" for i in range(count)]


def _state(text: Card, family: str) -> tuple[Layers, str]:
    """One layer's state of one sequence."""
    if family.startswith(("qwen3_next", "qwen3_5")):
        found = delta_state(text)
    elif family in ("mamba", "falcon_mamba", "jamba"):
        found = mamba1_state(text)
    else:
        found = mamba2_state(text)
    if found is None:
        return Layers(keeps="state", count=0), "config.json does not tell the size of its states: they are not counted"
    return Layers(keeps="state", count=0, state_values=found[0], state_bytes=found[1]), ""
