"""The matrix-factorisation head's artefact: a folded table, a vocabulary, a vector and a bias per model.

Knows no pool and no training.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from router.artefacts import artefact as artefacts
from router.artefacts.artefact import FORMAT, Artefact, DataRecord, Metadata, ModelRecord
from router.errors import ConfigError
from router.heads.lengths import Lengths, lengths_of
from router.native.spec import EncoderSpec

__all__ = ["FORMAT", "Checkpoint", "DataRecord", "Metadata", "ModelRecord", "of", "read", "write"]

_DTYPES: dict[str, Any] = {"table": np.float16, "vocab": np.uint64, "vectors": np.float32, "bias": np.float32}


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A validated checkpoint."""

    path: str
    meta: Metadata
    encoder: EncoderSpec
    table: npt.NDArray[np.float16]  #: [encoder.rows, K]
    vocab: npt.NDArray[np.uint64]
    vectors: npt.NDArray[np.float32]  #: [models, K]
    bias: npt.NDArray[np.float32]  #: [models]
    lengths: Lengths | None = None  #: expected output tokens, where it tells any


def of(artefact: Artefact) -> Checkpoint:
    """Raises ConfigError naming the file, the tensor and what was expected."""
    path, encoder, models = artefact.path, artefact.meta.encoder, len(artefact.meta.models)
    if encoder is None:
        raise ConfigError(f"{path}: encoder: expected the features' spec, got none")
    table = artefact.array("table", np.float16, (encoder.rows, None))
    if table.shape[1] % 16:
        raise ConfigError(f"{path}: table: expected a multiple of 16 columns, got {table.shape[1]}")
    vectors = artefact.array("vectors", np.float32, (models, table.shape[1]))
    bias = artefact.array("bias", np.float32, (models,))
    vocab = artefact.array("vocab", np.uint64, (None,))
    check_vocab(path, encoder, vocab)
    return Checkpoint(
        path=path, meta=artefact.meta, encoder=encoder, table=table, vocab=vocab, vectors=vectors, bias=bias,
        lengths=lengths_of(artefact, table.shape[1]),
    )  # fmt: skip


def read(path: str | Path) -> Checkpoint:
    return of(artefacts.read(path))


def write(path: str | Path, meta: Metadata, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes `table`, `vocab`, `vectors` and `bias`, checked as `read` would."""
    ordered = {name: np.ascontiguousarray(arrays[name], dtype) for name, dtype in _DTYPES.items()}
    of(Artefact(meta=meta, arrays=ordered, path=str(path)))
    artefacts.write(path, Artefact(meta=meta, arrays=ordered))


def check_vocab(path: str, encoder: EncoderSpec, vocab: npt.NDArray[np.uint64]) -> None:
    """A table of `build_vocab`, with ids that the encoder has."""
    if len(vocab) & (len(vocab) - 1):
        raise ConfigError(f"{path}: vocab: expected [a power of two], got {list(vocab.shape)}")
    ids = vocab[vocab != np.uint64(0xFFFFFFFFFFFFFFFF)] & np.uint64(0xFFFFF)
    if len(ids) == len(vocab):
        raise ConfigError(f"{path}: vocab: expected at least one empty slot, got none")
    if len(ids) and int(ids.max()) >= encoder.pieces:
        raise ConfigError(f"{path}: vocab: expected ids below {encoder.pieces}, got {int(ids.max())}")
