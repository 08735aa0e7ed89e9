"""A member's `engine_args` to the namespace that `vllm serve` would have parsed: vLLM's own names, checks and defaults.

Knows vLLM's argument parser, not its engine.
"""

import argparse
import difflib
import json
from typing import Any, NoReturn

from router.config import argument_name
from router.errors import ConfigError
from router.host.adapter import moved
from router.ipc.spec import HostSpec

#: vLLM's options that Headgate answers for itself, and where they are set instead.
_OURS = {
    "model": "the member's `model`",
    "model_tag": "the member's `model`",
    "served_model_name": "the member's `name`",
    "host": "`server.host`",
    "port": "`server.port`",
    "uds": "`server`",
    "root_path": "`server`",
    "api_key": "`server.api_keys`",
    "ssl_keyfile": "a TLS proxy in front of `server`",
    "ssl_certfile": "a TLS proxy in front of `server`",
    "ssl_ca_certs": "a TLS proxy in front of `server`",
    "api_server_count": "nothing: Headgate is the API server",
    "headless": "nothing: Headgate is the API server",
    "grpc": "nothing: Headgate is the API server",
    "config": "`engine_args`",
}


def parse(spec: HostSpec) -> argparse.Namespace:
    """Raises `ConfigError` on an unknown name (with the nearest right one) or a value that vLLM refuses."""
    parser = _parser()
    options = _options(parser)
    argv = [f"--model={spec.model}", f"--served-model-name={spec.name}"]
    for key, value in spec.engine_args.items():
        name = argument_name(key)
        if name in _OURS:
            raise ConfigError(f"engine_args: {key!r} is set by {_OURS[name]}, not here")
        if name not in options:
            near = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"engine_args: vLLM has no argument {key!r}{hint}")
        argv += _words(options[name], name, value)
    args = parser.parse_args(argv)
    _validate(args)
    return args


def _cli_args() -> Any:
    # 0.33; 0.29 to 0.32; 0.25 to 0.28
    return moved.find(*(f"vllm.entrypoints.{room}.cli_args" for room in ("common", "launchers", "openai")))


def _parser() -> argparse.ArgumentParser:
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser: argparse.ArgumentParser = _cli_args().make_arg_parser(FlexibleArgumentParser())

    def refuse(message: str) -> NoReturn:
        raise ConfigError(f"engine_args: {message}")

    parser.error = refuse  # type: ignore[method-assign]
    return parser


def _validate(args: argparse.Namespace) -> None:
    try:
        _cli_args().validate_parsed_serve_args(args)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"engine_args: {error}") from error


def _options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Every name by which an option may be set, with _ for -."""
    options: dict[str, argparse.Action] = {}
    for action in parser._actions:
        for option in action.option_strings:
            if option.startswith("--") and not option.startswith("--no-"):
                options[option[2:].replace("-", "_")] = action
        if action.option_strings:
            options.setdefault(action.dest, action)
    options.pop("help", None)
    return options


def _words(action: argparse.Action, name: str, value: Any) -> list[str]:
    """The command-line words that give `value` to the option called `name`."""
    if value is None:
        return []
    flags = [option for option in action.option_strings if option.startswith("--")]
    flag = "--" + name.replace("_", "-")
    if flag not in flags:
        flag = flags[0]
    if isinstance(value, bool) and action.nargs == 0:
        return [flag] if value else [other for other in flags if other in _opposites(flag)][:1]
    if isinstance(value, list | tuple) and action.nargs in ("+", "*"):
        return [flag, *(item if isinstance(item, str) else json.dumps(item) for item in value)]
    return [f"{flag}={value if isinstance(value, str) else json.dumps(value)}"]


def _opposites(flag: str) -> set[str]:
    """`--no-it` of `--it`; of a pair, `--enable-it` and `--disable-it`, the other."""
    paired = {flag.replace("--enable-", "--disable-", 1), flag.replace("--disable-", "--enable-", 1)}
    return {f"--no-{flag[2:]}", *paired} - {flag}
