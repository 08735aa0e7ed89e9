"""Finds vLLM modules whose import path changed between 0.25 and 0.33."""

import importlib
from typing import Any

from router.errors import ConfigError


def find(*names: str) -> Any:
    """The first of these modules that this vLLM has. An error inside a module is raised, not passed over."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
    raise ConfigError(f"this vLLM has none of {', '.join(names)}; Headgate works with 0.25 to 0.33")
