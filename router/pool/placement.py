"""Decides on which devices each engine lives and which share of their memory it takes, so that all fit together.

    named devices stay -> the others, largest first, to the cheapest devices that have room, of these to the emptiest
        -> on each device what is sized stays -> what is left of 90 % goes to the others: what each needs, and as much
           more for each

Pure: the same pool, devices and sizes give the same places. Free memory is not looked at: who asks again while engines
run must get the same answer. Knows no file and no driver.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from router.config import (
    CPU,
    VISIBLE_DEVICES,
    DeviceSettings,
    Member,
    argument_name,
    by_argument_name,
    device_names,
    devices_needed,
)
from router.config.devices import spans_machines, tensor_parallel_size
from router.errors import ConfigError
from router.pool.devices import DeviceList, is_index

#: Of a device's memory, by all engines that are not sized otherwise; the rest is for CUDA contexts and activations.
_MEMORY: Final = 0.9
#: Bytes that an engine needs beside its weights, at the least: activations, CUDA's context, some KV cache.
_BESIDE: Final = 1 << 30
_GIB: Final = 1 << 30
_ROUNDING: Final = 1e-9
#: vLLM's: the model's own context, or what its share of the memory holds of it.
AS_LONG_AS_FITS: Final = -1
_UTILISATION: Final = "gpu_memory_utilization"
_KV_BYTES: Final = "kv_cache_memory_bytes"
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kKmMgGtT])")
_ALL: Final = ("",)  #: the devices of an engine that sees all, where they are not known


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where one member lives."""

    devices: tuple[str, ...] = ()  #: indices; none: the CPU, another machine, or all devices where they are not known
    engine_args: dict[str, Any] = {}  #: what its engine must be told beyond what it is


class _Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an engine's size, by bytes of each of its devices; of unlisted devices, by shares."""

    at: int  #: in the pool
    name: str
    count: int  #: devices
    weights: float
    share: float | None  #: of the memory, where it is given
    kv: float | None  #: bytes, where they are given
    beside: float

    @property
    def need(self) -> float:
        return self.weights + (self.kv or 0.0) + self.beside

    @property
    def sized(self) -> bool:
        """Whether what it takes is known: the others get the rest."""
        return self.share is not None or (self.kv is not None and self.weights > 0)

    def takes(self, memory: float) -> float:
        """Of one device of so much memory, at the least."""
        return self.need if self.share is None else self.share * memory


def place(
    pool: Sequence[Member],
    found: DeviceList,
    weights: Sequence[int],
    settings: Mapping[str, DeviceSettings],
    beside: Mapping[int, float] | None = None,
) -> tuple[Place, ...]:
    """A place for each member. `weights`: bytes of each member's, 0 where not known; `settings`: by index; `beside`:
    bytes that a member's engine needs beside its weights, on each device, where more is known than `_BESIDE`. Raises
    `ConfigError` with the key, and the numbers, where a device does not exist or the engines do not fit."""
    engines = [i for i, member in enumerate(pool) if member.kind == "engine" and not spans_machines(member)]
    if found.kind == "cpu":
        for i in engines:
            _refuse_devices(pool[i], i, found)
        return tuple(Place() for _ in pool)
    listed = found.kind == "listed"
    known = beside or {}
    wishes = {i: _wish(pool[i], i, weights[i], known.get(i, _BESIDE), listed=listed) for i in engines}
    seats = {i: _named(pool[i], i, found) for i in engines}
    if listed:
        memory = {str(i): float(device.memory_bytes) for i, device in enumerate(found.devices)}
        _seat_the_others(pool, wishes, seats, memory, settings)
    else:
        seats = {i: seat or _ALL for i, seat in seats.items()}
        memory = {name: 1.0 for seat in seats.values() for name in seat}
    shares = _shares(wishes, seats, memory)
    return tuple(
        Place(devices=tuple(filter(None, seats[i])), engine_args=_arguments(member, wishes[i], shares[i]))
        if i in seats
        else Place()
        for i, member in enumerate(pool)
    )


def at_index(settings: Mapping[str, DeviceSettings], found: DeviceList) -> dict[str, DeviceSettings]:
    """By index, whatever they were named by. Raises `ConfigError` where there is no such device."""
    by_index: dict[str, DeviceSettings] = {}
    for name, one in settings.items():
        index = found.find(name) if found.kind != "unlisted" else name
        if index is None:
            raise ConfigError(f"there is no device {name}; {found.told()} - at `$.devices.{name}`")
        if str(index) in by_index:
            raise ConfigError(f"the device {index} stands twice, by index and by UUID - at `$.devices.{name}`")
        by_index[str(index)] = one
    return by_index


# Devices


