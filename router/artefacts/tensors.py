"""A safetensors file, mapped into memory, with one text of ours in its metadata. Knows names, shapes and bytes only.

u64 header size | JSON {"table": {...}, ..., "__metadata__": {"headgate": text}} | spaces | tensors
                                                                                  ^ a multiple of 64
"""

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from router import files
from router.errors import ConfigError

_ALIGN = 64  # a row of 32 halves is one cache line
_HEADER_LIMIT = 32 << 20
_DTYPES: dict[str, Any] = {
    "F16": np.float16,
    "F32": np.float32,
    "U64": np.uint64,
    "I64": np.int64,
    "I32": np.int32,
    "U8": np.uint8,
    "I8": np.int8,
}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}

Array = npt.NDArray[Any]


class _Entry(msgspec.Struct):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def read(path: str | Path) -> tuple[str, dict[str, Array]]:
    """Our text and the arrays, read-only views of the mapped file, which must not be rewritten in place meanwhile
    (`write` replaces it). Raises ConfigError naming the file, the key and what was expected."""
    buffer = _map(path)
    header, start = _header(path, buffer)
    outer = header.pop("__metadata__", None)
    text = outer.get("headgate") if isinstance(outer, dict) else None
    if not isinstance(text, str):
        raise ConfigError(f"{path}: __metadata__.headgate: expected a Headgate checkpoint's metadata, got none")
    entries = {name: _entry(path, told, name) for name, told in header.items()}
    arrays = {name: _tensor(path, buffer, entry, start, name) for name, entry in entries.items()}
    _check_apart(path, entries)
    return text, arrays


def write(path: str | Path, text: str, arrays: Mapping[str, Array]) -> None:
    """Puts the file in place at once: a reader sees the old one or the new one."""
    arrays = _laid_out(arrays)
    header: dict[str, Any] = {"__metadata__": {"format": "pt", "headgate": text}}
    offset = 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": array.shape,
            "data_offsets": (offset, offset := offset + array.nbytes),
        }
    head = msgspec.json.encode(header)
    head += b" " * (-(8 + len(head)) % _ALIGN)
    path = Path(path)
    try:
        _put(path, head, arrays)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def _put(path: Path, head: bytes, arrays: Mapping[str, Array]) -> None:
    with files.replaced(path, 0o644) as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array).tobytes())


def _laid_out(arrays: Mapping[str, Array]) -> Mapping[str, Array]:
    """In the order given, if each array then begins at a multiple of its elements' size; else the larger ones first."""
    begins = np.cumsum([0, *(array.nbytes for array in arrays.values())])
    if all(begin % array.itemsize == 0 for begin, array in zip(begins, arrays.values(), strict=False)):
        return arrays
    return dict(sorted(arrays.items(), key=lambda item: -item[1].itemsize))


def _map(path: str | Path) -> mmap.mmap:
    try:
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:
        raise ConfigError(f"{path}: expected a safetensors file, got an empty file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def _header(path: str | Path, buffer: mmap.mmap) -> tuple[dict[str, Any], int]:
    """The header and the offset of the first tensor byte."""
    size = int.from_bytes(buffer[:8], "little")
    if len(buffer) < 10 or not 2 <= size <= _HEADER_LIMIT or buffer[8:9] != b"{":
        raise ConfigError(f"{path}: expected a safetensors file, got something else")
    if 8 + size > len(buffer):
        raise ConfigError(f"{path}: truncated: expected {8 + size} bytes of header, got {len(buffer)} bytes")
    try:
        return msgspec.json.decode(buffer[8 : 8 + size], type=dict[str, Any]), 8 + size
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: header: expected safetensors' JSON, got {error}") from error


def _entry(path: str | Path, told: Any, name: str) -> _Entry:
    try:
        return msgspec.convert(told, _Entry)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {name}: {error}") from error


def _check_apart(path: str | Path, entries: Mapping[str, _Entry]) -> None:
    """Each byte is of one tensor: so reading all of them takes no more than the file has."""
    end, before = 0, ""
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        first, last = entry.data_offsets
        if first < end:
            raise ConfigError(f"{path}: {name}: expected data behind that of {before}, got offset {first} below {end}")
        end, before = last, name


def _tensor(path: str | Path, buffer: mmap.mmap, entry: _Entry, start: int, name: str) -> Array:
    if entry.dtype not in _DTYPES:
        raise ConfigError(f"{path}: {name}: expected dtype {', '.join(_DTYPES)}; got {entry.dtype}")
    dtype = np.dtype(_DTYPES[entry.dtype])
    first, last = entry.data_offsets
    count = int(np.prod(entry.shape, dtype=object)) if all(n > 0 for n in entry.shape) else 0
    size = count * dtype.itemsize
    if count == 0 or first < 0 or last - first != size:
        raise ConfigError(f"{path}: {name}: expected {size} bytes for shape {list(entry.shape)}, got {last - first}")
    if start + last > len(buffer):
        raise ConfigError(f"{path}: {name}: truncated: expected {start + last} bytes, got {len(buffer)}")
    if (start + first) % dtype.itemsize:
        raise ConfigError(f"{path}: {name}: expected data aligned to its elements, got offset {start + first}")
    return np.frombuffer(buffer, dtype, count, start + first).reshape(entry.shape)
