"""Converts a method's options from plain objects to its own Struct. Knows no method."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from router.errors import ConfigError

Chosen = TypeVar("Chosen", bound=msgspec.Struct)


def plain(value: Any) -> Any:
    """As a file gives it back: objects, lists, texts and numbers."""
    return msgspec.json.decode(msgspec.json.encode(value))


class NoOptions(msgspec.Struct, frozen=True):
    """Of a method that has none."""


def options_of(kind: type[Chosen], router: str, options: Mapping[str, Any]) -> Chosen:
    """Raises ConfigError naming the method, the option and what was expected."""
    known = kind.__struct_fields__
    for name in options:
        if name not in known:
            expected = f"one of {', '.join(known)}" if known else "none"
            raise ConfigError(f"--router {router}: option {name}: expected {expected}")
    try:
        return msgspec.convert(dict(options), kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"--router {router}: option {error}") from error