def _named(member: Member, i: int, found: DeviceList) -> tuple[str, ...]:
    """The devices that a member says it lives on; none where it does not say."""
    names = device_names(member)
    if CPU in names:
        raise ConfigError(f"the vLLM that is installed runs on GPUs, not on the CPU - at `$.pool[{i}].devices`")
    if not names:
        return _by_variable(member, i, found)
    if found.kind == "unlisted":
        for name in names:
            if found.visible and is_index(name) and int(name) >= len(found.visible):
                shown = f"{found.variable}={','.join(found.visible)}"
                raise ConfigError(f"there is no device {name}: {shown} shows others - at `$.pool[{i}].devices`")
        return names
    seats = [found.find(name) for name in names]
    for name, seat in zip(names, seats, strict=True):
        if seat is None:
            raise ConfigError(f"there is no device {name}; {found.told()} - at `$.pool[{i}].devices`")
    if len(set(seats)) < len(seats):
        raise ConfigError(f"a device stands twice, by index and by UUID - at `$.pool[{i}].devices`")
    return tuple(map(str, seats))


def _by_variable(member: Member, i: int, found: DeviceList) -> tuple[str, ...]:
    """As an `env` of the member says, where it does: all of the machine are meant there, not those that we may use.
    Raises `ConfigError` for what would show the engine another device than it is charged for, or none."""
    if found.kind == "unlisted":
        text = next((member.env[name] for name in VISIBLE_DEVICES if name in member.env), "")
        return tuple(part.strip() for part in text.split(",") if part.strip())
    variable = VISIBLE_DEVICES[0]
    if variable not in member.env:
        return ()
    parts = [part.strip() for part in member.env[variable].split(",")]
    by_id = {device.variable: at for at, device in enumerate(found.devices)}
    named: list[str] = []
    for part in parts:
        index = by_id.get(part) if is_index(part) else found.find(part)
        twice = str(index) in named
        if index is None or twice:
            there = ", ".join(f"{device.variable} ({device.name}, {device.uuid})" for device in found.devices)
            why = "stands twice" if twice else f"is no device that this server may use; there are {there}"
            shown = f"{variable}={member.env[variable]}"
            raise ConfigError(f"{shown}: {part!r} {why} - at `$.pool[{i}].env.{variable}`")
        named.append(str(index))
    return tuple(named)


def _refuse_devices(member: Member, i: int, found: DeviceList) -> None:
    names = device_names(member)
    if names and names != (CPU,):
        raise ConfigError(f"there is no device {names[0]}: {found.why}; {found.told()} - at `$.pool[{i}].devices`")


def _seat_the_others(
    pool: Sequence[Member],
    wishes: Mapping[int, _Wish],
    seats: dict[int, tuple[str, ...]],
    memory: Mapping[str, float],
    settings: Mapping[str, DeviceSettings],
) -> None:
    """Give devices to those that name none: the largest first."""
    for i in sorted((i for i, seat in seats.items() if not seat), key=lambda i: (-wishes[i].need, i)):
        wish = wishes[i]
        here = {name: [wishes[j] for j, seat in seats.items() if name in seat] for name in memory}
        roomy = [name for name, total in memory.items() if _room(total, [*here[name], wish]) >= 0]
        left = {name: _room(total, here[name]) for name, total in memory.items()}
        price = {name: _price(pool[i], name, settings) for name in roomy}
        roomy.sort(key=lambda name: (price[name], -left[name], int(name)))
        # One share goes for all its devices: they are of one size.
        alike = [[name for name in roomy if memory[name] == size] for size in {memory[name]: 0 for name in roomy}]
        chosen = [names[: wish.count] for names in alike if len(names) >= wish.count]
        if not chosen:
            raise ConfigError(f"{_no_room(wish, left, memory)} - at `$.pool[{i}]`")
        best = min(chosen, key=lambda names: sum(price[name] for name in names))  # the first of equals
        seats[i] = tuple(sorted(best, key=int))


def _price(member: Member, name: str, settings: Mapping[str, DeviceSettings]) -> float:
    usd = settings[name].usd_per_hour if name in settings else None
    return member.usd_per_hour if usd is None else usd


def _no_room(wish: _Wish, left: Mapping[str, float], memory: Mapping[str, float]) -> str:
    if len(memory) < wish.count:
        return f"{wish.name!r} needs {wish.count} devices; there are {len(memory)}"
    devices = ", ".join(f"{_gib(max(0.0, left[name]))} of {_gib(total)} on {name}" for name, total in memory.items())
    needs = f"{wish.share:g} of the memory" if wish.share is not None else _needs(wish)
    alike = " of one size" if wish.count > 1 else ""
    return f"{wish.name!r} needs {needs} on {_devices(wish.count)}{alike}; the other members leave {devices}"


# Memory


def _wish(member: Member, i: int, weights: int, beside: float, *, listed: bool) -> _Wish:
    given = by_argument_name(member.engine_args)
    count = devices_needed(member)
    # Each rank of data parallelism holds all weights.
    copies = _number(given.get("data_parallel_size_local") or given.get("data_parallel_size")) or 1.0
    kv = _number(bytes_of(given.get(_KV_BYTES)))
    return _Wish(
        at=i,
        name=member.name,
        count=count,
        weights=weights / max(1.0, count / copies) if listed else 0.0,
        share=_number(given.get(_UTILISATION)),
        kv=kv if kv is None or listed else 0.0,
        beside=beside if listed else 0.0,
    )


