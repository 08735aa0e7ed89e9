"""Parses a few settings as YAML (or JSON), from a flag or a small file, within bounds: no aliases, which could expand
to more than memory holds, and a bounded depth."""

from pathlib import Path
from typing import Any

import yaml

from router.errors import ConfigError

LARGEST = 1 << 20  #: bytes of a file
DEEPEST = 32


def of_file(path: Path) -> Any:
    """Raises ConfigError."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ConfigError(f"{path}: expected at most {LARGEST} bytes of YAML or JSON, got more")
        return of_text(content.decode("utf-8-sig"), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected YAML or JSON: {error}") from error


def of_text(text: str, where: str) -> Any:
    """Raises ConfigError."""
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(f"{where}: expected YAML or JSON without aliases, got *{event.anchor}")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ConfigError(f"{where}: expected at most {DEEPEST} levels of YAML or JSON, got more")
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or a number that is none
        raise ConfigError(f"{where}: expected YAML or JSON: {error}") from error
