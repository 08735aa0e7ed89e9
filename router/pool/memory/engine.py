"""What one engine needs on each of its devices, before it is decided what its KV cache gets."""

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from router.config import Member, by_argument_name, devices_needed, switched_on
from router.pool.memory.cache import Cache, cache_of
from router.pool.memory.mix import Mix, at_once
from router.pool.memory.peak import Assumptions, Step, activation_bytes, overhead_bytes, step_defaults
from router.pool.memory.shape import Shape, shape_of
from router.pool.placement import bytes_of
from router.pool.weights import Weights

#: Of a model whose `config.json` does not tell its sizes.
_ACTIVATIONS: Final = 1 << 30
#: More sequences than the mix asks for, as traffic is never even; in steps.
_SPARE: Final = 1.25
_STEP: Final = 8


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """Of one engine, on each of its devices."""

    name: str
    shape: Shape
    weights: Weights
    tensor: int = 1
    devices: int = 1
    weight_bytes: int = 0  #: on one device; 0: not known
    cache: Cache
    step: Step
    activation_bytes: int = 0
    overhead_bytes: int = 0  #: graphs and what libraries take
    context_bytes: int = 0  #: of CUDA; vLLM does not count it
    share: float | None = None  #: `gpu_memory_utilization`, where the member has one
    kv_bytes: int | None = None  #: `kv_cache_memory_bytes`, where the member has it
    context_tokens: int = 0  #: `max_model_len` that it must have, or the model's; 0: not known
    context_given: bool = False
    sequences_given: bool = False

    @property
    def fixed_bytes(self) -> int:
        """All but the KV cache, as vLLM counts."""
        return self.weight_bytes + self.activation_bytes + self.overhead_bytes


def needs_of(
    member: Member,
    weights: Weights,
    mix: Mix,
    share: float,
    assumed: Assumptions,
    *,
    memory_bytes: int,
    device: str,
    cpu: bool,
) -> Needs:
    """`share`: of the requests; `memory_bytes`, `device`: of one that it may live on."""
    given = by_argument_name(member.engine_args)
    shape = shape_of(weights.card)
    devices, tensor = devices_needed(member), _whole(given.get("tensor_parallel_size")) or 1
    copies = _whole(given.get("data_parallel_size_local")) or _whole(given.get("data_parallel_size")) or 1
    step = _step(given, mix, member, share, step_defaults(memory_bytes, device, cpu=cpu))
    dtype, graphs = str(given.get("dtype") or ""), not cpu and not switched_on(given.get("enforce_eager"))
    if "tensor_parallel_size" not in given and devices > copies:
        tensor = max(1, devices // (copies * (_whole(given.get("pipeline_parallel_size")) or 1)))
    return Needs(
        name=member.name,
        shape=shape,
        weights=weights,
        tensor=tensor,
        devices=devices,
        weight_bytes=math.ceil(weights.size / max(1, devices // copies)),
        cache=cache_of(
            shape,
            dtype=dtype,
            cache_dtype=str(given.get("kv_cache_dtype") or ""),
            tensor=tensor,
            pipeline=_whole(given.get("pipeline_parallel_size")) or 1,
            step_tokens=step.tokens,
            block=_whole(given.get("block_size")) or (32 if cpu else 0),
            prefixes=given.get("enable_prefix_caching") not in (False, "false", "False"),
        ),
        step=step,
        activation_bytes=activation_bytes(shape, step, dtype, tensor, assumed) if shape.hidden else _ACTIVATIONS,
        overhead_bytes=overhead_bytes(assumed, devices=devices, graphs=graphs),
        context_bytes=assumed.context_bytes,
        share=_fraction(given.get("gpu_memory_utilization")),
        kv_bytes=_whole(bytes_of(given.get("kv_cache_memory_bytes"))) or None,
        context_tokens=_whole(given.get("max_model_len")) or shape.context_tokens,
        context_given=_whole(given.get("max_model_len")) > 0,
        sequences_given=_whole(given.get("max_num_seqs")) > 0,
    )


def _step(given: Mapping[str, Any], mix: Mix, member: Member, share: float, default: Step) -> Step:
    tokens = _whole(given.get("max_num_batched_tokens")) or default.tokens
    sequences = _whole(given.get("max_num_seqs"))
    if not sequences:
        wanted = at_once(mix, share, member.prefill_tokens_per_s, member.time_per_output_token_s)
        spare = default.sequences if wanted is None else math.ceil(max(1.0, wanted * _SPARE) / _STEP) * _STEP
        sequences = min(spare, default.sequences)
    return Step(tokens=tokens, sequences=sequences)


def _whole(value: object) -> int:
    """0 for what is none above 0, or is none: vLLM itself will say so."""
    try:
        number = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else 0
    except ValueError:
        return 0
    return number if 0 < number < 1 << 50 else 0


def _fraction(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1:
        return float(value)
    return None
