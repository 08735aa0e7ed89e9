"""From a file, a text or plain objects to a checked Config. A bad one is refused with its name, the key and what was
expected."""

import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from router.config import document
from router.config.checks import check, check_replicas
from router.config.explain import explain
from router.config.paths import at_home, home_expanded, relative_to
from router.config.replicas import expanded
from router.config.secrets import Expander
from router.config.tree import NOT_IN_FILES, NOT_OF_MEMBERS, Config
from router.errors import ConfigError


def load(path: str | Path, env: Mapping[str, str] = os.environ) -> Config:
    """The config of a YAML file. Relative paths in it are relative to the file. Raises `ConfigError`."""
    path = home_expanded(path, "the config")
    try:
        with path.open("rb") as file:
            data = file.read(document.MOST_BYTES + 1)
        if len(data) > document.MOST_BYTES:  # of which a part may read well
            raise ConfigError(f"{path}: not valid YAML: longer than {document.MOST_BYTES} bytes")
        text = data.decode("utf-8-sig")
    except IsADirectoryError as error:
        raise ConfigError(f"{path}: expected a config file, got a folder") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return relative_to(path.parent, parse(text, source=str(path), env=env), str(path))


def parse(text: str, *, source: str = "<config>", env: Mapping[str, str] = os.environ) -> Config:
    """The config of a YAML text; `source` names it in errors."""
    try:
        tree = document.read(text)
    except document.Refused as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        got = "nothing" if tree is None else type(tree).__name__
        raise ConfigError(f"{source}: expected a mapping at the top, got {got}")
    expander = Expander(env, source)
    config = _checked(expander.expand(tree), source)
    return expanded(
        msgspec.structs.replace(
            config,
            secret_variables=tuple(sorted(expander.secret_variables)),
            expanded_at=tuple(expander.expanded_at),
        )
    )


def build_member(tree: Mapping[str, Any], *, source: str, env: Mapping[str, str] = os.environ) -> Config:
    """A pool of one member, or of its engines, from plain objects, its references expanded; not checked, as it will
    stand among others."""
    expander = Expander(env, source)
    try:
        _refuse(NOT_OF_MEMBERS & tree.keys())
        config = msgspec.convert({"pool": expander.expand([dict(tree)], "$.pool")}, Config, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {explain(str(error), {'pool': [tree]})}") from error
    check_replicas(config.pool[0], partial(_refused, source), "$.pool[0]")
    return expanded(
        msgspec.structs.replace(
            at_home(config, source),
            secret_variables=tuple(sorted(expander.secret_variables)),
            expanded_at=tuple(expander.expanded_at),
        )
    )


def build(tree: Mapping[str, Any], *, source: str = "<config>") -> Config:
    """The config of plain objects, checked; a member for each engine."""
    return expanded(_checked(tree, source))


def _checked(tree: Mapping[str, Any], source: str) -> Config:
    try:
        _refuse(NOT_IN_FILES & tree.keys())
        pool = tree.get("pool")
        for i, member in enumerate(pool if isinstance(pool, list | tuple) else ()):
            if isinstance(member, Mapping):
                _refuse(NOT_OF_MEMBERS & member.keys(), f" - at `$.pool[{i}]`")
        config = msgspec.convert(tree, Config, strict=False)  # `${PORT}` is text
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {explain(str(error), tree)}") from error
    check(config, source)
    return config


def _refused(source: str, why: str, at: str) -> NoReturn:
    raise ConfigError(f"{source}: {why} - at `{at}`")


def _refuse(unknown: Iterable[str], at: str = "") -> None:
    """Raises ValidationError for the first, as msgspec does."""
    for name in unknown:
        raise msgspec.ValidationError(f"Object contains unknown field `{name}`{at}")
