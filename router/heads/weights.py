"""How many parameters the weights in a folder have, by the headers of their safetensors files. Reads no weights."""

import math
from pathlib import Path

import msgspec

_MOST_FILES = 512
_MOST_HEADER_BYTES = 64 << 20


class _Tensor(msgspec.Struct):
    shape: tuple[int, ...]


def billions(folder: str) -> float | None:
    """Billions of parameters; None where there is no folder, or one without safetensors files that can be read.

    Weights that pack several parameters into one number count as fewer than they are.
    """
    try:
        files = sorted(Path(folder).glob("*.safetensors")) if folder else []
        total = sum(_parameters(file) for file in files[:_MOST_FILES]) / 1e9
    except (OSError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return None
    return total if total > 0 else None


def _parameters(file: Path) -> int:
    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        if size > _MOST_HEADER_BYTES:
            raise ValueError(f"{file}: a header of {size} bytes")
        header = msgspec.json.decode(opened.read(size), type=dict[str, msgspec.Raw])
    header.pop("__metadata__", None)
    return sum(math.prod(msgspec.json.decode(entry, type=_Tensor).shape) for entry in header.values())
