"""What an engine takes beside weights and KV cache: activations of its largest step, CUDA graphs, CUDA's context.

The activations are an estimate, the larger of two: what one layer holds of the longest step, and what sampling holds of
all sequences' logits. Both are held against engine logs of real GPUs in `tests/pool/memory/test_recorded.py`.
"""

import math
from typing import Final

import msgspec

from router.pool.memory.cache import model_bytes
from router.pool.memory.shape import Shape

_GIB: Final = 1 << 30


class Assumptions(msgspec.Struct, frozen=True, kw_only=True):
    """What no file tells. Bytes are of one engine on one device."""

    memory_share: float = 0.9  #: of a device's memory, by all of its engines' weights, caches and activations
    context_bytes: int = 512 << 20  #: CUDA's context and loaded kernels; outside of what vLLM counts as its own
    graphs_bytes: int = 672 << 20  #: CUDA graphs, where they are captured
    beside_bytes: int = 64 << 20  #: allocated past PyTorch, by attention's and sampling's libraries
    group_bytes: int = 128 << 20  #: the same by collectives, where several devices work together
    #: float32 logits of all sequences that sampling holds at once: top-k and top-p sort them. By engine logs 7.2 in
    #: vLLM 0.26, 9.7 up to 0.15.
    logit_copies: float = 7.2


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """The largest step of an engine."""

    tokens: int  #: `max_num_batched_tokens`
    sequences: int  #: `max_num_seqs`


def step_defaults(memory_bytes: int, device: str, *, cpu: bool) -> Step:
    """vLLM's own, of its API server (`EngineArgs.get_batch_defaults`, 0.32). `device`: its name."""
    if cpu:
        return Step(tokens=2048, sequences=128)
    if memory_bytes >= 160 * _GIB:
        return Step(tokens=16384, sequences=1024)
    if memory_bytes >= 70 * _GIB and "a100" not in device.lower():
        return Step(tokens=8192, sequences=1024)
    return Step(tokens=2048, sequences=256)


def activation_bytes(shape: Shape, step: Step, dtype: str, tensor: int, assumed: Assumptions) -> int:
    """At the peak of one step, on one device.

    layer     tokens * bytes of a value * (3 I / devices + 4 H)        I, H: width of the MLP, of the model
    experts   tokens * bytes of a value * (k * (3 I / devices + H) + 4 H)    k: experts of a token
    logits    sequences * vocabulary * 4 bytes * copies
    """
    wide = 3 * math.ceil(shape.intermediate / tensor)
    k = shape.experts_per_token
    values = (k * (wide + shape.hidden) if k else wide) + 4 * shape.hidden
    layer = step.tokens * model_bytes(shape, dtype) * values
    logits = int(min(step.sequences, step.tokens) * shape.vocabulary * 4 * assumed.logit_copies)
    return max(layer, logits)


def overhead_bytes(assumed: Assumptions, *, devices: int, graphs: bool) -> int:
    """Beside weights, cache and activations, within what vLLM counts; on one device."""
    group = assumed.group_bytes if devices > 1 else 0
    return assumed.beside_bytes + group + (assumed.graphs_bytes if graphs else 0)
