"""The static embedding of a text: 256 numbers in microseconds, near to where a sentence encoder would put it.

Reads and checks the file that `router.learn.distil` makes. Knows no model of a pool and no training.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from router.artefacts import tensors
from router.artefacts.artefact import DataRecord
from router.errors import ConfigError
from router.native.embedder import Embedder
from router.native.scorer import Encoder
from router.native.spec import EncoderSpec

DEFAULT = Path(__file__).parent.parent / "checkpoints" / "embedding.safetensors"
KIND, FORMAT = "static_embedding", 1
MOST_BYTES = 1 << 20  #: that a file may ask to be read of a text

_TENSORS: dict[str, tuple[Any, int]] = {"rows": (np.int8, 2), "scales": (np.float32, 1), "vocab": (np.uint64, 1)}


class StaticMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """All of the file but its numbers. Fields are appended; readers ignore those they do not know."""

    kind: str = KIND
    format: int = FORMAT
    encoder: EncoderSpec  #: WordPieces only
    most_mass: float  #: pieces are added until their masses reach it
    most_bytes: int  #: of a text that are read
    source: str = ""  #: the encoder whose vectors are approximated
    licence: str = ""  #: of its weights
    data: tuple[DataRecord, ...] = ()  #: the tables whose prompts it was fitted to
    recipe: str = ""  #: the command that made it
    figures: dict[str, float] = {}  #: of the fit


class StaticEmbedding:
    """WordPieces of a text -> weighted mean of their int8 rows -> [columns] float32 of length 1. Never changed after it
    was made: one object serves any number of threads, and the GIL is released while it works.

    Each distinct word counts once. A piece's mass is the length of its row times its scale: what it can move the mean
    by. Of a text, the first `meta.most_bytes` bytes are read (a character cut there is dropped), and of these the
    pieces in their order until their masses reach `meta.most_mass`: so a call's work is bounded, and words that say
    little use little of the room. A word without pieces (`[UNK]`) has no mass. What is not valid UTF-8 is dropped.
    """

    def __init__(self, meta: StaticMetadata, arrays: Mapping[str, npt.NDArray[Any]], path: str = "<memory>") -> None:
        """`rows` int8 [pieces, columns], `scales` float32 [pieces], `vocab` uint64 [slots]; columns a multiple of 64,
        at most 256. Borrowed. Raises ConfigError naming `path`, the tensor or key, and what was expected."""
        _check(path, meta)
        rows, scales, vocab = (_tensor(path, arrays, name) for name in _TENSORS)
        if not np.isfinite(scales).all():
            raise ConfigError(f"{path}: scales: expected finite numbers, got an infinity or NaN")
        self.meta, self.path = meta, path
        try:
            encoder = Encoder(meta.encoder, vocab)
            self._embedder = Embedder(encoder, rows, scales, most_mass=meta.most_mass, most_bytes=meta.most_bytes)
        except (ConfigError, ValueError) as error:
            raise ConfigError(f"{path}: {error}") from error

    @property
    def columns(self) -> int:
        """How many numbers a text becomes."""
        return self._embedder.columns

    @property
    def native(self) -> Embedder:
        """For native callers."""
        return self._embedder

    def embed(self, text: str | bytes) -> npt.NDArray[np.float32]:
        """[columns], of length 1, so that a dot product of two is their cosine; all 0 where no piece has a mass (an
        empty text, white space). `bytes` should be UTF-8. Raises TypeError for anything else."""
        return self._embedder.embed(text)

    def embed_batch(self, texts: Iterable[str | bytes]) -> npt.NDArray[np.float32]:
        """[texts, columns], each row as `embed` makes it, by one call without the GIL."""
        return self._embedder.embed_batch(texts)


def read(path: str | Path = DEFAULT) -> StaticEmbedding:
    """Maps and checks a file; milliseconds, so keep what it gives. Raises ConfigError naming the file, the key and what
    was expected."""
    text, arrays = tensors.read(path)
    try:
        kind = msgspec.json.decode(text, type=dict[str, Any])
        if kind.get("kind") != KIND:
            raise ConfigError(f"{path}: kind: expected {KIND!r}, got {kind.get('kind')!r}")
        if kind.get("format") != FORMAT:
            raise ConfigError(f"{path}: format: expected version {FORMAT}, got {kind.get('format')!r}")
        meta = msgspec.json.decode(text, type=StaticMetadata)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ConfigError(f"{path}: __metadata__.headgate: {error}") from error
    return StaticEmbedding(meta, arrays, str(path))


def write(path: str | Path, meta: StaticMetadata, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Checked as `read` would, then put in place at once."""
    StaticEmbedding(meta, arrays, str(path))
    ordered = {name: arrays[name] for name in ("vocab", "rows", "scales")}
    tensors.write(path, msgspec.json.encode(meta).decode(), ordered)


def _check(path: str, meta: StaticMetadata) -> None:
    try:
        meta.encoder.check()
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not 0 < meta.most_mass <= 1e9:
        raise ConfigError(f"{path}: most_mass: expected a number above 0 and at most 1e9, got {meta.most_mass}")
    if not 0 < meta.most_bytes <= MOST_BYTES:
        raise ConfigError(f"{path}: most_bytes: expected 1 to {MOST_BYTES}, got {meta.most_bytes}")


def _tensor(path: str, arrays: Mapping[str, npt.NDArray[Any]], name: str) -> npt.NDArray[Any]:
    dtype, dimensions = _TENSORS[name]
    found = arrays.get(name)
    if found is None:
        raise ConfigError(f"{path}: {name}: expected this tensor, got {sorted(arrays)}")
    if found.dtype != dtype or found.ndim != dimensions:
        raise ConfigError(
            f"{path}: {name}: expected {np.dtype(dtype).name} of {dimensions} dimensions, "
            f"got {found.dtype.name} {list(found.shape)}"
        )
    return found
