"""A plan for a pool: where each engine lives, what its KV cache gets in bytes, with how many sequences and how long a
context it runs, whether all fit, and why.

    needs of each engine -> seats, by `placement` -> on each device: what is left of its share of the memory goes to the
    caches, so that all hold equally many requests of the mix -> sequences and context that so much cache holds

Pure. An engine whose memory is set by hand keeps it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from router.config import DeviceSettings, Member, device_names
from router.config.devices import spans_machines
from router.errors import ConfigError
from router.pool.devices import DeviceList
from router.pool.memory.engine import Needs, needs_of
from router.pool.memory.mix import Mix, share_of
from router.pool.memory.peak import Assumptions
from router.pool.memory.words import advice, gib, steps_of
from router.pool.placement import place
from router.pool.weights import Weights

#: On a CPU the caches get no more than this of the machine's memory together, and one no more than that.
_CPU_MEMORY = 0.3
_MOST_CPU_BYTES = 4 << 30
CPU_DEVICE = "cpu"


class EnginePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Of one engine. Bytes are of each of its devices."""

    name: str
    devices: tuple[str, ...] = ()
    fits: bool
    weight_bytes: int
    kv_token_bytes: int  #: of one token, in the layers that keep every token
    kv_bytes: int
    kv_tokens: int  #: that the cache holds, as vLLM counts them
    activation_bytes: int
    overhead_bytes: int  #: CUDA graphs and libraries
    context_bytes: int  #: of CUDA
    max_num_seqs: int
    max_model_len: int  #: 0: not known
    sleep_frees_bytes: int  #: weights and cache; the rest stays
    sleep_host_bytes: int  #: of main memory, that level 1 keeps the weights in; all devices together
    unknown: str = ""  #: what cannot be known
    bound: bool = False  #: the cache is an upper bound
    why: tuple[str, ...] = ()  #: each number, in words
    advice: tuple[str, ...] = ()  #: where it does not fit: what to change
    engine_args: dict[str, Any] = {}  #: that the plan adds to those of the member


