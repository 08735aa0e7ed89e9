"""The native scorer again, in plain Python and NumPy: what the tests hold it against, and how slow the obvious way is.

Written from docs/features.md, not from the C++.
"""

import math
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from router.native.spec import EncoderSpec
from router.native.vocab import MASK, PRIME, find, key_of, mix, slot_of

if TYPE_CHECKING:
    from router.native.scorer import Lengths

BEGIN, END = 0x110000, 0x110001
LONGEST_WORD = 100
MOST_LETTERS = 1 << 14
LONGEST_TOKEN = 128
MEMORY = 1 << 16
IDEOGRAPHS = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)
SYMBOLS = frozenset("{}()[]<>=;\\/_|&^$#@*+~`%")

Row = tuple[int, float]


def decode(text: str | bytes) -> str:
    """The text's code points; what is not UTF-8 becomes U+FFFD."""
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text


def _is_punctuation(char: str) -> bool:
    return unicodedata.category(char)[0] == "P" or ("!" <= char <= "~" and not char.isalnum())


def _normalise(char: str) -> str:
    if char in "\t\n\r":
        return " "
    if char in "\0\ufffd" or unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co"):
        return ""
    if char.isspace():
        return " "
    base = (c for c in unicodedata.normalize("NFD", char) if unicodedata.category(c) != "Mn")
    lowered = "".join(c.lower() for c in base)
    if any(first <= ord(char) <= last for first, last in IDEOGRAPHS):
        return f" {lowered} "
    return "".join(f" {c} " if _is_punctuation(c) else c for c in lowered)


def words(text: str | bytes) -> list[str]:
    """BERT's basic tokens: normalised, split at white space, punctuation, ideographs and after MOST_LETTERS."""
    runs = "".join(map(_normalise, decode(text))).split()
    return [run[i : i + MOST_LETTERS] for run in runs for i in range(0, len(run), MOST_LETTERS)]


def pieces(word: str, vocab: npt.NDArray[np.uint64], spec: EncoderSpec) -> list[int]:
    """Greedy longest match from the left; `[UNK]` where a part has no piece."""
    if len(word) > LONGEST_WORD:
        return [spec.unk]
    out, start = [], 0
    while start < len(word):
        for end in range(min(len(word), start + spec.max_piece), start, -1):
            id_ = find(vocab, slot_of(word[start:end], start > 0))
            if id_ is not None:
                break
        else:
            return [spec.unk]
        out.append(id_)
        start = end
    return out


def _salt(spec: EncoderSpec, group: int, order: int) -> int:
    return mix((spec.seed + 256 * group + order) & MASK)


def distinct(all_words: Sequence[str]) -> list[str]:
    """Each word once; after MEMORY distinct words all are forgotten."""
    out: list[str] = []
    met: set[str] = set()
    for word in all_words:
        if word in met:
            continue
        met.add(word)
        out.append(word)
        if len(met) == MEMORY:
            met.clear()
    return out


def _word_grams(all_words: Sequence[str], spec: EncoderSpec) -> Iterator[int]:
    """Unigrams of distinct words, then the distinct rows of longer n-grams."""
    for order in (order for order in spec.word_orders if order == 1):
        for word in distinct(all_words):
            yield mix(key_of(map(ord, word)) ^ _salt(spec, 1, order)) & (spec.word_rows - 1)
    keys = [key_of(map(ord, word)) for word in all_words]
    met: set[int] = set()
    for order in (order for order in spec.word_orders if order > 1):
        for last in range(order - 1, len(keys)):
            key = keys[last - order + 1]
            for following in keys[last - order + 2 : last + 1]:
                key = (mix(key) * PRIME + following) & MASK
            met.add(mix(key ^ _salt(spec, 1, order)) & (spec.word_rows - 1))
    yield from met


def _char_grams(all_words: Sequence[str], spec: EncoderSpec) -> Iterator[int]:
    for word in distinct(all_words):
        codes = [BEGIN, *map(ord, word), END]
        for order in spec.char_orders:
            for start in range(len(codes) - order + 1):
                key = key_of(codes[start : start + order])
                yield mix(key ^ _salt(spec, 2, order)) & (spec.char_rows - 1)


def _shape(text: str | bytes, all_words: Sequence[str]) -> list[int]:
    chars = decode(text)
    counts = (
        len(all_words),
        max(map(len, all_words), default=0),
        sum("A" <= c <= "Z" for c in chars),
        sum("0" <= c <= "9" for c in chars),
        chars.count("\n"),
        sum(c in SYMBOLS for c in chars),
        chars.count("?"),
        sum(c >= "\x80" and c != "\ufffd" and not "\ud800" <= c <= "\udfff" for c in chars),
    )
    return [16 * family + min(15, count.bit_length()) for family, count in enumerate(counts)]


def _pooled(rows: Sequence[int], base: int, cap: float) -> list[Row]:
    scale = math.sqrt(min(len(rows), cap)) / max(1, len(rows))
    return [(base + row, scale) for row in rows]


def featurise(text: str | bytes, vocab: npt.NDArray[np.uint64], spec: EncoderSpec) -> tuple[list[Row], int]:
    """The text's rows with their weights (a row may stand more than once), and its WordPieces, repeats too."""
    all_words = words(text)
    pieced = {word: pieces(word, vocab, spec) for word in all_words}
    ids = [id_ for word in distinct(all_words) for id_ in pieced[word]]
    base = spec.bases
    out = _pooled(ids, base[0], spec.piece_cap)
    if spec.word_rows:
        out += _pooled(list(_word_grams(all_words, spec)), base[1], spec.word_cap)
    if spec.char_rows:
        out += _pooled(list(_char_grams(all_words, spec)), base[2], spec.char_cap)
    if spec.shape_rows:
        out += [(base[3] + row, 1.0) for row in _shape(text, all_words)]
    return out, sum(len(pieced[word]) for word in all_words)


def score(
    segments: Sequence[tuple[str | bytes, float]],
    vocab: npt.NDArray[np.uint64],
    spec: EncoderSpec,
    table: npt.NDArray[np.float16],
    vectors: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float64], int]:
    """Quality per model, and the size in tokens: WordPieces, but at least one for 128 bytes.

    `table` [rows, K], `vectors` [models, K], `bias` [models].
    """
    at, size = hidden(segments, vocab, spec, table)
    return qualities(at, vectors, bias), size


def qualities(
    at: npt.NDArray[np.float64], vectors: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-(bias + vectors.astype(np.float64) @ at))))


def lengths(at: npt.NDArray[np.float64], told: "Lengths") -> npt.NDArray[np.float64]:
    """Expected output tokens per model; 0 where nothing is known."""
    logs = told.bias + told.vectors.astype(np.float64) @ at
    return np.asarray(np.exp(np.clip(logs, told.least, told.most)))


def hidden(
    segments: Sequence[tuple[str | bytes, float]],
    vocab: npt.NDArray[np.uint64],
    spec: EncoderSpec,
    table: npt.NDArray[np.float16],
) -> tuple[npt.NDArray[np.float64], int]:
    """The hidden vector [K], and the size in tokens."""
    at = np.zeros(table.shape[1])
    total, count, size = 0.0, 0, 0
    for text, weight in segments:
        bag, pieces_here = featurise(text, vocab, spec)
        count += pieces_here
        total += weight
        size += len(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        if bag:
            rows, weights = zip(*bag, strict=True)
            at += weight * (np.array(weights) @ table[list(rows)].astype(np.float64))
    if total > 0:
        at /= total
    return at, max(count, size // LONGEST_TOKEN)
