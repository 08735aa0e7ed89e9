"""`headgate serve MODEL --flag ...`: one model by the flags of `vllm serve`, which vLLM's own parser reads.

It does so in a process of its own, which takes as long as vLLM takes to import (4 to 15 s). Nothing of vLLM is imported
here.
"""

import argparse
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from router import config as configuration
from router.config import Config, Member, Server, document
from router.config.serve_flags import SERVER_KEYS
from router.errors import ConfigError
from router.ipc.spec import ServeFlags

log = logging.getLogger("headgate")
COMMAND = (sys.executable, "-P", "-m", "router.host.flags")
_LIMIT_S = 600.0  #: vLLM's import from a slow disk, on a machine that is busy
_CONFIG_FILES = (".yaml", ".yml", ".json")
#: Flags of ours that vLLM has too: of a command line of vLLM's, its parser reads them.
_SHARED: Final = frozenset(f"--{name.replace('_', '-')}" for name in SERVER_KEYS)


def split(words: Sequence[str], own: argparse.ArgumentParser) -> tuple[list[str], list[str]]:
    """Our words and vLLM's, of those behind `serve`; the second list is empty where they ask for no single model."""
    actions = {option: action for action in own._actions for option in action.option_strings}
    _, foreign = _sorted(words, actions)
    ours, theirs = _sorted(words, {option: action for option, action in actions.items() if option not in _SHARED})
    pair = any(word.partition("=")[0] in ("--small", "--large") for word in ours)
    if pair or not _names_a_model(foreign):
        return list(words), []
    return ours, theirs


def served(words: Sequence[str], key: str | None) -> Config:
    """The config of a pool of one. `key`: ours, of a file or the environment, where vLLM's flags give none. Raises
    `ConfigError`."""
    flags = _ask(words)
    if flags.refusal:
        raise ConfigError(f"the command line: {flags.refusal}")
    if flags.anyway:
        log.info("%s: nothing to do for it", ", ".join(f"--{name.replace('_', '-')}" for name in flags.anyway))
    model = flags.model
    if os.path.exists(folder := configuration.home_expanded(model, "the command line")):
        model = str(folder.resolve())
    name, *also = flags.names or (flags.model,)
    member = Member(name=name, also=tuple(also), model=model, engine_args=flags.engine_args)
    adapter_routes = configuration.adapter_routes_from_environment()
    ours = {"api_keys": _keys(key), "adapter_routes": adapter_routes, "list_auto": "several_members"}
    server = msgspec.convert(ours | flags.server, Server)
    return Config(server=server, pool=(member,), secret_variables=(configuration.VLLM_API_KEY_VARIABLE,))


def _keys(key: str | None) -> tuple[str, ...]:
    """Where vLLM would ask for a key, so do we."""
    return tuple(each for each in (key or configuration.vllm_api_key_from_environment(),) if each is not None)


def _names_a_model(foreign: Sequence[str]) -> bool:
    if foreign and not foreign[0].startswith("-"):
        return not _is_config_file(Path(foreign[0]))
    return any(word.partition("=")[0] == "--model" for word in foreign) or _model_behind_flags(foreign)


def _model_behind_flags(foreign: Sequence[str]) -> bool:
    """Whether a word among vLLM's flags looks like a model, which its parser then tells from a value: it has a slash,
    is a folder, or stands where the flag before it has its value already."""
    if any(not word.startswith("-") and _is_config_file(Path(word)) for word in foreign):
        return _holds_a_model(foreign)
    return any(
        not word.startswith("-") and ("/" in word or os.path.isdir(word) or "=" in before or not before.startswith("-"))
        for before, word in pairwise(foreign)
    )


def _holds_a_model(foreign: Sequence[str]) -> bool:
    """Whether the file behind `--config` holds flags of `vllm serve`, a model among them: one of ours has a `pool`."""
    file = next((word for flag, word in pairwise(foreign) if flag == "--config"), "")
    try:
        tree = document.read(Path(file).read_text())
    except (OSError, ValueError, document.Refused):
        return False
    return isinstance(tree, dict) and "model" in tree and "pool" not in tree


def _is_config_file(file: Path) -> bool:
    """What is neither a file nor called as one is a model's path or hub id."""
    if file.suffix in (".gguf", ".safetensors"):
        return False
    # By `os.path`: a word may be JSON, longer than a file's name can be, which `Path` raises.
    return os.path.isfile(file) or (file.suffix in _CONFIG_FILES and not os.path.isdir(file))


def _sorted(words: Sequence[str], actions: dict[str, argparse.Action]) -> tuple[list[str], list[str]]:
    """Those of `actions` with their values, and the others."""
    ours: list[str] = []
    theirs: list[str] = []
    left = iter(words)
    for word in left:
        flag, equals, _ = word.partition("=")
        action = actions.get(flag)
        (theirs if action is None else ours).append(word)
        if action is not None and not equals and action.nargs != 0:
            ours.extend(value for value in (next(left, None),) if value is not None)
    return ours, theirs


def _ask(words: Sequence[str]) -> ServeFlags:
    try:
        done = subprocess.run(
            COMMAND, input=msgspec.json.encode(list(words)), capture_output=True, timeout=_LIMIT_S, check=False
        )
        if done.returncode == 0:
            return msgspec.json.decode(done.stdout, type=ServeFlags)
        why = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    except subprocess.TimeoutExpired:
        why = f"it took longer than {_LIMIT_S:g} s, most of it to import vLLM"
    except (OSError, msgspec.MsgspecError) as error:
        why = str(error)
    raise ConfigError(f"the command line: vLLM's parser could not read it: {why[:300]}")