class DevicePlan(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    memory_bytes: int
    planned_bytes: int
    engines: tuple[str, ...]


class PoolPlan(msgspec.Struct, frozen=True, kw_only=True):
    fits: bool
    why: str = ""  #: it does not
    engines: tuple[EnginePlan, ...]
    devices: tuple[DevicePlan, ...]
    mix: Mix
    assumed: Assumptions
    mps: bool = False  #: engines share devices by NVIDIA's MPS


def plan(
    pool: Sequence[Member],
    weights: Sequence[Weights],
    found: DeviceList,
    memory_bytes: int,
    settings: Mapping[str, DeviceSettings],
    mix: Mix,
    assumed: Assumptions,
) -> PoolPlan:
    """`weights`: of each member; `memory_bytes`: of the machine, where engines live on the CPU. Raises `ConfigError`
    where the devices' memory is not known, or a member names a device that does not exist."""
    cpu = found.kind == CPU_DEVICE
    memory = _memory(found, memory_bytes)
    engines = [i for i, member in enumerate(pool) if member.kind == "engine" and not spans_machines(member)]
    needs = {}
    for i in engines:
        at = _largest(pool[i], found, memory_bytes)
        share = share_of(mix, pool[i].name, len(engines))
        needs[i] = needs_of(pool[i], weights[i], mix, share, assumed, memory_bytes=at[0], device=at[1], cpu=cpu)
    seats, why = _seats(pool, needs, found, settings, mix, cpu=cpu)
    room = {
        name: total - sum(needs[i].context_bytes for i in seats if name in seats[i]) for name, total in memory.items()
    }
    budget = {name: min(assumed.memory_share * memory[name], left) for name, left in room.items()}
    caches = _caches(needs, seats, budget, memory, mix, cpu=cpu)
    planned = tuple(_engine_plan(needs[i], seats.get(i, ()), caches.get(i, 0), mix, memory) for i in engines)
    short = next((f"{one.name!r} does not fit: {one.why[-1]}" for one in planned if not one.fits), "")
    return PoolPlan(
        fits=not why and not short,
        why=why or short,
        engines=planned,
        devices=_device_plans(planned, memory),
        mix=mix,
        assumed=assumed,
    )


def _memory(found: DeviceList, memory_bytes: int) -> dict[str, int]:
    if found.kind == "unlisted":
        how = "`headgate plan --device-memory 80GiB --devices 2 --write FILE` plans for what it is told"
        raise ConfigError(f"the devices' memory is not known ({found.why}): {how}")
    sizes = {str(i): device.memory_bytes for i, device in enumerate(found.devices)} or {CPU_DEVICE: memory_bytes}
    for name, size in sizes.items():
        if size <= 0:
            raise ConfigError(f"device {name}: expected memory above 0, got {size} bytes")
    return sizes


def _largest(member: Member, found: DeviceList, memory_bytes: int) -> tuple[int, str]:
    """Memory and name of the device that it will probably live on: vLLM's defaults follow from them."""
    named = found.of(device_names(member)) or found.devices
    if not named:
        return memory_bytes, ""
    best = max(named, key=lambda device: device.memory_bytes)
    return best.memory_bytes, best.name


def _seats(
    pool: Sequence[Member],
    needs: Mapping[int, Needs],
    found: DeviceList,
    settings: Mapping[str, DeviceSettings],
    mix: Mix,
    *,
    cpu: bool,
) -> tuple[dict[int, tuple[str, ...]], str]:
    """The devices of each engine, or why there is no room."""
    if cpu:
        return dict.fromkeys(needs, (CPU_DEVICE,)), ""
    sizes = [needs[i].weights.size if i in needs else 0 for i in range(len(pool))]
    beside = {
        i: float(one.fixed_bytes - one.weight_bytes + one.context_bytes + _least(one, mix)) for i, one in needs.items()
    }
    try:
        places = place(pool, found, sizes, settings, beside)
    except ConfigError as error:
        if "there is no device" in str(error) or "stands twice" in str(error):
            raise
        return {}, str(error)
    return {i: places[i].devices for i in needs}, ""


def _least(needs: Needs, mix: Mix) -> int:
    """The cache that it cannot do without: one sequence, of the context that it must have or of the mix."""
    if needs.kv_bytes is not None:
        return 0  # placed by its own size
    tokens = needs.context_tokens if needs.context_given else min(mix.tokens, needs.context_tokens or mix.tokens)
    return needs.cache.sequence_bytes(tokens)


def _caches(
    needs: Mapping[int, Needs],
    seats: Mapping[int, tuple[str, ...]],
    budget: Mapping[str, float],
    memory: Mapping[str, int],
    mix: Mix,
    *,
    cpu: bool,
) -> dict[int, int]:
    """Bytes of each engine's cache, on each of its devices; below 0: so much is missing."""
    caches: dict[int, int] = {}
    for name, most in budget.items():
        here = [i for i, seat in seats.items() if name in seat]
        sized = {i: kv for i in here if (kv := _by_hand(needs[i], memory[name])) is not None}
        left = most - sum(needs[i].fixed_bytes for i in here) - sum(sized.values())
        others = [i for i in here if i not in sized]
        if cpu:
            left = min(left, _CPU_MEMORY * memory[name], _MOST_CPU_BYTES * len(others))
        for i, size in {**sized, **_divided(left, others, needs, mix)}.items():
            caches[i] = min(caches.get(i, size), size)
    return caches


def _by_hand(needs: Needs, memory: int) -> int | None:
    """What the member's own arguments give its cache; None: nothing is set."""
    if needs.kv_bytes is not None:
        return needs.kv_bytes
    return None if needs.share is None else int(needs.share * memory) - needs.fixed_bytes


def _divided(left: float, others: Sequence[int], needs: Mapping[int, Needs], mix: Mix) -> dict[int, int]:
    """First what each cannot do without; the rest so that all hold equally many requests of the mix."""
    least = {i: _least(needs[i], mix) for i in others}
    rest = left - sum(least.values())
    sizes = {i: max(1, needs[i].cache.sequence_bytes(mix.tokens)) for i in others}
    if rest < 0:  # told of each as it is, so that the first one short is named
        return {i: math.floor(least[i] + rest) for i in others}
    return {i: math.floor(least[i] + rest * sizes[i] / sum(sizes.values())) for i in others}


def _engine_plan(needs: Needs, seat: tuple[str, ...], kv: int, mix: Mix, memory: Mapping[str, int]) -> EnginePlan:
    cache, seated = needs.cache, bool(seat)
    context = _context(needs, max(kv, 0)) if seated else needs.context_tokens
    sequences = needs.step.sequences
    if cache.page_bytes and mix.told and not needs.sequences_given:
        held = max(kv, 0) // max(1, cache.sequence_bytes(min(mix.tokens, context or mix.tokens)))
        sequences = max(1, min(sequences, held))
    missing = _missing(needs, kv, context, mix) if seated else ""
    fits = seated and not missing and kv >= 0
    told = {"kv_cache_memory_bytes": kv} if fits and needs.weight_bytes else {}
    if told and mix.told:  # else vLLM's own number, which is many: they are of any length
        told["max_num_seqs"] = sequences
    if told and context and cache.page_bytes:
        told["max_model_len"] = context
    return EnginePlan(
        name=needs.name,
        devices=() if seat == (CPU_DEVICE,) else seat,
        fits=fits,
        weight_bytes=needs.weight_bytes,
        kv_token_bytes=cache.token_bytes,
        kv_bytes=max(kv, 0),
        kv_tokens=cache.tokens(kv, context or mix.tokens),
        activation_bytes=needs.activation_bytes,
        overhead_bytes=needs.overhead_bytes,
        context_bytes=needs.context_bytes,
        max_num_seqs=sequences,
        max_model_len=context,
        sleep_frees_bytes=needs.weight_bytes + max(kv, 0),
        sleep_host_bytes=needs.weights.size,
        unknown=unknown_of(needs),
        bound="upper bound" in needs.shape.unknown,
        why=(*steps_of(needs, kv, [memory[name] for name in seat if name in memory]), *([missing] if missing else [])),
        advice=() if fits else advice(needs, kv, mix),
        engine_args=_left_open(needs, told),
    )


def unknown_of(needs: Needs) -> str:
    found = needs.weights
    if not found.found:
        return "its files are not on this machine: neither weights nor config.json can be read"
    if found.missing:
        names = ", ".join(found.missing[:3]) + (", ..." if len(found.missing) > 3 else "")
        return f"{len(found.missing)} of its files are missing ({names}): its weights take more than {gib(found.size)}"
    if not found.size:
        return "no file of weights was found in its folder"
    return needs.shape.unknown


def _context(needs: Needs, kv: int) -> int:
    """The context that it runs with: as given, the model's own, or as long as fits."""
    if needs.context_given or not needs.cache.page_bytes or not needs.context_tokens:
        return needs.context_tokens
    return needs.cache.longest(kv, needs.context_tokens)


def _missing(needs: Needs, kv: int, context: int, mix: Mix) -> str:
    """Why the cache is too small, or empty."""
    if kv < 0:
        return f"it lacks {gib(-kv)} before its KV cache gets anything"
    wanted = context if needs.context_given else min(mix.tokens, needs.context_tokens or mix.tokens)
    size = needs.cache.sequence_bytes(wanted)
    if size > kv:
        return f"one sequence of {wanted:,} tokens takes {gib(size)} of KV cache, and {gib(kv)} is left for it"
    return ""


def _left_open(needs: Needs, told: dict[str, Any]) -> dict[str, Any]:
    """Without what the member's own arguments say. A share of the memory says what the cache gets."""
    given = {"kv_cache_memory_bytes"} if needs.kv_bytes is not None or needs.share is not None else set()
    given |= {"max_num_seqs"} if needs.sequences_given else set()
    given |= {"max_model_len"} if needs.context_given else set()
    return {key: value for key, value in told.items() if key not in given}


def _device_plans(engines: Sequence[EnginePlan], memory: Mapping[str, int]) -> tuple[DevicePlan, ...]:
    plans = []
    for name, total in memory.items():
        here = [one for one in engines if name in one.devices or (name == CPU_DEVICE and not one.devices)]
        taken = (
            one.weight_bytes + one.kv_bytes + one.activation_bytes + one.overhead_bytes + one.context_bytes
            for one in here
        )
        names = tuple(one.name for one in here)
        plans.append(DevicePlan(name=name, memory_bytes=total, planned_bytes=sum(taken), engines=names))
    return tuple(plans)
