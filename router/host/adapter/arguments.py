"""Turns a member's `engine_args` into the namespace that `vllm serve` would parse from its command line, with vLLM's
own names, checks and defaults.

Uses vLLM's argument parser only, not its engine.
"""

import argparse
import dataclasses
import difflib
import importlib
import json
import re
import sys
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

from router.config import argument_name
from router.config.engine_args import not_here
from router.errors import ConfigError
from router.host.adapter import vllm_modules
from router.ipc.spec import HostSpec
from router.types import MEMBER_ROUTES

_SHOWN = 8  #: choices in a message
_LONGEST = 500  #: characters of it
#: Of vLLM's server arguments, those that are about the model all the same, or turn on a route that a member answers.
_OF_MODELS = frozenset({"enable_flash_late_interaction", *(route.switch for route in MEMBER_ROUTES.values())})
#: Where vLLM has the arguments of its server: 0.33; 0.29 to 0.32; 0.25 to 0.28.
_CLI_ARGS = tuple(f"vllm.entrypoints.{room}.cli_args" for room in ("common", "launchers", "openai"))
#: Argument, the one that brings others in, and where vLLM keeps those that there are.
_PARSERS = (
    ("tool_call_parser", "tool_parser_plugin", "vllm.tool_parsers", "ToolParserManager"),
    ("reasoning_parser", "reasoning_parser_plugin", "vllm.reasoning", "ReasoningParserManager"),
)


class ArgumentRefused(ConfigError):
    """One of `engine_args`: `key` as it is written there, empty where several are to blame."""

    def __init__(self, why: str, key: str = "") -> None:
        super().__init__(f"engine_args: {key}{key and ': '}{why}")
        self.why = why
        self.key = key


def parse(spec: HostSpec) -> argparse.Namespace:
    """Raises `ArgumentRefused` on an unknown name (with the nearest right one) or a value that vLLM refuses."""
    reader = parser()
    options = _options(reader)
    look_at_names(spec, options)
    argv = [f"--model={spec.model}", f"--served-model-name={spec.name}"]
    for key, value in spec.engine_args.items():
        name = argument_name(key)
        argv += _words(options[name], name, value)
    try:
        args = reader.parse_args(argv)
        _validate(args)
    except ArgumentRefused as error:
        raise ArgumentRefused(_in_short(error.why), _named_in(error.why, spec.engine_args)) from None
    return args


def look_at_names(spec: HostSpec, known: Collection[str]) -> None:
    """Raises `ArgumentRefused` on a name that is Headgate's or in nobody's `known` ones."""
    for key in spec.engine_args:
        name = argument_name(key)
        if found := not_here((key,)):
            raise ArgumentRefused(found[1], key)
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ArgumentRefused(f"vLLM has no such argument{hint}", key)
        if name in _of_vllms_doors():
            raise ArgumentRefused("is of vLLM's own HTTP server, which does not run here", key)


def _of_vllms_doors() -> frozenset[str]:
    """Arguments of vLLM's HTTP server that `engine_args.OURS` does not know yet: those of a newer vLLM."""
    if not any(name in sys.modules for name in _CLI_ARGS):  # names are looked at before vLLM is imported
        return frozenset()
    common, own = getattr(_cli_args(), "BaseFrontendArgs", None), getattr(_cli_args(), "FrontendArgs", None)
    if common is None or own is None:  # before 0.29 or so: one class of both kinds
        return frozenset()
    fields = {field.name for field in dataclasses.fields(own)} - {field.name for field in dataclasses.fields(common)}
    return frozenset(fields) - _OF_MODELS


def _cli_args() -> Any:
    return vllm_modules.find(*_CLI_ARGS)


def parser() -> argparse.ArgumentParser:
    """vLLM's own, of `vllm serve`; what it refuses is raised as `ArgumentRefused`."""
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    made: argparse.ArgumentParser = _cli_args().make_arg_parser(FlexibleArgumentParser())

    def refuse(message: str) -> NoReturn:
        raise ArgumentRefused(message)

    made.error = refuse  # type: ignore[method-assign]
    return made


def _validate(args: argparse.Namespace) -> None:
    try:
        _cli_args().validate_parsed_serve_args(args)
    except Exception as error:
        # Some refusals are of classes of vLLM's own, which are no ValueErrors in every version.
        if not isinstance(error, TypeError | ValueError) and not type(error).__module__.startswith("vllm."):
            raise
        raise ArgumentRefused(str(error).removeprefix("Error: ")) from error
    for name, plugin, room, manager in _PARSERS:
        wanted = getattr(args, name, None)
        if wanted and not getattr(args, plugin, None):
            known = list(getattr(importlib.import_module(room), manager).list_registered())
            if wanted not in known:
                near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.4) or sorted(known)[:3]
                raise ArgumentRefused(f"--{name.replace('_', '-')}: vLLM has no {wanted!r}, but {', '.join(near)} ...")


def _in_short(message: str) -> str:
    """argparse lists every choice, thirty of them in a line: the nearest, or the first, are enough."""
    match = re.fullmatch(r"(.*invalid choice: '?([^']*?)'? \(choose from )(.*)\)", message, re.DOTALL)
    choices = re.findall(r"[^\s',]+", match[3]) if match else []
    if match is None or len(choices) <= _SHOWN:
        return message[:_LONGEST]
    near = difflib.get_close_matches(match[2], choices, n=3, cutoff=0.4) or choices[:_SHOWN]
    return f"{match[1]}{', '.join(near)} and {len(choices) - len(near)} more)"


def _named_in(message: str, given: Mapping[str, Any]) -> str:
    """The first of the `given` arguments that vLLM's message speaks of, by name or else by value, as it is written."""
    spelled = {argument_name(key): key for key in given}
    words = (argument_name(word) for word in re.findall(r"--[a-z0-9][a-z0-9_-]*", message))
    quoted = (key for key, value in given.items() if isinstance(value, str) and value and value in message)
    return next((spelled[word] for word in words if word in spelled), "") or next(quoted, "")


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
