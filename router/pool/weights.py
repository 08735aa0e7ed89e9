"""How many bytes a model's weights take on the devices, by the files of its folder and the type that they are cast to.

The headers of safetensors files tell each tensor; of other files the size is all that is known. A file that cannot be
read counts as nothing: the engine's start tells what is wrong with it. Reads no weights.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from router.config import Member, by_argument_name, hub_snapshot
from router.pool.safetensors import Tensor, tensors_of

_KINDS: Final = ("*.safetensors", "*.gguf", "*.bin", "*.pt")  #: the first of which there are files
_BYTES: Final = {"float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2}
#: What vLLM casts to where it is not told: weights of four bytes too.
_AUTO = 2
#: Of weights that are quantised while they are loaded, at the least: four of sixteen bits.
_QUANTISED = 0.25
_FLOATS: Final = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2}
#: Left as they are by what quantises while loading.
_WHOLE: Final = re.compile(r"embed|lm_head|norm|router|\.gate\.weight")
#: Present in a checkpoint, and not loaded: drafts of several tokens, tables that are computed.
_UNUSED: Final = re.compile(r"^mtp\.|rotary_emb\.inv_freq|\.mtp_")
_LAYER: Final = re.compile(r"(?:^|\.)layers\.(\d+)\.")


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """Of one model, in all its devices together."""

    size: int = 0  #: bytes, as they are loaded; 0: nothing is known
    exact: bool = False  #: each tensor was seen; else from the sizes of the files
    missing: tuple[str, ...] = ()  #: files that the index names and the folder does not hold
    kind: str = ""  #: of a quantised checkpoint: `awq`, `fp8`, `gguf`, ...
    card: dict[str, Any] = {}  #: `config.json`; empty where there is none
    found: bool = False  #: the model is on this machine

    @property
    def whole(self) -> int:
        """`size`; 0 where files are missing."""
        return 0 if self.missing else self.size


def weigh_pool(pool: Sequence[Member], hub: Path | None) -> list[Weights]:
    """Of each member; nothing is known of one that is no engine here."""
    return [weigh(member, hub) if member.kind == "engine" else Weights() for member in pool]


def weigh(member: Member, hub: Path | None) -> Weights:
    """Raises nothing. Where files are missing, `size` is of those that are there. `hub`: the folder of downloaded
    models."""
    folder = _folder(member.model, hub)
    if folder is None:
        return Weights()
    given = by_argument_name(member.engine_args)
    card = _card(given, folder)
    files, missing = _files(folder)
    try:
        tensors = [tensor for file in files for tensor in tensors_of(file)] if _are_safetensors(files) else []
    except (OSError, ValueError):
        tensors = []
    kind = _kind(card, files)
    if tensors:
        size = sum(_loaded(tensor, given, card) for tensor in _used(tensors, card))
    else:
        size = int(_stored_bytes(files) * _cast(given, card))
    return Weights(size=size, exact=bool(tensors), missing=missing, kind=kind, card=card, found=True)


def _folder(model: str, hub: Path | None) -> Path | None:
    """The model's, or the snapshot of it that the hub's folder holds."""
    path = Path(model)
    try:
        return path if path.exists() else hub_snapshot(model, hub)
    except (OSError, ValueError):
        return None


def _card(given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Of one file: the description that the arguments name, if any."""
    told = given.get("hf_config_path")
    at = Path(told) if isinstance(told, str) else folder
    return _read(at / "config.json")


def _files(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Those that hold the weights once, as a folder may hold them in several types and adapters beside them; and the
    names of those that the index names and that are not there."""
    if folder.is_file():
        return [folder], ()
    if (whole := folder / "model.safetensors").is_file():
        return [whole], ()
    parts = _read(folder / "model.safetensors.index.json").get("weight_map")
    if isinstance(parts, dict):
        named = sorted(set(map(str, parts.values())))
        there = [name for name in named if _is_file(folder / name)]
        return [folder / name for name in there], tuple(name for name in named if name not in there)
    for kind in _KINDS:
        if found := sorted(folder.glob(kind)):
            return [min(found, key=lambda file: file.stat().st_size)] if kind == "*.gguf" else _once(found), ()
    return [], ()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # of a name that no file can have
        return False


def _once(files: list[Path]) -> list[Path]:
    """Mistral's `consolidated` files hold the same weights once more."""
    return [file for file in files if not file.name.startswith("consolidated")] or files


def _are_safetensors(files: list[Path]) -> bool:
    return bool(files) and all(file.suffix == ".safetensors" for file in files)


def _stored_bytes(files: Iterable[Path]) -> int:
    try:
        return sum(file.stat().st_size for file in files)
    except (OSError, ValueError):
        return 0


def _read(path: Path) -> dict[str, Any]:
    """Empty where it is no JSON object that can be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _kind(card: dict[str, Any], files: list[Path]) -> str:
    quantised = card.get("quantization_config")
    if isinstance(quantised, dict):
        return str(quantised.get("quant_method") or quantised.get("quant_algo") or "quantised").lower()
    return "gguf" if any(file.suffix == ".gguf" for file in files) else ""


def _used(tensors: list[Tensor], card: dict[str, Any]) -> Iterable[Tensor]:
    """Those that vLLM loads."""
    text = card.get("text_config") if isinstance(card.get("text_config"), dict) else card
    assert isinstance(text, dict)
    layers = text.get("num_hidden_layers")
    tied = bool(card.get("tie_word_embeddings", text.get("tie_word_embeddings", False)))
    for tensor in tensors:
        at = _LAYER.search(tensor.name)
        draft = isinstance(layers, int) and at is not None and int(at[1]) >= layers > 0 and "vision" not in tensor.name
        if not draft and not _UNUSED.search(tensor.name) and not (tied and tensor.name.endswith("lm_head.weight")):
            yield tensor


def _loaded(tensor: Tensor, given: Mapping[str, Any], card: dict[str, Any]) -> int:
    """Bytes of one tensor, in the type that it is cast to."""
    stored = _FLOATS.get(tensor.dtype)
    if stored is None or (card.get("quantization_config") and stored == 4):
        return tensor.size  # packed values, and the scales beside them
    wanted = str(given.get("dtype") or "auto")
    size: float = min(stored, _AUTO) if wanted == "auto" else _BYTES.get(wanted, stored)
    if tensor.dimensions > 1 and not card.get("quantization_config") and not _WHOLE.search(tensor.name):
        size = _quantised_bytes(given) or size
    return int(tensor.values * size)


def _quantised_bytes(given: Mapping[str, Any]) -> float | None:
    """Of one value that is quantised while it is loaded; None: it is not."""
    method = str(given.get("quantization") or ("bitsandbytes" if given.get("load_format") == "bitsandbytes" else ""))
    if not method or method == "None":
        return None
    return 1.0 if "8" in method and "4" not in method else 2 * _QUANTISED


def _cast(given: Mapping[str, Any], card: dict[str, Any]) -> float:
    """By which factor files whose tensors are not known grow or shrink as they are loaded."""
    if card.get("quantization_config"):
        return 1.0
    if given.get("quantization") or given.get("load_format") == "bitsandbytes":
        return _QUANTISED
    stored = _BYTES.get(str(card.get("torch_dtype") or card.get("dtype")))
    if stored is None:
        return 1.0
    wanted = str(given.get("dtype") or "auto")
    return (min(stored, _AUTO) if wanted == "auto" else _BYTES.get(wanted, stored)) / stored
