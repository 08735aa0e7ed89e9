"""Specs and vocabulary tables that are refused, and a vocabulary that finds each of its pieces."""

import msgspec
import pytest

from router.errors import ConfigError
from router.native.spec import EncoderSpec, TurnWeights
from router.native.vocab import build_vocab, find, slot_of

GOOD = EncoderSpec(pieces=100, unk=1, max_piece=18)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"word_rows": 1000}, "encoder.word_rows: expected a power of two or 0, got 1000"),
        ({"char_rows": -8}, "encoder.char_rows: expected a power of two or 0, got -8"),
        ({"shape_rows": 64}, "encoder.shape_rows: expected 0 or 128, got 64"),
        ({"pieces": 0}, "encoder.pieces: expected 1 to 1048575, got 0"),
        ({"unk": 100}, "encoder.unk: expected an id below 100, got 100"),
        ({"max_piece": 101}, "encoder.max_piece: expected 1 to 100, got 101"),
        ({"word_orders": (1, 9)}, r"encoder.word_orders: expected orders from 1 to 8, got \(1, 9\)"),
        ({"char_orders": (0,)}, r"encoder.char_orders: expected orders from 1 to 8, got \(0,\)"),
        ({"char_orders": (1,) * 9}, "encoder.char_orders: expected at most 8 orders, got 9"),
        ({"word_cap": float("nan")}, "encoder.word_cap: expected a number of at least 1, got nan"),
        ({"seed": -1}, "encoder.seed: expected an unsigned 64-bit number, got -1"),
        ({"word_rows": 1 << 31}, "encoder: expected at most 2147483647 rows"),
    ],
)
def test_refused_specs(changes, message):
    with pytest.raises(ConfigError, match=message):
        msgspec.structs.replace(GOOD, **changes).check()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"earlier": -0.1}, "turns.earlier: expected a weight from 0 to 10, got -0.1"),
        ({"system": 11.0}, "turns.system: expected a weight from 0 to 10, got 11.0"),
        ({"decay": 0.0}, "turns.decay: expected a number above 0 and at most 1, got 0.0"),
    ],
)
def test_refused_turn_weights(changes, message):
    with pytest.raises(ConfigError, match=message):
        TurnWeights(**changes).check()


def test_vocabulary_finds_its_pieces():
    tokens = ["[UNK]", "a", "##a", "##", "ab", "##ab", "北", *(f"w{i}" for i in range(500))]
    vocab, longest = build_vocab(tokens)
    assert longest == 5
    for id_, token in enumerate(tokens):
        continues = token.startswith("##") and len(token) > 2
        assert find(vocab, slot_of(token.removeprefix("##") if continues else token, continues)) == id_
    assert find(vocab, slot_of("zz", False)) is None
