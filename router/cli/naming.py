"""What refusals call what they speak of: the config file, or the flag that gave the value."""

import argparse
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from router import config as configuration
from router.cli.engine_args import engine_args_of
from router.config.serve_flags import SERVER_KEYS
from router.errors import ConfigError

SIZES = ("small", "large")
_COMMAND_LINE = "the command line"
#: What a key of the config is called among the flags.
_FLAGS = {
    "server.host": "host",
    "server.port": "port",
    "server.uds": "uds",
    "server.root_path": "root-path",
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


def _vllm_flag_of(key: str) -> str:
    """Of a command line of `vllm serve`'s flags."""
    if match := _ARGUMENT.fullmatch(key):
        return "--" + configuration.argument_name(match[2]).replace("_", "-")
    names = {"pool[0].model": "MODEL", "pool[0].name": "--served-model-name", "pool[0].also": "--served-model-name"}
    return names.get(key, "") or next(
        ("--" + name.replace("_", "-") for name, own in SERVER_KEYS.items() if re.match(rf"server\.{own}\b", key)), ""
    )


def _flag_of(key: str, args: argparse.Namespace) -> str:
    """The flag that gave the value at `key`; empty where none did."""
    if getattr(args, "vllm_words", ()):
        return _vllm_flag_of(key)
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
