"""A small checkpoint on disk, made as training makes one."""

from pathlib import Path

import numpy as np
import pytest

from router.heads import checkpoint
from router.heads.checkpoint import DataRecord, Metadata, ModelRecord
from router.native.spec import EncoderSpec, TurnWeights
from router.native.vocab import build_vocab

TOKENS = [
    "[UNK]",
    *"abcdefghijklmnopqrstuvwxyz",
    *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"),
    "hello",
    "world",
    "?",
]
MODELS = (
    ModelRecord(name="tiny-1b", strength=0.2, size_b=1.0, prompts=10),
    ModelRecord(name="small-4b", strength=0.35, size_b=4.0, prompts=10),
    ModelRecord(name="mid-9b", strength=0.5, size_b=9.0, prompts=10),
    ModelRecord(name="large-70b", strength=0.7, size_b=70.0, prompts=10),
    ModelRecord(name="Unplaced"),
)


def parts(columns: int = 16, models: tuple[ModelRecord, ...] = MODELS):
    """Metadata and arrays that belong together."""
    vocab, longest = build_vocab(TOKENS)
    spec = EncoderSpec(pieces=len(TOKENS), unk=0, max_piece=longest, word_rows=64, word_cap=16.0)
    draw = np.random.default_rng(3)
    arrays = {
        "table": draw.normal(0, 0.5, (spec.rows, columns)).astype(np.float16),
        "vocab": vocab,
        "vectors": draw.normal(0, 0.5, (len(models), columns)).astype(np.float32),
        "bias": np.linspace(-1, 1, len(models)).astype(np.float32),
    }
    meta = Metadata(
        format=checkpoint.FORMAT,
        encoder=spec,
        models=models,
        turns=TurnWeights(earlier=0.3),
        data=(DataRecord(name="labels.parquet", sha256="0" * 64, rows=50),),
        recipe="headgate train labels.parquet",
        figures={"apgr": 0.6},
    )
    return meta, arrays


@pytest.fixture
def make_parts():
    return parts


@pytest.fixture
def path(tmp_path: Path) -> Path:
    meta, arrays = parts()
    file = tmp_path / "small.safetensors"
    checkpoint.write(file, meta, arrays)
    return file
