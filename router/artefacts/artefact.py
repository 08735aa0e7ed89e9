"""What training makes and serving reads, whatever the method: typed metadata and named arrays. Knows no pool.

The metadata's `router` says which head reads the arrays; each head checks its own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from router.artefacts import tensors
from router.errors import ConfigError
from router.native.spec import EncoderSpec, TurnWeights

FORMAT = 1
LARGEST = 1e9  #: of a weight: three layers of such numbers still do not overflow single precision
LARGEST_SIZE_B = 1e6  #: billions of parameters

Array = npt.NDArray[Any]
S = TypeVar("S")


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A reference model: one that the router was trained on. A head's i-th quality is the i-th record's."""

    name: str
    strength: float | None = None  #: MMLU-Pro accuracy, 0..1: what unlabelled models are placed by
    prompts: int = 0  #: labelled prompts
    size_b: float | None = None  #: parameters, in billions


class DataRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A file of outcomes that the router was trained on."""

    name: str
    sha256: str
    rows: int


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """All of a checkpoint but its numbers. Fields are appended; readers ignore those they do not know."""

    format: int
    models: tuple[ModelRecord, ...]
    encoder: EncoderSpec | None = None  #: of heads that read the native encoder's features
    turns: TurnWeights = TurnWeights()
    data: tuple[DataRecord, ...] = ()
    recipe: str = ""  #: the command that made it
    figures: dict[str, float] = {}  #: held-out, as the recipe measured them
    router: str = "mf"  #: the method, a name of `router.heads`
    options: dict[str, Any] = {}  #: the method's own settings; plain JSON
    calibration: str = ""  #: how its log odds were made to mean what they say: platt, isotonic, none; empty: not told


class Artefact(msgspec.Struct, frozen=True, kw_only=True):
    """A trained router. Arrays of a file are read-only views of the mapping."""

    meta: Metadata
    arrays: Mapping[str, Array]
    path: str = "<memory>"  #: for errors

    def array(self, name: str, dtype: Any, shape: tuple[int | None, ...]) -> Array:
        """An array that must be there; `None` in `shape` stands for any size. Raises ConfigError."""
        found = self.arrays.get(name)
        if found is None:
            raise ConfigError(f"{self.path}: {name}: expected this tensor, got {sorted(self.arrays)}")
        if found.dtype != dtype:
            raise ConfigError(f"{self.path}: {name}: expected {np.dtype(dtype).name}, got {found.dtype.name}")
        if len(found.shape) != len(shape) or any(n not in (None, m) for n, m in zip(shape, found.shape, strict=True)):
            wanted = ", ".join("any" if n is None else str(n) for n in shape)
            raise ConfigError(f"{self.path}: {name}: expected shape [{wanted}], got {list(found.shape)}")
        return found

    def options_as(self, kind: type[S]) -> S:
        """The method's own settings. Raises ConfigError where they are no `kind`."""
        try:
            return msgspec.convert(self.meta.options, kind)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{self.path}: options: {error}") from error


def read(path: str | Path) -> Artefact:
    """Maps and checks a file. Raises ConfigError naming the file, the key and what was expected."""
    text, arrays = tensors.read(path)
    found = Artefact(meta=_metadata(path, text), arrays=arrays, path=str(path))
    check(found)
    return found


def write(path: str | Path, artefact: Artefact) -> None:
    """Checked as `read` would, then put in place at once."""
    check(msgspec.structs.replace(artefact, path=str(path)))
    tensors.write(path, msgspec.json.encode(artefact.meta).decode(), artefact.arrays)


def check(artefact: Artefact) -> None:
    """What holds for every router. Raises ConfigError."""
    path, meta = artefact.path, artefact.meta
    try:
        if meta.encoder is not None:
            meta.encoder.check()
        meta.turns.check()
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not meta.models:
        raise ConfigError(f"{path}: models: expected at least one model, got none")
    for model in meta.models:
        _check_model(path, model)
    for name, array in artefact.arrays.items():
        if not _finite(array):
            raise ConfigError(f"{path}: {name}: expected finite numbers, got an infinity or NaN")
        if array.dtype == np.float32 and not -LARGEST <= array.min() <= array.max() <= LARGEST:
            far = max(array.min(), array.max(), key=abs)
            raise ConfigError(f"{path}: {name}: expected numbers from {-LARGEST:g} to {LARGEST:g}, got {far:g}")


def _check_model(path: str, model: ModelRecord) -> None:
    if model.strength is not None and not 0 <= model.strength <= 1:
        raise ConfigError(f"{path}: models: {model.name}: strength: expected 0 to 1, got {model.strength:g}")
    if model.size_b is not None and not 0 < model.size_b <= LARGEST_SIZE_B:
        raise ConfigError(
            f"{path}: models: {model.name}: size_b: expected billions of parameters above 0 and up to "
            f"{LARGEST_SIZE_B:g}, got {model.size_b:g}"
        )


def _metadata(path: str | Path, text: str) -> Metadata:
    try:
        version = msgspec.json.decode(text, type=dict[str, Any]).get("format")
        if version != FORMAT:
            raise ConfigError(f"{path}: format: expected version {FORMAT}, got {version!r}")
        return msgspec.json.decode(text, type=Metadata)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ConfigError(f"{path}: __metadata__.headgate: {error}") from error


def _finite(array: Array) -> bool:
    if array.dtype.kind != "f":
        return True
    if array.dtype == np.float16:
        # NumPy widens halves one by one; the exponent's bits tell at once. In blocks, so that no large copy is made.
        flat = array.reshape(-1).view(np.uint16)
        blocks = (flat[i : i + (1 << 16)] for i in range(0, len(flat), 1 << 16))
        return not any(bool(((block & 0x7C00) == 0x7C00).any()) for block in blocks)
    return bool(np.isfinite(array).all())
