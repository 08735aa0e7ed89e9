"""A scorer on disk: one safetensors file, mapped into memory, with typed metadata. Knows no pool and no training.

u64 header size | JSON {"table": {...}, ..., "__metadata__": {"headgate": JSON of Metadata}} | spaces | tensors
                                                                                              ^ a multiple of 64
"""

import mmap
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from router.errors import ConfigError
from router.native.spec import EncoderSpec, TurnWeights

FORMAT = 1
_ALIGN = 64  # a row of 32 halves is one cache line
_HEADER_LIMIT = 16 << 20
_DTYPES: dict[str, tuple[str, Any]] = {
    "table": ("F16", np.float16),
    "vocab": ("U64", np.uint64),
    "vectors": ("F32", np.float32),
    "bias": ("F32", np.float32),
}


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A model that the checkpoint was trained on. Row i of `vectors` and `bias` is the i-th record's."""

    name: str
    strength: float | None = None  #: MMLU-Pro accuracy, 0..1: what unlabelled models are placed by
    prompts: int = 0  #: labelled prompts
    size_b: float | None = None  #: parameters, in billions


class DataRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A file of outcomes that the checkpoint was trained on."""

    name: str
    sha256: str
    rows: int


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """All of a checkpoint but its numbers. Fields are appended; readers ignore those they do not know."""

    format: int
    encoder: EncoderSpec
    models: tuple[ModelRecord, ...]
    turns: TurnWeights = TurnWeights()
    data: tuple[DataRecord, ...] = ()
    recipe: str = ""  #: the command that made it
    figures: dict[str, float] = {}  #: held-out, as the recipe measured them


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A validated checkpoint. The arrays are read-only views of the mapped file."""

    path: str
    meta: Metadata
    table: npt.NDArray[np.float16]  #: [encoder.rows, K]
    vocab: npt.NDArray[np.uint64]
    vectors: npt.NDArray[np.float32]  #: [models, K]
    bias: npt.NDArray[np.float32]  #: [models]


def read(path: str | Path) -> Checkpoint:
    """Maps and checks a checkpoint. Raises ConfigError naming the file, the key and what was expected.

    The file must not be rewritten in place while it is mapped; `write` replaces it.
    """
    buffer = _map(path)
    header, start = _header(path, buffer)
    meta = _metadata(path, header)
    arrays = {name: _tensor(path, buffer, header, start, name) for name in _DTYPES}
    _check(path, meta, arrays)
    return Checkpoint(path=str(path), meta=meta, **arrays)


def write(path: str | Path, meta: Metadata, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes `table`, `vocab`, `vectors` and `bias`, checked as `read` would, then puts the file in place at once."""
    ordered = {name: np.ascontiguousarray(arrays[name], dtype) for name, (_, dtype) in _DTYPES.items()}
    _check(path, meta, ordered)
    header: dict[str, Any] = {"__metadata__": {"format": "pt", "headgate": msgspec.json.encode(meta).decode()}}
    offset = 0
    for name, array in ordered.items():
        header[name] = {
            "dtype": _DTYPES[name][0],
            "shape": array.shape,
            "data_offsets": (offset, offset := offset + array.nbytes),
        }
    text = msgspec.json.encode(header)
    text += b" " * (-(8 + len(text)) % _ALIGN)
    path = Path(path)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
        try:
            file.write(len(text).to_bytes(8, "little") + text)
            for array in ordered.values():
                file.write(array.tobytes())
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


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
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path}: header: expected safetensors' JSON, got {error}") from error


def _metadata(path: str | Path, header: Mapping[str, Any]) -> Metadata:
    outer = header.get("__metadata__")
    text = outer.get("headgate") if isinstance(outer, dict) else None
    if not isinstance(text, str):
        raise ConfigError(f"{path}: __metadata__.headgate: expected a Headgate checkpoint's metadata, got none")
    try:
        version = msgspec.json.decode(text, type=dict[str, Any]).get("format")
        if version != FORMAT:
            raise ConfigError(f"{path}: format: expected version {FORMAT}, got {version!r}")
        return msgspec.json.decode(text, type=Metadata)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path}: __metadata__.headgate: {error}") from error


class _Entry(msgspec.Struct):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def _tensor(path: str | Path, buffer: mmap.mmap, header: Mapping[str, Any], start: int, name: str) -> npt.NDArray[Any]:
    if name not in header:
        raise ConfigError(f"{path}: {name}: expected this tensor, got {sorted(header.keys() - {'__metadata__'})}")
    try:
        entry = msgspec.convert(header[name], _Entry)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {name}: {error}") from error
    wanted, dtype = _DTYPES[name]
    if entry.dtype != wanted:
        raise ConfigError(f"{path}: {name}: expected dtype {wanted}, got {entry.dtype}")
    first, last = entry.data_offsets
    count = int(np.prod(entry.shape, dtype=object)) if all(n > 0 for n in entry.shape) else 0
    size = count * np.dtype(dtype).itemsize
    if count == 0 or first < 0 or last - first != size:
        raise ConfigError(f"{path}: {name}: expected {size} bytes for shape {list(entry.shape)}, got {last - first}")
    if start + last > len(buffer):
        raise ConfigError(f"{path}: {name}: truncated: expected {start + last} bytes, got {len(buffer)}")
    if (start + first) % np.dtype(dtype).itemsize:
        raise ConfigError(f"{path}: {name}: expected data aligned to its elements, got offset {start + first}")
    return np.frombuffer(buffer, dtype, count, start + first).reshape(entry.shape)


def _check(path: str | Path, meta: Metadata, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    try:
        meta.encoder.check()
        meta.turns.check()
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not meta.models:
        raise ConfigError(f"{path}: models: expected at least one model, got none")
    columns = arrays["table"].shape[-1]
    if columns % 16:
        raise ConfigError(f"{path}: table: expected a multiple of 16 columns, got {columns}")
    models = len(meta.models)
    shapes = {"table": (meta.encoder.rows, columns), "vectors": (models, columns), "bias": (models,)}
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise ConfigError(f"{path}: {name}: expected shape {list(shape)}, got {list(arrays[name].shape)}")
        if not _finite(arrays[name]):
            raise ConfigError(f"{path}: {name}: expected finite numbers, got an infinity or NaN")
    _check_vocab(path, meta, arrays["vocab"])


def _finite(array: npt.NDArray[Any]) -> bool:
    if array.dtype == np.float16:
        # NumPy widens halves one by one; the exponent's bits tell at once. In blocks, so that no large copy is made.
        flat = array.reshape(-1).view(np.uint16)
        blocks = (flat[i : i + (1 << 16)] for i in range(0, len(flat), 1 << 16))
        return not any(bool(((block & 0x7C00) == 0x7C00).any()) for block in blocks)
    return bool(np.isfinite(array).all())


def _check_vocab(path: str | Path, meta: Metadata, vocab: npt.NDArray[np.uint64]) -> None:
    if vocab.ndim != 1 or len(vocab) & (len(vocab) - 1):
        raise ConfigError(f"{path}: vocab: expected [a power of two], got {list(vocab.shape)}")
    ids = vocab[vocab != np.uint64(0xFFFFFFFFFFFFFFFF)] & np.uint64(0xFFFFF)
    if len(ids) == len(vocab):
        raise ConfigError(f"{path}: vocab: expected at least one empty slot, got none")
    if len(ids) and int(ids.max()) >= meta.encoder.pieces:
        raise ConfigError(f"{path}: vocab: expected ids below {meta.encoder.pieces}, got {int(ids.max())}")
