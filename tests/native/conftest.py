"""A small vocabulary and a seeded model, so that the plain twin is quick enough to be asked often."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from router.native.scorer import Encoder
from router.native.spec import EncoderSpec
from router.native.vocab import build_vocab

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
WORDS = ["the", "them", "theme", "un", "##aff", "##able", "##ing", "run", "##ning", "hello", "world", "##ld"]
SCRIPTS = ["北", "é", "σ"]
MARKS = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
TOKENS = ["[PAD]", "[UNK]", *LETTERS, *(f"##{c}" for c in LETTERS if c not in "qx"), *WORDS, *SCRIPTS, *MARKS]


class Small(NamedTuple):
    spec: EncoderSpec
    vocab: npt.NDArray[np.uint64]
    table: npt.NDArray[np.float16]
    vectors: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]

    @property
    def encoder(self) -> Encoder:
        return Encoder(self.spec, self.vocab)


def small(models: int = 3, columns: int = 32, **changes: object) -> Small:
    vocab, longest = build_vocab(TOKENS)
    wanted = {"word_rows": 512, "char_rows": 256, "word_cap": 16.0, "char_cap": 1e9, "seed": 7} | changes
    spec = EncoderSpec(pieces=len(TOKENS), unk=1, max_piece=longest, **wanted)
    draw = np.random.default_rng(1)
    return Small(
        spec,
        vocab,
        draw.normal(0, 0.5, (spec.rows, columns)).astype(np.float16),
        draw.normal(0, 0.5, (models, columns)).astype(np.float32),
        draw.normal(0, 0.5, models).astype(np.float32),
    )


@pytest.fixture(scope="session")
def model() -> Small:
    return small()


@pytest.fixture(scope="session")
def make_model():
    """`small`, for other sizes and specs."""
    return small
