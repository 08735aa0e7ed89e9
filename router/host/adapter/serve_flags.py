"""Reads the words of a `vllm serve` command line by vLLM's own parser: which flags were given, and with which values.

The table of flags is that parser, of whatever version is installed; nothing of it is written down here.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from router.config.engine_args import not_here
from router.config.serve_flags import ANYWAY, SERVER_KEYS
from router.host.adapter import arguments
from router.host.adapter.arguments import ArgumentRefused
from router.ipc.spec import HostSpec, ServeFlags

#: Where the model and its names stand: neither the engine's nor the server's.
_MODEL = ("model_tag", "model", "served_model_name")
#: Read by the parser itself, into the flags that it holds.
_READ = "config"


def read(words: Sequence[str]) -> ServeFlags:
    """What the `words` behind `vllm serve` ask for; with `refusal` where one is refused."""
    try:
        return _sorted(given(words))
    except ArgumentRefused as error:
        return ServeFlags(refusal=f"--{error.key.replace('_', '-')}: {error.why}" if error.key else error.why)


def given(words: Sequence[str]) -> dict[str, Any]:
    """The value of each flag that `words` hold, by vLLM's name. Raises `ArgumentRefused`."""
    parser = arguments.parser()
    texts: dict[str, list[str]] = {}
    values_of = parser._get_values

    def note(action: argparse.Action, words: list[str]) -> Any:
        texts[action.dest] = [*texts.get(action.dest, ()), *words] if _appends(action) else list(words)
        return values_of(action, words)

    for action in parser._actions:
        action.default = argparse.SUPPRESS
    parser._get_values = note  # type: ignore[method-assign, assignment]
    try:
        found = vars(parser.parse_args(list(words)))
    except (ValueError, OSError, TypeError) as error:  # of a file that `--config` names, among others
        raise ArgumentRefused(str(error)) from error
    actions = {action.dest: action for action in parser._actions}
    return {dest: _value(actions[dest], found[dest], texts.get(dest, [])) for dest in found if dest in actions}


def _value(action: argparse.Action, value: Any, texts: list[str]) -> Any:
    """As it goes into `engine_args`: numbers and switches as such, all else as the text that was given."""
    if action.nargs == 0 or isinstance(value, bool | int | float):
        return value
    if _appends(action) or action.nargs in ("+", "*") or isinstance(action.nargs, int):
        return texts
    return texts[-1] if texts else value


def _appends(action: argparse.Action) -> bool:
    return isinstance(action, argparse._AppendAction)


def _sorted(flags: Mapping[str, Any]) -> ServeFlags:
    """Raises `ArgumentRefused`."""
    model = flags.get("model_tag") or flags.get("model") or ""
    if not model:
        raise ArgumentRefused("a model is expected: headgate serve MODEL --flag ...")
    names = tuple(flags.get("served_model_name") or ())
    places = {name: place(name) for name in flags if name != _READ}
    for name, where in places.items():
        if where not in ("model", "server", "anyway", "engine_args"):
            raise ArgumentRefused(where, name)
    engine_args = {name: flags[name] for name, where in places.items() if where == "engine_args"}
    # Its values are checked once more as an engine's: what is refused there is refused before anything is loaded.
    arguments.parse(HostSpec(name=names[0] if names else model, model=model, socket="", engine_args=engine_args))
    server = {key: _key_of_server(name, flags[name]) for name, key in SERVER_KEYS.items() if name in flags}
    anyway = tuple(sorted(ANYWAY & flags.keys()))
    return ServeFlags(model=model, names=names, server=server, engine_args=engine_args, anyway=anyway)


def place(name: str) -> str:
    """Where a flag goes: `model`, `server`, `engine_args`, `anyway` (nothing to do), else why it is refused."""
    if name in _MODEL:
        return "model"
    if name in SERVER_KEYS:
        return "server"
    if name in ANYWAY:
        return "anyway"
    found = not_here((name,))
    return "engine_args" if found is None else found[1]


def _key_of_server(name: str, value: Any) -> Any:
    if name == "disable_fastapi_docs":
        return not value
    return json.loads(value) if name == "allowed_origins" else value