def bytes_of(value: object) -> object:
    """A size in words as vLLM reads it (`human_readable_int`): of `4g` 10^9 each, of `4G` 2^30; anything else as it
    is."""
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return value
    number, suffix = match.groups()
    power = "kmgt".index(suffix.lower()) + 1
    if suffix.islower():
        return int(float(number) * 1000**power)
    return None if "." in number else int(number) * 1024**power


def _number(value: object) -> float | None:
    """None for what vLLM will refuse, too, or reads in a way of its own."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else 0.0
    except (ValueError, OverflowError):
        return None
    return number if number > 0 and math.isfinite(number) else None


def _shares(
    wishes: Mapping[int, _Wish], seats: Mapping[int, tuple[str, ...]], memory: Mapping[str, float]
) -> dict[int, float | None]:
    """Of the memory of each of its devices, by member; None: it is alone, and vLLM's default does."""
    shares: dict[int, float] = {}
    shared: set[int] = set()
    for name, total in memory.items():
        here = [wishes[i] for i, seat in seats.items() if name in seat]
        if len(here) > 1:
            shared.update(wish.at for wish in here)
        for i, share in _shares_of(name, total, here).items():
            shares[i] = min(shares.get(i, 1.0), share)
    for i in sorted(shared):
        small = min(seats[i], key=memory.__getitem__)
        if wishes[i].share is None and wishes[i].need > (shares[i] + 0.001) * memory[small]:
            why = f"the share that is left for it of its largest device, {shares[i]:g}, is too little of device {small}"
            needs = f"{wishes[i].name!r} needs {_needs(wishes[i])} on each device"
            raise ConfigError(f"{needs}; {why} - at `$.pool[{i}].devices`")
    return {i: shares.get(i) if i in shared else None for i in wishes}


def _shares_of(name: str, total: float, here: Sequence[_Wish]) -> dict[int, float]:
    """Of one device. Raises `ConfigError` where they do not fit together."""
    where = f"device {name}, of {_gib(total)}," if total != 1.0 else f"device {name}" if name else "the GPU"
    for wish in here:
        if wish.share is not None and wish.weights > wish.share * total:
            why = f"its weights alone take {_gib(wish.weights)}, {wish.share:g} of {_gib(total)}"
            at = f"$.pool[{wish.at}].engine_args.{_UTILISATION}"
            raise ConfigError(f"{wish.name!r}: {why} are {_gib(wish.share * total)} - at `{at}`")
    room, others = _room(total, here), [wish for wish in here if not wish.sized]
    if room < 0:
        told = ", ".join(f"{w.name!r} {_taken(w, total)}" for w in here)
        raise ConfigError(f"{where} has no room for its engines: {told} - at `$.pool[{here[-1].at}]`")
    shares = {wish.at: _up(wish.takes(total) / total) for wish in here if wish.sized}
    return shares | {wish.at: _down((wish.takes(total) + room / len(others)) / total) for wish in others}


def _room(total: float, here: Sequence[_Wish]) -> float:
    """What is left of one device when each has what it needs; below 0 they do not fit."""
    others = [wish.takes(total) for wish in here if not wish.sized]
    whole = total * (_MEMORY if others and len(here) > 1 else 1.0)
    left = whole - sum(wish.takes(total) for wish in here)
    if others and left + sum(others) <= _ROUNDING * total:  # nothing at all, where needs are not known
        return -1.0
    return left if abs(left) > _ROUNDING * total else 0.0


def _up(share: float) -> float:
    return min(1.0, math.ceil(share * 1000 - 1e-9) / 1000)


def _down(share: float) -> float:
    return max(0.001, math.floor(share * 1000 + 1e-9) / 1000)


def _arguments(member: Member, wish: _Wish, share: float | None) -> dict[str, Any]:
    """What the engine must be told of its place."""
    given = {argument_name(key) for key in member.engine_args}
    told: dict[str, Any] = {}
    if size := tensor_parallel_size(member):
        told["tensor_parallel_size"] = size
    if share is not None and _UTILISATION not in given:
        # Of an engine that is sized by its KV cache vLLM still asks that so much memory is free as it starts.
        told[_UTILISATION] = share
        if wish.kv is None and "max_model_len" not in given:
            told["max_model_len"] = AS_LONG_AS_FITS
    return told


def _taken(wish: _Wish, total: float) -> str:
    if wish.share is not None:
        return f"takes {wish.share:g}"
    return f"needs {_needs(wish)}" if total != 1.0 else "needs some"


def _needs(wish: _Wish) -> str:
    parts = [f"weights {_gib(wish.weights)}"] if wish.weights else []
    parts += [f"KV cache {_gib(wish.kv)}"] if wish.kv else []
    return f"{_gib(wish.need)} ({' + '.join([*parts, f'{_gib(wish.beside)} beside'])})"


def _devices(count: int) -> str:
    return "one device" if count == 1 else f"each of {count} devices"


def _gib(size: float) -> str:
    return f"{size / _GIB:.1f} GiB"
