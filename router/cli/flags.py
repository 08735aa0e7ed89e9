"""The flags that stand for a config, or change one: a pool of two without a file, doors, keys, routing."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from router import config as configuration
from router.config import Config, Member
from router.errors import ConfigError

_SIZES = ("small", "large")


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", type=Path, metavar="headgate.yaml", help="or --small and --large")
    for size in _SIZES:
        group = parser.add_argument_group(f"the {size} model")
        group.add_argument(f"--{size}", metavar="MODEL", help="path, hub id, or URL of an OpenAI-compatible server")
        group.add_argument(f"--{size}-arg", action="append", default=[], metavar="NAME=VALUE", help="a vLLM argument")
        group.add_argument(f"--{size}-like", metavar="MODEL", help="score it as this model of the checkpoint")
        group.add_argument(f"--{size}-strength", type=float, metavar="X", help="or by its MMLU-Pro accuracy, 0 to 1")
    pool = parser.add_argument_group("the pool")
    pool.add_argument(
        "--engine-arg", action="append", default=[], metavar="NAME=VALUE", help="a vLLM argument, for every engine"
    )
    doors = parser.add_argument_group("the doors")
    doors.add_argument("--host", help="address to listen on (default: loopback)")
    doors.add_argument("--port", type=int, help="public port; 0: any (default: 8000)")
    doors.add_argument("--admin-port", type=int, help="admin port, loopback; 0: any (default: 8001)")
    doors.add_argument("--api-key", help="guards the public routes (default: $HEADGATE_API_KEY)")
    routing = parser.add_argument_group("routing")
    routing.add_argument("--price", type=float, help="quality points given up to save one dollar")
    routing.add_argument("--threshold", type=float, help="RouteLLM's rule: large iff its win rate reaches this")
    routing.add_argument("--checkpoint", help="`default` or a path")


def config_of(args: argparse.Namespace) -> Config:
    """The config that the flags mean. Raises `ConfigError`."""
    if args.config is not None:
        if args.small or args.large:
            raise ConfigError("give a config file or --small and --large, not both")
        config = configuration.load(args.config)
    else:
        config = _pair(args)
    config = _with_overrides(config, args)
    configuration.check(config, "the command line" if args.config is None else str(args.config))
    return config


def _pair(args: argparse.Namespace) -> Config:
    if not (args.small and args.large):
        raise ConfigError("expected a config file, or --small MODEL and --large MODEL")
    return Config(pool=tuple(_member(size, args) for size in _SIZES))


def _member(size: str, args: argparse.Namespace) -> Member:
    model: str = getattr(args, size)
    like, strength = getattr(args, f"{size}_like") or "", getattr(args, f"{size}_strength")
    if model.startswith(("http://", "https://")):
        return Member(name=size, kind="openai", url=model, like=like, strength=strength)
    if Path(model).is_dir():
        model = str(Path(model).resolve())
    engine_args = engine_args_of(getattr(args, f"{size}_arg"), f"--{size}-arg")
    return Member(name=size, model=model, like=like, strength=strength, engine_args=engine_args)


def engine_args_of(pairs: Sequence[str], flag: str) -> dict[str, Any]:
    """`["max_num_seqs=8", "enforce-eager"]` as vLLM arguments; a bare name is true, values are YAML."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name:
            raise ConfigError(f"{flag}: expected NAME=VALUE, got {pair!r}")
        try:
            found[configuration.argument_name(name)] = yaml.safe_load(value) if equals else True
        except yaml.YAMLError as error:
            raise ConfigError(f"{flag}: {name}: the value is not understood: {value!r}") from error
    return found


def _with_overrides(config: Config, args: argparse.Namespace) -> Config:
    replace = msgspec.structs.replace
    server = replace(config.server, **_given(args, host="host", port="port", admin_port="admin_port"))
    key = _api_key(args)
    if key is not None and key not in server.api_keys:
        server = replace(server, api_keys=(*server.api_keys, key))
    routing = replace(config.routing, **_given(args, price="price", threshold="threshold", checkpoint="checkpoint"))
    common = engine_args_of(args.engine_arg, "--engine-arg")
    # A flag for all stands above the file, and below a flag for one.
    own_first = args.config is None
    pool = tuple(_with_engine_args(member, common, own_first) for member in config.pool)
    return replace(config, server=server, routing=routing, pool=pool)


def _api_key(args: argparse.Namespace) -> str | None:
    """Of the flag, else of the environment. One that is given but empty is refused: it would open the server."""
    flag = "--api-key"
    key: str | None = args.api_key
    if key is None:
        flag, key = "HEADGATE_API_KEY", configuration.api_key_from_environment()
    if key is not None and (why := configuration.fault_of_api_key(key)):
        raise ConfigError(f"{flag}: {why}")
    return key


def _with_engine_args(member: Member, common: Mapping[str, Any], own_first: bool) -> Member:
    if member.kind != "engine" or not common:
        return member
    own = {configuration.argument_name(name): value for name, value in member.engine_args.items()}
    return msgspec.structs.replace(member, engine_args={**common, **own} if own_first else {**own, **common})


def _given(args: argparse.Namespace, **fields: str) -> Mapping[str, Any]:
    return {field: value for field, flag in fields.items() if (value := getattr(args, flag)) is not None}
