"""Whether a config has the engines that a running server has: a takeover starts, changes and ends none."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from router.config import Config, Member, argument_name, by_argument_name
from router.errors import ConfigError
from router.ipc.handover import Daemon, Held
from router.pool.mps import wanted

#: Of `engine_args`, set where the config does not: another release may set others, and a running engine has its.
_DEFAULTED: Final = frozenset({
    "gpu_memory_utilization", "max_model_len", "tensor_parallel_size",
    "block_size", "enforce_eager", "kv_cache_memory_bytes",
})  # fmt: skip
#: What the frontend alone reads, or an engine when it is started again, and what is told apart.
_MAY_DIFFER: Final = frozenset({
    "also", "like", "strength", "env", "usd_per_hour", "gpu_share", "weight",
    "prefill_tokens_per_s", "time_per_output_token_s", "mean_output_tokens",
    "name", "kind", "engine_args", "devices",
})  # fmt: skip
_HOW = "a takeover changes no engine; add, remove or replace it before or after it"


def held(pool: Sequence[Member]) -> tuple[Held, ...]:
    """The engines of `pool`, as the other process reads them: JSON knows no tuples."""
    engines = [
        {
            "name": member.name,
            "engine_args": member.engine_args,
            "settings": _settings(member),
            "devices": member.devices,
        }
        for member in pool
        if member.kind == "engine"
    ]
    return msgspec.json.decode(msgspec.json.encode(engines), type=tuple[Held, ...])


def check_same_engines(pool: Sequence[Member], running: Sequence[Held]) -> None:
    """Raises `ConfigError` naming the member and what differs. Members by URL may differ: each process has its own."""
    ours, theirs = {engine.name: engine for engine in held(pool)}, {engine.name: engine for engine in running}
    for name in theirs.keys() - ours.keys():
        raise ConfigError(f"the running server has an engine {name!r}, this config has none: {_HOW}")
    for name in ours.keys() - theirs.keys():
        raise ConfigError(f"this config has an engine {name!r}, the running server has none: {_HOW}")
    for name, engine in ours.items():
        _check_same(name, engine, theirs[name])


def check_same_mps(config: Config, running: Daemon | None) -> None:
    """Engines that run are under MPS, or not. Raises `ConfigError`."""
    if wanted(config) != (running is not None):
        ours, theirs = ("on", "off") if running is None else ("off", "on")
        raise ConfigError(
            f"`gpu.mps` is {theirs} in the running server, {ours} in this config: a takeover changes no engine; end"
            " that server and start this one"
        )


def as_running(config: Config, running: Sequence[Held]) -> Config:
    """`config`, where its engines are the same, with the devices and arguments that they were given and it leaves open:
    they need no place any more."""
    engines = {engine.name: engine for engine in running}
    pool = [_as_running(member, engines[member.name]) if member.name in engines else member for member in config.pool]
    return msgspec.structs.replace(config, pool=tuple(pool))


def check_same_devices(pool: Sequence[Member], running: Sequence[Held]) -> None:
    """`pool`: placed. Raises `ConfigError`."""
    devices = {engine.name: engine.devices for engine in running}
    for engine in held(pool):
        _check_equal(engine.name, "devices", engine.devices, devices[engine.name])


def _as_running(member: Member, running: Held) -> Member:
    named = {argument_name(key) for key in member.engine_args}
    given = {key: value for key, value in running.engine_args.items() if argument_name(key) not in named}
    devices = member.devices if running.devices is None or member.devices is not None else tuple(running.devices)
    return msgspec.structs.replace(member, engine_args={**given, **member.engine_args}, devices=devices)


def _settings(member: Member) -> dict[str, Any]:
    """That are not the default: another release may have more of them."""
    values = msgspec.to_builtins(member)
    defaults = msgspec.to_builtins(Member(name=member.name))
    return {key: value for key, value in values.items() if key not in _MAY_DIFFER and value != defaults[key]}


def _check_same(name: str, ours: Held, theirs: Held) -> None:
    for key in sorted(ours.settings.keys() | theirs.settings.keys()):
        _check_equal(name, key, ours.settings.get(key), theirs.settings.get(key))
    new = by_argument_name(ours.engine_args)
    old = by_argument_name(theirs.engine_args)
    for key in sorted(new.keys() | old.keys()):
        if key in new or key not in _DEFAULTED:
            _check_equal(name, f"engine_args.{key}", new.get(key), old.get(key))


def _check_equal(name: str, key: str, ours: Any, theirs: Any) -> None:
    if ours != theirs:
        raise ConfigError(
            f"engine {name!r}: `{key}` is {_text(theirs)} in the running server, {_text(ours)} in this config: {_HOW}"
        )


def _text(value: Any) -> str:
    return "not set" if value is None else repr(value)[:100]
