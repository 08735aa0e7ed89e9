"""The key of the public port that the command line, a file or the environment gives."""

import argparse
import logging
from pathlib import Path

from router import config as configuration
from router.errors import ConfigError

log = logging.getLogger("headgate")

_MOST_KEY_BYTES = 4096


def key_of(args: argparse.Namespace) -> str | None:
    """The key of the command line, a file or the environment; None where none is given. Raises `ConfigError` on one
    that no request can present: an empty one would open the server."""
    source, key = _given(args)
    if key is not None and (why := configuration.fault_of_api_key(key)):
        raise ConfigError(f"{source}: {why}")
    return key


def _given(args: argparse.Namespace) -> tuple[str, str | None]:
    """Where a key was given, and the key."""
    if args.api_key is not None:
        hint = f"give it as ${configuration.API_KEY_VARIABLE} or --api-key-file"
        log.warning("--api-key: whoever may list this machine's processes can read the key: %s", hint)
        return "--api-key", str(args.api_key)
    if args.api_key_file is not None:
        return f"--api-key-file: {args.api_key_file}", _key_in(args.api_key_file)
    return configuration.API_KEY_VARIABLE, configuration.api_key_from_environment()


def _key_in(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            key = opened.read(_MOST_KEY_BYTES + 1).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--api-key-file: {file}: cannot be read: {error}") from error
    if not key or len(key.splitlines()) > 1 or len(key) > _MOST_KEY_BYTES:
        raise ConfigError(f"--api-key-file: {file}: expected one line, the key, of at most {_MOST_KEY_BYTES} bytes")
    return key
