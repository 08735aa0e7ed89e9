"""`headgate plan`: what memory each engine of a pool takes and gets, and whether all fit; nothing is started."""

import argparse
import re
from pathlib import Path

import msgspec

from router import config as configuration
from router.cli.engine_args import engine_args_of
from router.cli.naming import refusals_of
from router.cli.numbers import whole
from router.cli.paths import home_path
from router.cli.plan_text import text_of
from router.cli.plan_write import with_plan, write_copy
from router.config import Config, Member
from router.errors import ConfigError
from router.observe.journal import Reader
from router.observe.record import Record
from router.pool.device import Device
from router.pool.devices import DeviceList
from router.pool.environment import this_machine
from router.pool.memory.mix import Mix, check
from router.pool.memory.peak import Assumptions
from router.pool.memory.planned import assumptions_of, mix_of, plan_on
from router.pool.weights import weigh_pool

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]i?)?B?", re.IGNORECASE)
_UNITS = {"": 1, **{f"{letter}I": 1 << (10 * i) for i, letter in enumerate("KMGT", 1)}}
_UNITS |= {letter: 1000**i for i, letter in enumerate("KMGT", 1)}
_FLAGS = {
    "prompt_tokens": "--prompt-tokens",
    "output_tokens": "--output-tokens",
    "concurrency": "--concurrency",
    "requests_per_s": "--requests-per-s",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", type=home_path, metavar="headgate.yaml")
    parser.add_argument(
        "--model", action="append", default=[], metavar="MODEL", help="a folder or hub id, without a config; repeatable"
    )
    parser.add_argument(
        "--engine-arg", action="append", default=[], metavar="NAME=VALUE", help="a vLLM argument, for every --model"
    )
    devices = parser.add_argument_group("the devices (default: those of this machine)")
    devices.add_argument("--device-memory", type=_size, metavar="SIZE", help="of each, as 80GiB")
    devices.add_argument("--devices", type=whole(1, 1024), metavar="N", help="how many (default: 1)")
    devices.add_argument("--device-name", default="", metavar="NAME", help="as A100: some of vLLM's defaults follow it")
    mix = parser.add_argument_group("the traffic (default: `plan` of the config)")
    mix.add_argument("--prompt-tokens", type=float, metavar="N", help="of a mean request (default: 1000)")
    mix.add_argument("--output-tokens", type=float, metavar="N", help="of its answer (default: 250)")
    rate = mix.add_mutually_exclusive_group()
    rate.add_argument("--concurrency", type=float, metavar="N", help="requests answered at once by the pool")
    rate.add_argument("--requests-per-s", type=float, metavar="N", help="or so many a second")
    mix.add_argument("--journal", type=home_path, metavar="JOURNAL", help="tokens and shares of members as recorded")
    assumed = parser.add_argument_group("what no file tells (default: `plan` of the config)")
    assumed.add_argument("--memory-share", type=float, metavar="X", help="of each device, for engines (default: .9)")
    assumed.add_argument("--context-memory", type=_size, metavar="SIZE", help="CUDA's context (default: 512MiB)")
    assumed.add_argument("--graphs-memory", type=_size, metavar="SIZE", help="CUDA graphs (default: 672MiB)")
    parser.add_argument(
        "--write", type=home_path, metavar="FILE", help="a copy of the config with the planned arguments"
    )
    parser.add_argument("--json", action="store_true", help="the plan as one JSON object")


def run(args: argparse.Namespace) -> int:
    """0: all fit, or nothing speaks against it; 1: they do not."""
    if (args.config is None) == (not args.model):
        raise ConfigError("expected a config file, or --model MODEL")
    if args.write is not None and args.config is None:
        raise ConfigError("--write makes a copy of a config file: give one")
    config = _config(args)
    machine = this_machine(configuration.inherited_environment(config))
    if args.device_memory is not None:
        machine = msgspec.structs.replace(machine, devices=_told(args))
    elif args.devices is not None:
        raise ConfigError("--devices counts devices that are told: give --device-memory, too")
    with refusals_of(args.config or Path("the command line")):
        hub = configuration.hub_folder(configuration.inherited_environment(config))
        mix, assumed = _mix(args, config), _assumed(args, config)
        plan = plan_on(config, machine.devices, machine.memory_bytes, weigh_pool(config.pool, hub), mix, assumed)
    if args.write is not None and plan.fits:
        write_copy(args.config, args.write, with_plan(plan, config.pool))
    print(msgspec.json.encode(plan).decode() if args.json else text_of(plan))
    return 0 if plan.fits else 1


def _config(args: argparse.Namespace) -> Config:
    if args.config is not None:
        return configuration.load(args.config)
    engine_args = engine_args_of(args.engine_arg, "--engine-arg")
    names = [Path(model).name or model for model in args.model]
    pool = [
        Member(name=name if names.count(name) == 1 else f"{name}-{i}", model=model, engine_args=engine_args)
        for i, (name, model) in enumerate(zip(names, args.model, strict=True))
    ]
    return Config(pool=tuple(pool))


def _told(args: argparse.Namespace) -> DeviceList:
    """Devices that are only said to be there."""
    devices = tuple(
        Device(uuid=f"GPU-{i}", name=args.device_name or "told", memory_bytes=args.device_memory, variable=str(i))
        for i in range(args.devices or 1)
    )
    return DeviceList(kind="listed", devices=devices)


def _mix(args: argparse.Namespace, config: Config) -> Mix:
    """By flags, over a journal, over the config."""
    mix = mix_of(config) if args.journal is None else _recorded(args.journal)
    given = {field: getattr(args, field) for field in _FLAGS if getattr(args, field) is not None}
    if "concurrency" in given:
        given["requests_per_s"] = None
    elif "requests_per_s" in given:
        given["concurrency"] = None
    mix = msgspec.structs.replace(mix, **given, told=mix.told or bool(given))
    check(mix, _FLAGS)
    return mix


def _recorded(path: Path) -> Mix:
    """Means of all answers of a journal, and how many each member gave."""
    if not path.exists():
        raise ConfigError(f"--journal: expected a journal's folder or a file of it, got {path}")
    counts: dict[str, float] = {}
    prompt = output = 0
    for line in Reader(path):
        if isinstance(line, Record) and line.end == "finish" and line.prompt_tokens:
            counts[line.model] = counts.get(line.model, 0.0) + 1
            prompt, output = prompt + line.prompt_tokens, output + line.completion_tokens
    answers = sum(counts.values())
    if not answers:
        raise ConfigError(f"--journal: {path} has no finished request that tells its tokens")
    return Mix(prompt_tokens=prompt / answers, output_tokens=output / answers, shares=counts, told=True)


def _assumed(args: argparse.Namespace, config: Config) -> Assumptions:
    assumed = assumptions_of(config)
    if args.memory_share is not None:
        if not 0 < args.memory_share <= 1:
            raise ConfigError(f"--memory-share: expected above 0 and up to 1, got {args.memory_share:g}")
        assumed = msgspec.structs.replace(assumed, memory_share=args.memory_share)
    given = {"context_bytes": args.context_memory, "graphs_bytes": args.graphs_memory}
    return msgspec.structs.replace(assumed, **{key: value for key, value in given.items() if value is not None})


def _size(text: str) -> int:
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"expected a size as 80GiB, 512MiB or 24GB, got {text!r}")
    size = int(float(found[1]) * _UNITS[(found[2] or "").upper()])
    if not 0 < size < 1 << 50:
        raise argparse.ArgumentTypeError(f"expected a size above 0 and below 1 PiB, got {text!r}")
    return size
