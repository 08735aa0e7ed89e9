"""Expands the `${...}` references of a whole config, by stricter rules where a value is secret."""

import re
from collections.abc import Mapping
from typing import Any

from router.config import interpolation
from router.config.lookalikes import form_of
from router.config.tree import SECRET_KEYS
from router.errors import ConfigError

#: Keys whose text, or all texts below, are keys that Headgate itself asks for or shows.
_OURS = SECRET_KEYS - {"env"}
_KEYS = _OURS | {"hf_token"}
_SECRET = SECRET_KEYS | _KEYS
#: Below which a dollar is a dollar.
_PATTERNS = frozenset({"engine_args", "pattern", "header_patterns"})
_UNPRINTABLE = re.compile(r"[\x00\ud800-\udfff]")


class Expander:
    """Of one config. `secret_variables`: the variables that its keys were read from, or may be; `expanded_at`: where
    references stood."""

    def __init__(self, env: Mapping[str, str], source: str) -> None:
        self._env = env
        self._source = source
        self.secret_variables: set[str] = set()
        self.expanded_at: list[str] = []

    def expand(self, node: Any, at: str = "$", keys: tuple[str, ...] = ()) -> Any:
        """`node` with the references in every text of it replaced. Raises `ConfigError`."""
        if isinstance(node, dict):
            return {key: self.expand(value, f"{at}.{key}", (*keys, key)) for key, value in node.items()}
        if isinstance(node, list):
            return [self.expand(value, f"{at}[{i}]", keys) for i, value in enumerate(node)]
        return self._text(node, at, keys) if isinstance(node, str) else node

    def _text(self, text: str, at: str, keys: tuple[str, ...]) -> str:
        try:
            # What vLLM is given may be a template or a pattern, in which a dollar is a dollar.
            lone_dollars = bool(_PATTERNS.intersection(keys)) and not _SECRET.intersection(keys)
            parts = interpolation.parse(text, lone_dollars=lone_dollars)
            self._look(parts, keys)
            if interpolation.names(parts):
                self.expanded_at.append(at)
            expanded = interpolation.expand(parts, self._env)
        except interpolation.Refused as error:
            raise ConfigError(f"{self._source}: {error} - at `{at}`") from None
        if _UNPRINTABLE.search(expanded):
            raise ConfigError(f"{self._source}: expected text, got a zero byte or half a character - at `{at}`")
        return expanded

    def _look(self, parts: interpolation.Parts, keys: tuple[str, ...]) -> None:
        """Raises `Refused` where a secret would be public text."""
        if not _SECRET.intersection(keys):
            return
        if _OURS.intersection(keys):
            self.secret_variables.update(interpolation.names(parts))
        for literal in interpolation.literals(parts):
            if form := form_of(literal, key=bool(_KEYS.intersection(keys))):
                raise interpolation.Refused(
                    f"reads like a reference ({form}) and is none: a variable is written ${{NAME}}, and only so"
                )
