"""Paths in a config and in flags: `~` is the home folder; a relative path in a file is relative to that file."""

import os
from pathlib import Path
from typing import Any

import msgspec

from router.config.adapters import with_resolved_paths
from router.config.tree import Config, Member
from router.errors import ConfigError


def home_expanded(path: str | Path, at: str) -> Path:
    """`path` with `~` and `~user` at its start replaced. Raises `ConfigError` where there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{at}: {str(path)!r}: no home folder is known for `~`") from error


def relative_to(base: Path, config: Config, source: str) -> Config:
    """Paths that exist relative to `base` become absolute; hub ids stay as they are."""
    config = at_home(config, source)

    def resolve(name: str) -> str:
        here = base / name
        return str(here.resolve()) if name and os.path.exists(here) else name  # `Path` raises where a name is too long

    def resolved(member: Member) -> Member:
        args = with_resolved_paths(member.engine_args, resolve)
        return msgspec.structs.replace(member, model=resolve(member.model), engine_args=args)

    pool = tuple(resolved(member) if member.kind == "engine" else member for member in config.pool)
    routing = config.routing
    if routing.checkpoint != "default":
        routing = msgspec.structs.replace(routing, checkpoint=resolve(routing.checkpoint))
    routing = msgspec.structs.replace(routing, verifier=resolve(routing.verifier))
    return msgspec.structs.replace(config, pool=pool, routing=routing)


def at_home(config: Config, source: str) -> Config:
    """`config` with `~` replaced in every path. Raises `ConfigError`."""
    replace = msgspec.structs.replace
    supervision, routing = config.supervision, config.routing
    server = replace(config.server, uds=_expanded(config.server.uds, f"{source}: $.server.uds"))
    supervision = replace(
        supervision,
        runtime_dir=_expanded(supervision.runtime_dir, f"{source}: $.supervision.runtime_dir"),
        log_dir=_expanded(supervision.log_dir, f"{source}: $.supervision.log_dir"),
    )
    routing = replace(
        routing,
        checkpoint=_expanded(routing.checkpoint, f"{source}: $.routing.checkpoint"),
        verifier=_expanded(routing.verifier, f"{source}: $.routing.verifier"),
    )
    journal = replace(config.journal, path=_expanded(config.journal.path, f"{source}: $.journal.path"))
    batches = replace(config.batches, path=_expanded(config.batches.path, f"{source}: $.batches.path"))
    pool = tuple(
        _member_at_home(member, f"{source}: $.pool[{i}]") if member.kind == "engine" else member
        for i, member in enumerate(config.pool)
    )
    return replace(
        config, server=server, pool=pool, routing=routing, supervision=supervision, journal=journal, batches=batches
    )


def _member_at_home(member: Member, at: str) -> Member:
    """vLLM's own arguments and the engine's variables too: no shell has read them."""
    return msgspec.structs.replace(
        member,
        model=_expanded(member.model, f"{at}.model"),
        engine_args={key: _expanded(value, f"{at}.engine_args.{key}") for key, value in member.engine_args.items()},
        env={key: _expanded(value, f"{at}.env.{key}") for key, value in member.env.items()},
    )


def _expanded(value: Any, at: str) -> Any:
    if not isinstance(value, str) or not (value == "~" or value.startswith("~")):
        return value
    return str(home_expanded(value, at))
