"""What refusals call what they speak of: the config file, or the flag that gave the value."""

import argparse
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from router import config as configuration
from router.cli.engine_args import engine_args_of
from router.errors import ConfigError

SIZES = ("small", "large")
_COMMAND_LINE = "the command line"
#: What a key of the config is called among the flags.
_FLAGS = {
    "server.host": "host",
    "server.port": "port",
    "server.admin_port": "admin-port",
    "routing.price": "price",
    "routing.threshold": "threshold",
    "routing.checkpoint": "checkpoint",
    **{f"pool[{i}].{key}": size + flag for i, size in enumerate(SIZES)
       for key, flag in (("model", ""), ("url", ""), ("like", "-like"), ("strength", "-strength"))},
}  # fmt: skip
_KEY = re.compile(r"`\$\.([^`]*)`")
_ARGUMENT = re.compile(r"pool\[(\d+)\]\.engine_args\.(.+)")


def source_of(args: argparse.Namespace) -> str:
    """What refusals call the config that the flags mean."""
    return _COMMAND_LINE if args.config is None else str(args.config)


@contextlib.contextmanager
def refusals_of(file: Path) -> Iterator[None]:
    """A `ConfigError` within names the config file."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{file}: {str(error).removeprefix(f'{file}: ')}") from error


@contextlib.contextmanager
def refusals_named(args: argparse.Namespace) -> Iterator[None]:
    """A `ConfigError` within names the file, or the flag that is to blame."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(_named(str(error), args)) from error


def _named(why: str, args: argparse.Namespace) -> str:
    source = source_of(args)
    why = why.removeprefix(f"{source}: ")
    keys = _KEY.findall(why)
    flag = _flag_of(keys[-1], args) if keys else ""
    if not flag:
        return f"{source}: {why}"
    return f"{_COMMAND_LINE}: {why.replace(f'`$.{keys[-1]}`', f'`{flag}`')}"


def _flag_of(key: str, args: argparse.Namespace) -> str:
    """The flag that gave the value at `key`; empty where none did."""
    flag = _FLAGS.get(key, "")
    if flag and getattr(args, flag.replace("-", "_"), None) is not None:
        return f"--{flag}"
    if (match := _ARGUMENT.fullmatch(key)) is None:
        return ""
    flags = ["engine-arg"] if args.config is not None else [f"{SIZES[int(match[1])]}-arg", "engine-arg"]
    for flag in flags:
        given = engine_args_of(getattr(args, flag.replace("-", "_")), f"--{flag}")
        if configuration.argument_name(match[2]) in given:
            return f"--{flag} {match[2]}"
    return ""
