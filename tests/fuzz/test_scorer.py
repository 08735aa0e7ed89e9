"""Random and mutated bytes into the native scorer: scores in [0, 1], twice the same, and rows that are there.

`HEADGATE_FUZZ_ROUNDS` makes it longer, `HEADGATE_FUZZ_SEED` repeats a failure: `make fuzz`; `make sanitize` for memory.
"""

import os
import random

import numpy as np

from router.native.scorer import Encoder, Scorer, isas
from router.native.spec import EncoderSpec
from router.native.vocab import build_vocab

ROUNDS = int(os.environ.get("HEADGATE_FUZZ_ROUNDS", "3000")) // 3
SEED = int(os.environ.get("HEADGATE_FUZZ_SEED", "20260101"))

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TOKENS = ["[UNK]", *LETTERS, *(f"##{c}" for c in LETTERS if c != "q"), "the", "北", "é", "?"]
BASE = "the hello unaffable é北한 ÀΣ\u0301 {}?\n".encode()
SPECS = (
    {"word_rows": 1024, "char_rows": 512},
    {"word_rows": 64, "word_orders": (8, 3, 1), "char_rows": 64, "char_orders": (1, 8)},
    {"word_rows": 0, "shape_rows": 0},
)


def scorers(draw: np.random.Generator) -> list[Scorer]:
    vocab, longest = build_vocab(TOKENS)
    made = []
    for columns, changes in zip((16, 32, 80), SPECS, strict=True):
        spec = EncoderSpec(pieces=len(TOKENS), unk=0, max_piece=longest, **changes)
        table = draw.normal(0, 0.3, (spec.rows, columns)).astype(np.float16)
        vectors = draw.normal(0, 0.3, (3, columns)).astype(np.float32)
        made += [Scorer(Encoder(spec, vocab), table, vectors, np.zeros(3, np.float32), isa) for isa in isas()]
    return made


def text(draw: random.Random) -> bytes:
    size = int(2 ** (draw.random() * 13))
    kind = draw.randrange(4)
    if kind == 0:
        return draw.randbytes(size)
    if kind == 1:
        mutated = bytearray((BASE * (size // len(BASE) + 1))[:size])
        for _ in range(draw.randrange(8)):
            mutated[draw.randrange(size)] = draw.randrange(256)
        return bytes(mutated)
    if kind == 2:
        codes = [draw.randrange(draw.choice((0x80, 0x800, 0x110000))) for _ in range(size // 4)]
        return "".join(map(chr, codes)).encode("utf-8", "surrogatepass")
    return (b"q" * draw.randrange(300) + b" ") * (size // 100)


def test_any_bytes():
    draw, all_scorers = random.Random(SEED), scorers(np.random.default_rng(SEED))
    for round in range(ROUNDS):
        data, scorer = text(draw), draw.choice(all_scorers)
        where = f"seed {SEED}, round {round}: {data[:80]!r}"
        segments = [(data, 1.0), (data[: len(data) // 2], 0.5)]
        quality, pieces = scorer.score(segments)
        assert all(0 <= q <= 1 for q in quality), where
        assert scorer.score(segments) == (quality, pieces), where
        indptr, rows, weights, counts = scorer.encoder.featurise([data])
        assert indptr[-1] == len(rows) == len(weights), where
        assert ((rows >= 0) & (rows < scorer.encoder.spec.rows)).all(), where
        assert counts[0] == len(scorer.encoder.pieces(data)), where
