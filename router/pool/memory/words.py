"""A plan's numbers in words: how each was found, and what to change where an engine does not fit."""

from collections.abc import Sequence

from router.pool.memory.engine import Needs
from router.pool.memory.mix import Mix

_GIB = 1 << 30
_MIB = 1 << 20


def gib(size: float) -> str:
    return f"{size / _GIB:.2f} GiB" if abs(size) >= _GIB / 10 else f"{size / _MIB:.1f} MiB"


def steps_of(needs: Needs, kv: int, memory: Sequence[int]) -> tuple[str, ...]:
    """The weights, the bytes of a token, the activations, the cache."""
    shape, cache = needs.shape, needs.cache
    found = needs.weights
    how = "from the headers of its files" if found.exact else "from the sizes of its files, at the least"
    split = f", over {needs.devices} devices" if needs.devices > 1 else ""
    kind = f" ({found.kind})" if found.kind else ""
    lines = [f"weights {gib(needs.weight_bytes)}{kind}: {how}{split}"] if needs.weight_bytes else []
    if cache.page_bytes:
        lines.append(f"KV cache {_token(needs)}; blocks of {cache.block} tokens, {gib(cache.page_bytes)} each")
    if shape.hidden:
        step = f"{needs.step.tokens:,} tokens, {needs.step.sequences:,} sequences, {shape.vocabulary:,} words"
        lines.append(f"activations {gib(needs.activation_bytes)}: the larger of a layer's and the logits' ({step})")
    else:
        lines.append(f"activations {gib(needs.activation_bytes)}: assumed, as config.json does not tell the sizes")
    if memory and kv >= 0:
        lines.append(_cache(needs, kv, memory))
    return tuple(lines)


def _cache(needs: Needs, kv: int, memory: Sequence[int]) -> str:
    if needs.kv_bytes is not None:
        return f"KV cache {gib(kv)}: set by `kv_cache_memory_bytes`"
    if needs.share is not None:
        return f"KV cache {gib(kv)}: what `gpu_memory_utilization` {needs.share:g} of {gib(min(memory))} leaves"
    return f"KV cache {gib(kv)}: what is left for it of {gib(min(memory))}"


def _token(needs: Needs) -> str:
    shape, cache = needs.shape, needs.cache
    parts = []
    for each in shape.layers:
        if each.keeps == "full":
            parts.append(f"{each.count} layers of {shape.kv_heads} KV heads of {shape.key_dim}")
        elif each.keeps == "window":
            parts.append(f"{each.count} layers that see {each.window:,} tokens")
        elif each.keeps == "latent":
            parts.append(f"{each.count} layers of one vector of {shape.latent_dim}, whole on each device")
        elif each.keeps == "state":
            parts.append(f"{each.count} layers of a state a sequence")
    over = f" / {needs.tensor} devices" if needs.tensor > 1 and not shape.latent_dim else ""
    return f"{cache.token_bytes:,} bytes a token: {', '.join(parts)}{over}"


def advice(needs: Needs, kv: int, mix: Mix) -> tuple[str, ...]:
    """What would make room, the cheapest first."""
    found: list[str] = []
    cache, tokens = needs.cache, min(mix.tokens, needs.context_tokens or mix.tokens)
    if needs.context_given and kv > cache.sequence_bytes(tokens):
        found.append(f"a shorter context: `max_model_len: {cache.longest(kv, needs.context_tokens)}` fits")
    if needs.step.sequences > 64 and not needs.sequences_given:
        found.append("fewer sequences at once: `max_num_seqs: 64` takes smaller activations")
    if cache.token_bytes and needs.kv_bytes is None:
        found.append("a KV cache of eight bits: `kv_cache_dtype: fp8`")
    if needs.weight_bytes and not needs.weights.kind:
        found.append(
            f"a quantised checkpoint: of four bits its weights would take about {gib(0.3 * needs.weight_bytes)}"
        )
    found.append(f"more devices: `tensor_parallel_size: {2 * needs.devices}` halves what each holds")
    found.append("fewer members on its devices: name others by `devices`, leave one out, or let one sleep")
    return tuple(found)
