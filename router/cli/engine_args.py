"""`--engine-arg NAME=VALUE` and its kin: vLLM's own arguments from the command line."""

from collections.abc import Sequence
from typing import Any

from router import config as configuration
from router.config import document
from router.errors import ConfigError


def engine_args_of(pairs: Sequence[str], flag: str) -> dict[str, Any]:
    """`["max_num_seqs=8", "enforce-eager"]` as vLLM arguments; a bare name is true, values are YAML."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name:
            raise ConfigError(f"{flag}: expected NAME=VALUE, got {pair!r}")
        try:
            found[configuration.argument_name(name)] = document.read(value) if equals else True
        except document.Refused as error:
            raise ConfigError(f"{flag}: {name}: the value is not understood: {value[:80]!r}") from error
    return found
