"""What the watch needs to know of a vocabulary: before which tokens an answer may end, which token ends it, and which
logits of the first token are kept. From the tokens' bytes; knows no engine.

An answer may end where the likeliest next token begins a word: a blank and something that is none; or is a blank alone
(tokenizers that set digits apart have such), where the text so far does not end in white space. There that text is
whole, and any reader's tokenizer cuts there too. In scripts that are written without blanks it may end before any token
that starts a character.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

#: Of `first_ids`.
SEED = 0x4845_4144_4741_5445
BEGINS_WORD, BLANK, ENDS_IN_SPACE = 1, 2, 4
_HEX = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_WORD_MARK = "\u2581"  # a blank, in SentencePiece's tokens
#: Scripts written without blanks between words, as first and last character.
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x0FFF),  # Tibetan
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0xA4CF),  # Chinese, Japanese and their signs, Yi
    (0xF900, 0xFAFF),
    (0xFF00, 0xFFEF),
    (0x20000, 0x3FFFF),
)


def token_bytes(backend_json: str, vocabulary: int) -> list[bytes | None]:
    """The bytes of each token's text; None: special, unused, or of a tokenizer of an unknown kind. `backend_json`: a
    fast tokenizer as its library writes it."""
    tree = json.loads(backend_json)
    kinds = _kinds_of(tree.get("decoder"))
    special = {entry["id"] for entry in tree.get("added_tokens") or () if entry.get("special")}
    model = tree.get("model") or {}
    table = model.get("vocab") or {}
    named = table.items() if isinstance(table, dict) else ((entry[0], at) for at, entry in enumerate(table))
    found: list[bytes | None] = [None] * vocabulary
    byte_level = "ByteLevel" in kinds
    marked = not byte_level and bool(kinds & {"Metaspace", "Replace", "ByteFallback"})
    for text, at in named:
        if at < vocabulary and at not in special:
            found[at] = _of_byte_level(text) if byte_level else _of_marked(text) if marked else None
    for entry in tree.get("added_tokens") or ():
        if entry["id"] < vocabulary and not entry.get("special") and (byte_level or marked):
            found[entry["id"]] = entry["content"].encode()
    return found


def places(tokens: Sequence[bytes | None]) -> npt.NDArray[np.uint8]:
    """uint8 [tokens]: the sum of `BEGINS_WORD`, an answer may end before that token; `BLANK`, it may where it does not
    end in white space; `ENDS_IN_SPACE`, behind that token it does, or nothing is known of it."""
    return np.array([_place(token) for token in tokens], np.uint8)


def first_ids(vocabulary: int, count: int, seed: int = SEED) -> npt.NDArray[np.int32]:
    """`count` token ids by the seed and the vocabulary's size alone, the same on every machine: those whose splitmix64
    of `seed + id` is least, in that order."""
    with np.errstate(over="ignore"):
        x = np.uint64(seed) + np.arange(vocabulary, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return np.argsort(x, kind="stable")[:count].astype(np.int32)


def reserved(
    vocabulary: int, used: Collection[int], special: Mapping[int, str], ends: Collection[int], template: str
) -> int | None:
    """The token by which a row is ended: one that no answer has. An unused one, else a special one that neither ends
    answers (`ends`) nor is written in the chat template. None: there is none, and the model's own end has to do."""
    for at in range(vocabulary - 1, -1, -1):
        if at not in used and at not in ends:
            return at
    for at in sorted(special, reverse=True):
        if at < vocabulary and at not in ends and special[at] not in template:
            return at
    return None


def _kinds_of(decoder: object) -> frozenset[str]:
    if not isinstance(decoder, dict):
        return frozenset()
    inner = decoder.get("decoders") or ()
    return frozenset({str(decoder.get("type"))}.union(*(_kinds_of(each) for each in inner)))


def _of_byte_level(text: str) -> bytes | None:
    try:
        return bytes(_BYTE_OF[character] for character in text)
    except KeyError:
        return text.encode()


def _of_marked(text: str) -> bytes:
    single = _HEX.fullmatch(text)
    return bytes([int(single[1], 16)]) if single else text.replace(_WORD_MARK, " ").encode()


def _place(token: bytes | None) -> int:
    if token is None:
        return ENDS_IN_SPACE
    before = BLANK if token == b" " else BEGINS_WORD if _begins_word(token) or _is_unspaced(token) else 0
    return before + (ENDS_IN_SPACE if token[-1:].isspace() else 0)


def _begins_word(token: bytes) -> bool:
    return token[:1] == b" " and token[1:2] not in (b"", b" ", b"\n", b"\r", b"\t", b"\v", b"\f")


def _is_unspaced(token: bytes) -> bool:
    """Whether it starts a character of a script without blanks; of a part of one its first byte tells."""
    lead = token[0] if token else 0
    if not 0xE0 <= lead <= 0xF4:
        return False
    try:
        character = ord(token[: 4 if lead >= 0xF0 else 3].decode())
    except (UnicodeDecodeError, TypeError):
        return 0xE3 <= lead <= 0xE9
    return any(first <= character <= last for first, last in _UNSPACED)


def _byte_characters() -> dict[str, int]:
    """The characters that stand for bytes in byte-level vocabularies: printable ones for themselves, all others from
    U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + at): byte for at, byte in enumerate(others)}


_BYTE_OF = _byte_characters()
