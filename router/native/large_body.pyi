"""What of a large body takes a decoder too long, read natively and without the interpreter's lock.

A decoder makes an object of each turn, text and token id, and holds the lock meanwhile: 26 ms for 100,000 turns, 65 ms
for 500,000 ids, 150 ms for 900,000 short texts, in which no token of any stream moves.
"""

from collections.abc import Sequence
from typing import Literal, overload

from router.types import Turn

class Shortened:
    """A JSON body of which something was left out that takes long to decode."""

    json: bytes
    """What is left."""

    def place_before(self, at: int) -> int:
        """Where in the body byte `at` of `json` was."""

class ShortIds(Shortened):
    most_ids: int
    """Of the longest list that was cut."""

def shorten_ids(json: bytes, key: bytes) -> ShortIds | None:
    """`json` with each list of plain token ids cut to its first id: those that are the value of the object's `key`, or
    an item of that value; and a value of nothing but such lists to the first. None where nothing was cut.

    Ids are integers of at most 18 digits. What is no JSON stays as it is.
    """

class TakenTexts(Shortened):
    """Texts that were taken out of a body: runs of those that a list holds with no object between them, all but its
    first 16; and each of more than 16 KiB, keys too. `<MARK:RUN>` stands for a run's first one, "" for its others.
    """

    mark: str

    value_bytes: int
    """Of the value of the key that was asked for, 0 without one."""

    def count(self, run: int) -> int:
        """Texts of a run. Raises `IndexError`."""

    def text(self, run: int) -> str:
        """A run's texts, joined by line ends. Made without the interpreter's lock. Raises `IndexError`."""

def take_texts(body: bytes, key: bytes, mark: str) -> TakenTexts | None:
    """None where nothing was taken: of what is not UTF-8 nothing is. Of what is no JSON, whatever is taken or left, a
    decoder says the same. `mark` must be one that the body does not hold."""

def with_whole_parts(body: bytes, most: int) -> bytes | Literal["content", "system"]:
    """`body`, one that was decoded, with `{"type":"text","text":T}` for each bare text T that stands among the parts of
    its messages' `content` and of its `system`. The name of the list where these, all together, have more than `most`
    parts: those of all messages count before those of `system`.
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
