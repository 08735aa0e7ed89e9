"""What the headers of safetensors files say: the tensors, their types and sizes. No weight is read.

A file begins with the length of its header, eight bytes, and the header, JSON. Knows no model.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

_MOST_HEADER: Final = 100 << 20  #: the format's own bound
_BITS: Final = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "BF16": 16, "F16": 16, "I16": 16, "U16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


class Tensor(msgspec.Struct, frozen=True):
    """One of a file."""

    name: str
    dtype: str  #: as the format names it: `BF16`, `F8_E4M3`, ...
    values: int
    size: int  #: bytes
    dimensions: int


def tensors_of(path: Path) -> Iterator[Tensor]:
    """Raises `OSError`, and `ValueError` for what is no such file."""
    for name, entry in _header(path).items():
        if name != "__metadata__":
            yield _tensor(str(name), entry)


def _header(path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= _MOST_HEADER:
            raise ValueError(f"{path.name} is no safetensors file")
        text = file.read(length)
    try:
        header = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{path.name} is no safetensors file") from error
    if len(text) < length or not isinstance(header, dict):
        raise ValueError(f"{path.name} is no safetensors file")
    return header


def _tensor(name: str, entry: object) -> Tensor:
    if isinstance(entry, dict):
        shape, dtype = entry.get("shape"), str(entry.get("dtype"))
        if isinstance(shape, list) and all(isinstance(n, int) and 0 <= n < 1 << 48 for n in shape) and dtype in _BITS:
            values = math.prod(shape)
            return Tensor(name, dtype, values, math.ceil(values * _BITS[dtype] / 8), len(shape))
    raise ValueError(f"the tensor {name[:200]!r} has no shape and type")
