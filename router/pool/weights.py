"""How many bytes a model's weights take on the devices, at the least: by the files of its folder and the type that they
are cast to.

A file that cannot be read counts as nothing: the engine's start tells what is wrong with it. Reads names, sizes and
`config.json`, no weights.
"""

import json
from pathlib import Path
from typing import Any, Final

from router.config import Member, argument_name, hub_snapshot

_KINDS: Final = ("*.safetensors", "*.gguf", "*.bin", "*.pt")  #: the first of which there are files
_BYTES: Final = {"float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2}
#: What vLLM casts to where it is not told: weights of four bytes too.
_AUTO = 2
#: Of weights that are quantised while they are loaded, at the least: four of sixteen bits.
_QUANTISED = 0.25


def weight_bytes(member: Member, hub: Path | None) -> int:
    """0 where nothing is known. `hub`: the folder of downloaded models."""
    folder = _folder(member.model, hub)
    if folder is None:
        return 0
    stored, card = _stored_bytes(folder), _read(folder / "config.json")
    return int(stored * _cast(member, card))


def _folder(model: str, hub: Path | None) -> Path | None:
    """The model's, or the snapshot of it that the hub's folder holds."""
    path = Path(model)
    try:
        return path if path.exists() else hub_snapshot(model, hub)
    except (OSError, ValueError):
        return None


def _stored_bytes(folder: Path) -> int:
    try:
        return sum(file.stat().st_size for file in _files(folder))
    except (OSError, ValueError):  # of a name that no file can have, too
        return 0


def _files(folder: Path) -> list[Path]:
    """Those that hold the weights once: a folder may hold them in several types, and adapters beside them."""
    if folder.is_file():
        return [folder]
    if (whole := folder / "model.safetensors").is_file():
        return [whole]
    parts = _read(folder / "model.safetensors.index.json").get("weight_map")
    if isinstance(parts, dict):
        return [folder / str(name) for name in sorted(set(map(str, parts.values())))]
    for kind in _KINDS:
        if found := sorted(folder.glob(kind)):
            return [min(found, key=lambda file: file.stat().st_size)] if kind == "*.gguf" else _once(found)
    return []


def _once(files: list[Path]) -> list[Path]:
    """Mistral's `consolidated` files hold the same weights once more."""
    return [file for file in files if not file.name.startswith("consolidated")] or files


def _read(path: Path) -> dict[str, Any]:
    """Empty where it is no JSON object that can be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _cast(member: Member, card: dict[str, Any]) -> float:
    """By which factor the weights grow or shrink as they are loaded."""
    given = {argument_name(key): value for key, value in member.engine_args.items()}
    if card.get("quantization_config"):
        return 1.0
    if given.get("quantization") or given.get("load_format") == "bitsandbytes":
        return _QUANTISED
    stored = _BYTES.get(str(card.get("torch_dtype") or card.get("dtype")))
    if stored is None:
        return 1.0
    wanted = str(given.get("dtype") or "auto")
    return (min(stored, _AUTO) if wanted == "auto" else _BYTES.get(wanted, stored)) / stored
