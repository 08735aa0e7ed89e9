"""What of a large body takes a decoder too long, read natively and without the interpreter's lock.

A decoder makes an object of each turn and of each token id, and holds the lock meanwhile: 26 ms for 100,000 turns,
65 ms for 500,000 ids, in which no token of any stream moves.
"""

from collections.abc import Sequence
from typing import overload

from router.types import Turn

def shorten_ids(json: bytes, key: bytes) -> tuple[bytes, int, list[tuple[int, int]]] | None:
    """`json` with each list of plain token ids cut to its first id: those that are the value of the object's `key`, or
    an item of that value; and a value of nothing but such lists to the first. With it: how many ids the longest had,
    and where bytes were left out, as (place in the result, how many). None where nothing was cut, or a key is written
    with escapes.

    Ids are integers of at most ten digits, without a sign. What is no JSON stays as it is.
    """

def utf8_bytes(text: bytes) -> int:
    """How many bytes stand before the first that is no UTF-8: all of them where there is none."""

class TextTurns(Sequence[Turn]):
    """The turns of a chat whose messages are all texts. A `Turn` is made each time one is asked for, by its index."""

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int) -> Turn: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Turn]: ...

def read_chat(body: bytes) -> tuple[str, TextTurns, bool, int | None, int, frozenset[str]] | None:
    """Of a plain chat: model ("" where it says none), turns, stream, most output tokens, choices, needs.

    None for all others: what `router.dialects.decode` reads otherwise, or refuses.
    """
