"""The KV cache of a model on one of its devices: bytes of a token, of a sequence, and tokens that so many bytes hold.

    attention     2 sides * KV heads of this device * dimension * bytes of a value, for each token
    window        the same, for no more tokens than the window and one step's
    latent        (compressed vector + positions) * bytes of a value; each device of a tensor-parallel group holds it
    state         a page a sequence; vLLM makes attention's blocks as large as that page

As vLLM 0.32 lays it out (`v1/core/kv_cache_utils.py`): blocks of all layers of a group share one pool, and groups are
of one size, so that layers of the smaller kind may be padded.
"""

import math
from typing import Final

import msgspec

from router.pool.memory.shape import Layers, Shape

_BLOCK: Final = 16  #: tokens, vLLM's
_BYTES: Final = {"float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2}
#: DeepSeek's own eight-bit layout of a latent vector, with its scales and sixteen-bit positions.
_SPARSE_FP8: Final = 656
_INDEX: Final = 132  #: its index, of a token: 128 values of eight bits and a scale
#: From so many times more layers of one kind than of the other on, vLLM takes the smaller number as a group's size.
_ALIKE: Final = 1.5


class Cache(msgspec.Struct, frozen=True, kw_only=True):
    """Of one engine, on each of its devices."""

    block: int = _BLOCK  #: tokens
    token_bytes: int = 0  #: of one token, in all layers that keep each token
    #: of one block in all layers of one group
    page_bytes: int = 0
    full_groups: int = 0
    window_groups: int = 0
    window: int = 0  #: tokens that a windowed group keeps of a sequence, at the most
    state_groups: int = 0
    state_pages: int = 1  #: of a sequence and group: two where prefixes are kept

    def blocks(self, tokens: int) -> int:
        """That one sequence of so many tokens takes, in all groups."""
        whole = math.ceil(tokens / self.block)
        seen = min(whole, math.ceil(self.window / self.block) + 1) if self.window_groups else 0
        return self.full_groups * whole + self.window_groups * seen + self.state_groups * self.state_pages

    def sequence_bytes(self, tokens: int) -> int:
        return self.blocks(tokens) * self.page_bytes

    def tokens(self, size: int, of: int) -> int:
        """That so many bytes hold, by sequences of `of` tokens: what vLLM calls the size of the cache."""
        if not self.page_bytes or size <= 0:
            return 0
        # One block is nobody's: vLLM keeps it for padding; it counts it as part of the cache.
        pool = size // self.page_bytes
        if self.full_groups == 1 and not self.window_groups and not self.state_groups:
            return pool * self.block
        return int(pool / max(1, self.blocks(of)) * of)

    def longest(self, size: int, most: int) -> int:
        """The longest sequence that so many bytes hold, up to `most` tokens; in whole blocks below that."""
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.sequence_bytes(middle) <= size else (low, middle - 1)
        return low if low == most else low // self.block * self.block


def value_bytes(shape: Shape, dtype: str, cache_dtype: str) -> int:
    """Of one value in the cache. `dtype`, `cache_dtype`: vLLM's arguments; empty or `auto`: the model's."""
    asked = cache_dtype if cache_dtype not in ("", "auto") else shape.cache_dtype
    if asked.startswith(("fp8", "int8")):
        return 1
    if asked in _BYTES:
        return _BYTES[asked]
    return model_bytes(shape, dtype)


def model_bytes(shape: Shape, dtype: str) -> int:
    """Of one value of an activation. vLLM casts a model of four bytes to two unless it is told."""
    if dtype in _BYTES:
        return _BYTES[dtype]
    return min(_BYTES.get(shape.dtype, 2), 2)


def cache_of(
    shape: Shape,
    *,
    dtype: str = "",
    cache_dtype: str = "",
    tensor: int = 1,
    pipeline: int = 1,
    step_tokens: int = 2048,
    block: int = 0,
    prefixes: bool = True,
) -> Cache:
    """Of `shape` split over `tensor` * `pipeline` devices. `step_tokens`: the longest prefill of one step; `block`:
    0 for vLLM's own; `prefixes`: whether prefix caching is on."""
    kinds = {each.keeps: each for each in _split(shape.layers, pipeline)}
    full, window, state = (kinds.get(keeps) for keeps in ("full", "window", "state"))
    value = value_bytes(shape, dtype, cache_dtype)
    if latent := kinds.get("latent"):
        one = _latent_bytes(shape, value)
        return Cache(
            block=block or _BLOCK,
            token_bytes=latent.count * one,
            page_bytes=latent.count * one * (block or _BLOCK),
            full_groups=1,
        )
    heads = max(1, math.ceil(shape.kv_heads / tensor)) if shape.kv_heads else 0
    one = heads * (shape.key_dim + shape.value_dim) * value
    counts = [each.count for each in (full, window, state) if each is not None]
    if not counts:
        return Cache()
    size = _group_size(counts)
    page, tokens = _page(one, state, model_bytes(shape, dtype), tensor, block or _BLOCK)
    return Cache(
        block=tokens,
        token_bytes=one * (full.count if full else 0),
        page_bytes=page * size,
        full_groups=_groups(full, size),
        window_groups=_groups(window, size),
        window=min(window.window - 1 + step_tokens, 1 << 40) if window else 0,
        state_groups=_groups(state, size),
        state_pages=2 if prefixes and full else 1,
    )


def _split(layers: tuple[Layers, ...], pipeline: int) -> tuple[Layers, ...]:
    return tuple(msgspec.structs.replace(each, count=math.ceil(each.count / pipeline)) for each in layers)


def _latent_bytes(shape: Shape, value: int) -> int:
    if shape.sparse:
        return (_SPARSE_FP8 if value == 1 else shape.latent_dim * value) + _INDEX
    return shape.latent_dim * value


def _group_size(counts: list[int]) -> int:
    """Layers of one group: the smaller kind's, or all of the larger where the two are about as many."""
    least, most = min(counts), max(counts)
    return most if most < _ALIKE * least else least


def _groups(layers: Layers | None, size: int) -> int:
    return 0 if layers is None else math.ceil(layers.count / size)


def _page(one: int, state: Layers | None, value: int, tensor: int, block: int) -> tuple[int, int]:
    """Bytes of a block in one layer, and its tokens. A state needs a block at least as large as itself."""
    if state is None:
        return one * block, block
    needed = math.ceil((state.state_values * value + state.state_bytes) / tensor)
    if not one:
        return needed, 1 << 30  # no layer keeps tokens: one page a sequence
    tokens = max(block, math.ceil(needed / (one * block)) * block)
    return one * tokens, tokens
