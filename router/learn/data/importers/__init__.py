"""The import formats by name, one file each. With `auto`, each format is asked in turn whether it can read the file."""

from importlib import import_module
from typing import cast

from router.errors import ConfigError
from router.learn.data.importers.base import Format, Source
from router.learn.data.records import shown

#: In the order in which a file is offered to them: the narrower first.
NAMES = ("journal", "routerbench", "llmrouter", "llmrouterbench", "headgate", "arena", "routellm")


def find(name: str) -> Format:
    """Raises ConfigError."""
    if name not in NAMES:
        raise ConfigError(f"--format: expected auto or one of {', '.join(NAMES)}; got {name!r}")
    return cast(Format, import_module(f"router.learn.data.importers.{name}"))


def sniff(source: Source) -> str:
    """The first format that takes the file. Raises ConfigError, with the columns that nobody knows."""
    for name in NAMES:
        if find(name).takes(source):
            return name
    columns = ", ".join(shown(key) for key in list(source.values)[:12])
    raise ConfigError(f"{source.path}: no known format has the columns {columns}; expected one of {', '.join(NAMES)}")
