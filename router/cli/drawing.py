"""Whether pictures can be drawn: their libraries are an extra."""

from importlib import import_module

from router.errors import ConfigError


def check_drawing(module: str) -> None:
    """Raises ConfigError where `module` lacks a library."""
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"pictures need {error.name}: pip install 'headgate-router[bench]', or give --no-pictures"
        ) from error
