"""The flags that stand for a config, or change one: a pool of two without a file, doors, keys, routing."""

import argparse
import os
from collections.abc import Mapping
from typing import Any

import msgspec

from router import config as configuration
from router.cli.engine_args import engine_args_of
from router.cli.keys import key_of
from router.cli.naming import SIZES, refusals_named, source_of
from router.cli.paths import checkpoint, home_path
from router.cli.vllm_flags import served
from router.config import Config, Member
from router.errors import ConfigError


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config",
        nargs="?",
        type=home_path,
        metavar="headgate.yaml",
        help="the config file; without one, --small and --large, or a MODEL with the flags of `vllm serve`",
    )
    parser.set_defaults(vllm_words=())
    for size in SIZES:
        group = parser.add_argument_group(f"the {size} model")
        group.add_argument(f"--{size}", metavar="MODEL", help="path, hub id, or URL of an OpenAI-compatible server")
        group.add_argument(f"--{size}-arg", action="append", default=[], metavar="NAME=VALUE", help="a vLLM argument")
        group.add_argument(f"--{size}-like", metavar="MODEL", help="score it as this model of the checkpoint")
        group.add_argument(f"--{size}-strength", type=float, metavar="X", help="or by its MMLU-Pro accuracy, 0 to 1")
    pool = parser.add_argument_group("the pool")
    pool.add_argument(
        "--engine-arg", action="append", default=[], metavar="NAME=VALUE", help="a vLLM argument, for every engine"
    )
    pool.add_argument(
        "--plan",
        choices=("auto", "off"),
        help="auto: engines whose memory is not set get what `headgate plan` gives them",
    )
    pool.add_argument(
        "--mps",
        choices=("on", "off"),
        help="on: engines share devices by NVIDIA's MPS, whose daemon is started and ended",
    )
    doors = parser.add_argument_group("the doors")
    doors.add_argument("--host", help="address to listen on (default: loopback)")
    doors.add_argument("--port", type=int, help="public port; 0: any (default: 8000)")
    doors.add_argument("--uds", metavar="PATH", help="a Unix socket in the place of --host and --port")
    doors.add_argument("--root-path", metavar="/PREFIX", help="what a proxy in front leaves on paths")
    doors.add_argument("--admin-port", type=int, help="admin port, loopback; 0: any (default: 8001)")
    keys = doors.add_mutually_exclusive_group()
    keys.add_argument(
        "--api-key-file", type=home_path, metavar="FILE",
        help="holds the key that guards the public routes (default: $HEADGATE_API_KEY)",
    )  # fmt: skip
    keys.add_argument("--api-key", metavar="KEY", help="the key itself: all users of the machine can read it in `ps`")
    routing = parser.add_argument_group("routing")
    routing.add_argument("--price", type=float, help="quality points given up to save one dollar")
    routing.add_argument("--threshold", type=float, help="RouteLLM's rule: large iff its win rate reaches this")
    routing.add_argument("--checkpoint", type=checkpoint, help="`default` or a path")


def config_of(args: argparse.Namespace) -> Config:
    """The config that the flags mean. Raises `ConfigError`."""
    if args.vllm_words:
        config = served(args.vllm_words, key_of(args))
    elif args.config is not None:
        if args.small or args.large:
            raise ConfigError("give a config file or --small and --large, not both")
        for flag in (f"{size}-{what}" for size in SIZES for what in ("arg", "like", "strength")):
            if getattr(args, flag.replace("-", "_")) not in (None, []):
                raise ConfigError(f"--{flag} is about --{flag.partition('-')[0]}: of a member in a file, say it there")
        config = configuration.load(args.config)
    else:
        config = _pair(args)
    config = _with_overrides(config, args)
    with refusals_named(args):
        configuration.check(config, source_of(args))
    return config


def _pair(args: argparse.Namespace) -> Config:
    if not (args.small and args.large):
        raise ConfigError("expected a config file, a MODEL, or --small MODEL and --large MODEL")
    return Config(pool=tuple(_member(size, args) for size in SIZES))


def _member(size: str, args: argparse.Namespace) -> Member:
    model: str = getattr(args, size)
    like, strength = getattr(args, f"{size}_like") or "", getattr(args, f"{size}_strength")
    if model.startswith(("http://", "https://")):
        if getattr(args, f"{size}_arg"):
            raise ConfigError(
                f"--{size}-arg: --{size} is a URL: vLLM's arguments are given where its engine is started"
            )
        return Member(name=size, kind="openai", url=model, like=like, strength=strength)
    if os.path.exists(folder := configuration.home_expanded(model, f"--{size}")):
        model = str(folder.resolve())
    engine_args = engine_args_of(getattr(args, f"{size}_arg"), f"--{size}-arg")
    return Member(name=size, model=model, like=like, strength=strength, engine_args=engine_args)


def _with_overrides(config: Config, args: argparse.Namespace) -> Config:
    replace = msgspec.structs.replace
    server = replace(
        config.server,
        **_given(args, host="host", port="port", uds="uds", root_path="root_path", admin_port="admin_port"),
    )
    key = key_of(args)
    if key is not None and key not in (each.key for each in server.keys):
        server = replace(server, api_keys=(*server.api_keys, key))
    routing = replace(config.routing, **_given(args, price="price", threshold="threshold", checkpoint="checkpoint"))
    common = engine_args_of(args.engine_arg, "--engine-arg")
    # A flag for all stands above the file, and below a flag for one.
    own_first = args.config is None
    pool = tuple(_with_engine_args(member, common, own_first) for member in config.pool)
    plan = config.plan if args.plan is None else replace(config.plan, auto=args.plan == "auto")
    gpu = config.gpu if args.mps is None else replace(config.gpu, mps=args.mps)
    return replace(config, server=server, routing=routing, pool=pool, plan=plan, gpu=gpu)


def _with_engine_args(member: Member, common: Mapping[str, Any], own_first: bool) -> Member:
    if member.kind != "engine" or not common:
        return member
    own = configuration.by_argument_name(member.engine_args)
    return msgspec.structs.replace(member, engine_args={**common, **own} if own_first else {**own, **common})


def _given(args: argparse.Namespace, **fields: str) -> Mapping[str, Any]:
    return {field: value for field, flag in fields.items() if (value := getattr(args, flag)) is not None}
