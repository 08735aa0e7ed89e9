"""The LoRA adapters that `engine_args.lora_modules` names: read as vLLM's `--lora-modules`, and what can be known of
them before an engine is started. Each is a model name of its own.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from router.config.engine_args import argument_name, switched_on
from router.config.names import fault_of_name, means_a_route
from router.config.tree import Config, Member
from router.errors import ConfigError
from router.types import Adapter

_MODULES, _SWITCH, _RANK = "lora_modules", "enable_lora", "max_lora_rank"
#: vLLM's own, where `max_lora_rank` does not say otherwise.
_DEFAULT_RANK = 16
_CARD = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "adapter_model.pt")


class _Module(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    name: str
    path: str
    base_model_name: str | None = None
    is_3d_lora_weight: bool = False


class _Card(msgspec.Struct):
    """What is read of an adapter's own file."""

    r: int
    rank_pattern: dict[str, int] | None = None


def adapters_of(engine_args: Mapping[str, Any]) -> tuple[Adapter, ...]:
    """In the order in which they are named. Raises `ConfigError` on what is no list of adapters."""
    given = _argument(engine_args, _MODULES)[1]
    modules = given if isinstance(given, list | tuple) else () if given is None else (given,)
    return tuple(_adapter(module) for module in modules if module not in (None, ""))


def takes_adapters(engine_args: Mapping[str, Any]) -> bool:
    """Whether the engine is started so that it can have adapters."""
    return switched_on(_argument(engine_args, _SWITCH)[1])


def with_resolved_paths(engine_args: dict[str, Any], resolve: Callable[[str], str]) -> dict[str, Any]:
    """`engine_args` with the adapters' paths as `resolve` has them."""
    key, given = _argument(engine_args, _MODULES)
    if given is None:
        return engine_args
    modules = given if isinstance(given, list | tuple) else (given,)
    return {**engine_args, key: [_resolved(module, resolve) for module in modules]}


def check_adapters(pool: Sequence[Member], refuse: Callable[[str, str], None]) -> None:
    """Refuse adapters that vLLM could not read, and names that mean something else."""
    taken = taken_names(pool)
    for i, member in enumerate(pool):
        at = f"$.pool[{i}].engine_args.{_argument(member.engine_args, _MODULES)[0]}"
        try:
            adapters = adapters_of(member.engine_args)
        except ConfigError as error:
            refuse(str(error), at)
            continue
        if adapters and not takes_adapters(member.engine_args):
            refuse(f"needs `{_SWITCH}: true` beside it", at)
        for adapter in adapters:
            if why := fault_of_adapter(adapter.name, taken):
                refuse(why, at)
            taken[adapter.name] = f"an adapter of member {member.name!r}"


def taken_names(pool: Sequence[Member]) -> dict[str, str]:
    """What has which name, in words, adapters apart."""
    taken: dict[str, str] = {}
    for member in pool:
        names = (member.name, *member.also, *((member.model,) if member.model else ()))
        taken |= dict.fromkeys(names, f"member {member.name!r}")
    return taken


def fault_of_adapter(name: str, taken: Mapping[str, str]) -> str:
    """Why an adapter cannot be called `name`; empty where it can. `taken`: what has which name."""
    if means_a_route(name):
        return f"{name!r} cannot name an adapter: it is empty or means a route"
    if name in taken:
        return f"the adapter's name {name!r} is taken by {taken[name]}; names must differ"
    return fault_of_name(name)


def check_adapter_files(config: Config, source: str) -> None:
    """Raises `ConfigError` with source and key where an adapter's path holds none, or one of too high a rank."""
    for i, member in enumerate(config.pool):
        args = member.engine_args
        most = _argument(args, _RANK)[1] or _DEFAULT_RANK
        for adapter in adapters_of(args):
            if why := _fault_of_files(adapter.path, most if isinstance(most, int) else 0):
                at = f"$.pool[{i}].engine_args.{_argument(args, _MODULES)[0]}"
                raise ConfigError(f"{source}: adapter {adapter.name!r}: {adapter.path!r} {why} - at `{at}`")


def _argument(engine_args: Mapping[str, Any], name: str) -> tuple[str, Any]:
    """An argument as it is spelled there, and its value."""
    return next(((key, value) for key, value in engine_args.items() if argument_name(key) == name), (name, None))


def _adapter(module: Any) -> Adapter:
    read = _read(module)
    if not read.path.strip():
        raise ConfigError(f"adapter {read.name!r} has no path")
    return Adapter(read.name, read.path, read.is_3d_lora_weight)


def _read(module: Any) -> _Module:
    """`name=path`, an object, or JSON of one."""
    if isinstance(module, str) and "=" in module and "," not in module:
        name, _, path = module.partition("=")
        return _Module(name, path)
    try:
        if isinstance(module, str):
            return msgspec.json.decode(module, type=_Module)
        return msgspec.convert(module, _Module)
    except msgspec.MsgspecError as error:
        expected = "expected `name=path`, or an object of `name` and `path`"
        raise ConfigError(f"{expected}, got {str(module)[:200]!r}: {error}") from None


def _resolved(module: Any, resolve: Callable[[str], str]) -> Any:
    try:
        read = _read(module)
    except ConfigError:
        return module  # the check says what is wrong with it
    path = resolve(os.path.expanduser(read.path))
    return module if path == read.path else msgspec.to_builtins(msgspec.structs.replace(read, path=path))


def _fault_of_files(path: str, most_rank: int) -> str:
    """Empty where nothing speaks against the adapter, or it is a hub id. `most_rank`: 0 for unknown."""
    folder = Path(os.path.expanduser(path))
    try:
        if not folder.is_dir():
            local = path.startswith(("/", "./", "../", "~")) or folder.exists()
            return "is not a folder" if local else ""
        card = msgspec.json.decode((folder / _CARD).read_bytes(), type=_Card)
        if not any((folder / name).is_file() for name in _WEIGHTS):
            return f"is a folder without an adapter's weights: it has no {_WEIGHTS[0]}"
    except FileNotFoundError:
        return f"is a folder without an adapter: it has no {_CARD}"
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        return f"holds no adapter: its {_CARD} cannot be read: {error}"
    rank = max([card.r, *(card.rank_pattern or {}).values()])
    return f"has rank {rank}, above `{_RANK}`, {most_rank}" if 0 < most_rank < rank else ""
