"""The WordPiece vocabulary as an open-addressing table of uint64, ready to be mapped from a file (docs/features.md)."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

MASK = (1 << 64) - 1
PRIME = 0x9E3779B97F4A7C15
CONTINUES = 0xD6E8FEB86659FD93
ID_BITS = 20
EMPTY = MASK


def mix(x: int) -> int:
    """MurmurHash3's 64-bit finaliser."""
    x = ((x ^ (x >> 33)) * 0xFF51AFD7ED558CCD) & MASK
    x = ((x ^ (x >> 33)) * 0xC4CEB9FE1A85EC53) & MASK
    return x ^ (x >> 33)


def key_of(codes: Iterable[int]) -> int:
    """The polynomial key of a string of code points."""
    key = 0
    for code in codes:
        key = (key * PRIME + code + 1) & MASK
    return key


def slot_of(text: str, continues: bool) -> int:
    """The 64-bit hash under which a piece is stored."""
    return mix(key_of(map(ord, text)) ^ (CONTINUES if continues else 0))


def build_vocab(tokens: Sequence[str]) -> tuple[npt.NDArray[np.uint64], int]:
    """The table, and the code points of the longest piece. `tokens[id]` is a piece, `##x` one that continues a word."""
    size = 1
    while size < len(tokens) * 3 // 2:
        size *= 2
    table = [EMPTY] * size
    longest = 1
    for id_, token in enumerate(tokens):
        continues = token.startswith("##") and len(token) > 2
        text = token[2:] if continues else token
        longest = max(longest, len(text))
        hashed = slot_of(text, continues)
        slot = hashed & (size - 1)
        while table[slot] != EMPTY:
            slot = (slot + 1) & (size - 1)
        table[slot] = hashed >> ID_BITS << ID_BITS | id_
    return np.array(table, dtype=np.uint64), min(longest, 100)


def find(vocab: npt.NDArray[np.uint64], hashed: int) -> int | None:
    """The id stored under a hash, or None."""
    slot = hashed & (len(vocab) - 1)
    while (entry := int(vocab[slot])) != EMPTY:
        if entry >> ID_BITS == hashed >> ID_BITS:
            return entry & ((1 << ID_BITS) - 1)
        slot = (slot + 1) & (len(vocab) - 1)
    return None
