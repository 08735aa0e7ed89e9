"""A copy of a YAML config with planned arguments put in where members stand; all other bytes stay as they are.

What comes out is read again before it is written: a file that cannot be edited so is refused.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from router import files
from router.config import Member, document
from router.errors import ConfigError
from router.pool.memory.plan import PoolPlan

#: By member: keys of the member, of which `engine_args` are added to those that stand there.
Added = Mapping[str, Mapping[str, Any]]


def with_plan(plan: PoolPlan, pool: Sequence[Member]) -> Added:
    """What the plan adds to each member of the file. Raises `ConfigError` where engines of one member differ in it."""
    added: dict[str, Mapping[str, Any]] = {}
    several = {member.name: member.replica_of for member in pool if member.replica_of}
    for engine in plan.engines:
        name = several.get(engine.name, engine.name)
        devices = {} if name != engine.name or not engine.devices else {"devices": _devices(engine.devices)}
        keys = {"engine_args": engine.engine_args, **devices}
        if added.setdefault(name, keys) != keys:
            why = f"the engines of {name!r} would get other arguments each ({engine.name!r}: {engine.engine_args})"
            raise ConfigError(f"--write: {why}: give them their own members, or put the arguments in by hand")
    return {name: keys for name, keys in added.items() if keys["engine_args"]}


def write_copy(source: Path, target: Path, added: Added) -> None:
    """Raises `ConfigError`; then nothing is written."""
    if target.exists() and target.samefile(source):
        raise ConfigError(f"--write: expected another file than the config that is read, got {target}")
    try:
        new = edited(source.read_bytes().decode(), added)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    try:
        with files.replaced(target) as file:
            file.write(new.encode())
    except OSError as error:
        raise ConfigError(f"--write: {target}: cannot be written: {error.strerror or error}") from error


def edited(text: str, added: Added) -> str:
    """The YAML text with what is added to its members. Raises `ConfigError`."""
    wanted = document.read(text)
    for member in wanted.get("pool") or []:
        for key, value in added.get(member.get("name"), {}).items():
            member[key] = {**(member.get(key) or {}), **value} if isinstance(value, Mapping) else member.get(key, value)
    new = _spliced(text, added)
    try:
        got = document.read(new)
    except document.Refused:
        got = None
    if got != wanted:
        raise ConfigError("cannot be edited safely: put the planned `engine_args` in by hand (--json shows them)")
    return new


def _spliced(text: str, added: Added) -> str:
    """From the last member to the first, so that places before stay true."""
    pool = _value(yaml.compose(text, yaml.SafeLoader), "pool")
    members = pool.value if isinstance(pool, yaml.SequenceNode) else []
    for node in reversed(members):
        name = getattr(_value(node, "name"), "value", None)
        if isinstance(node, yaml.MappingNode) and isinstance(name, str) and name in added:
            text = _with_member(text, node, added[name])
    return text


def _with_member(text: str, node: yaml.MappingNode, keys: Mapping[str, Any]) -> str:
    """Into its `engine_args` first where they stand behind its beginning."""
    missing = {key: value for key, value in keys.items() if _value(node, key) is None}
    args = _value(node, "engine_args")
    if isinstance(args, yaml.MappingNode) and args.value:
        text = _into(text, args, keys["engine_args"])
    elif args is not None:
        return text  # `engine_args:` of nothing, or an alias: refused by who compares
    return _into(text, node, missing)


def _into(text: str, node: yaml.MappingNode, keys: Mapping[str, Any]) -> str:
    """The keys at the beginning of a mapping, in its own style."""
    if not keys:
        return text
    lines = [f"{key}: {_flow(value)}" for key, value in keys.items()]
    first = node.start_mark.index
    if node.flow_style:
        rest = ", " if node.value else ""
        return text[: first + 1] + ", ".join(lines) + rest + text[first + 1 :]
    first = node.value[0][0].start_mark.index
    pad = "\n" + " " * int(node.value[0][0].start_mark.column)
    return text[:first] + pad.join(lines) + pad + text[first:]


def _flow(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")


def _value(node: Any, key: str) -> Any:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _devices(names: tuple[str, ...]) -> list[int | str]:
    return [int(name) if name.isdecimal() else name for name in names]
