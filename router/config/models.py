"""Checks a member's `model` against this machine's files: a path must hold a model; a hub id is left to the engine."""

import json
import re
from pathlib import Path

from router.config.engine_args import argument_name
from router.config.tree import Config, Member
from router.errors import ConfigError

_URI = re.compile(r"[a-z][a-z0-9+.-]*://")
_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*(/[\w.-]+)?(:[\w.-]+)?")
#: What says of a folder that a model is in it: Hugging Face's way, and Mistral's.
_CARDS = ("config.json", "params.json")
#: Arguments by which vLLM finds the model's description elsewhere.
_ELSEWHERE = ("hf_config_path", "config_format")


def check_models(config: Config, source: str) -> None:
    """Raises `ConfigError` with source and key where an engine's `model` is a path without a model."""
    for i, member in enumerate(config.pool):
        why = _why_not(member) if member.kind == "engine" else ""
        if why:
            raise ConfigError(f"{source}: {member.model!r} {why} - at `$.pool[{i}].model`")


def _why_not(member: Member) -> str:
    """Empty where nothing speaks against the member's model."""
    model, path = member.model, Path(member.model)
    if _URI.match(model):
        return ""
    try:
        if path.is_dir():
            return "" if any(argument_name(name) in _ELSEWHERE for name in member.engine_args) else _folder(path)
        if path.is_file():
            return "" if path.suffix == ".gguf" else "is a file; expected a folder with a model, or a .gguf file"
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    if model.startswith(("/", "./", "../", "~")) or model in (".", ".."):
        return "is not a folder"
    if not _HUB_ID.fullmatch(model):
        return "is neither a folder nor the id of a model on a hub, as in org/name"
    return ""


def _folder(path: Path) -> str:
    for card in (path / name for name in _CARDS):
        if card.is_file():
            try:
                return (
                    ""
                    if isinstance(json.loads(card.read_bytes()), dict)
                    else f"holds no model: its {card.name} is no JSON object"
                )
            except (OSError, ValueError, RecursionError) as error:
                return f"holds no model: its {card.name} cannot be read: {error}"
    return "is a folder without a model: it has no config.json"
