"""Signals of one text: words, patterns, length, script. Compiled once, read many times, from any thread.

A word's pattern takes time in proportion to the text. `pattern` is whoever compiles it to bound: a head reads the
first `READ` characters by Python's engine, rules of the config all of them by one that does not backtrack (`engine`).
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Protocol

from router.config import TextSignals
from router.errors import ConfigError

READ = 16384

#: What program code and formulas look like.
CODE = r"```|\bdef \w+\(|\bclass \w+[:({]|#include\b|\bSELECT .{1,200} FROM\b|[{;]\s{0,9}$|\breturn .{0,99};"
FORMULAS = r"\\(?:frac|sum|int|sqrt|begin)\b|\$[^$\n]+\$|\w\^\w|[=<>]\s{0,3}-?\d{0,9}[a-z]\b"
#: Share of the letters from which on a text is of a script.
OF_SCRIPT = 0.3
_UNICODE_NAMES = {"han": "CJK"}


class Pattern(Protocol):
    """A compiled one, of whatever engine."""

    def search(self, text: str, /) -> object:
        """Something, where it is found."""
        ...


def check(signals: TextSignals, where: str) -> None:
    """Raises ConfigError, naming `where` and what was expected."""
    if any(not word.strip() for word in signals.words):
        raise ConfigError(f"{where}: words: expected words, got an empty one")
    try:
        re.compile(signals.pattern)
    except re.error as error:
        raise ConfigError(f"{where}: pattern: expected a regular expression: {error}") from error


def given(signals: TextSignals) -> bool:
    """Whether any is."""
    bounds = (signals.longer, signals.shorter, signals.foreign)
    return bool(signals.words or signals.pattern) or any(bound is not None for bound in bounds)


def word_patterns(signals: TextSignals) -> list[re.Pattern[str]]:
    """Of `words`, one at most."""
    if not signals.words:
        return []
    return [re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, signals.words))})(?!\w)", re.IGNORECASE)]


def holds(signals: TextSignals, patterns: Sequence[Pattern], text: str, read: str, foreign: float) -> bool:
    """`patterns`: each must find something in `read`, the part of `text` that they are given. `foreign`: its share."""
    return (
        (signals.longer is None or len(text) > signals.longer)
        and (signals.shorter is None or len(text) < signals.shorter)
        and (signals.foreign is None or foreign >= signals.foreign)
        and all(pattern.search(read) for pattern in patterns)
    )


def foreign_share(text: str) -> float:
    """The share of letters that are not Latin; 0 of a text without letters."""
    if text.isascii():
        return 0.0
    letters = [char for char in text if char.isalpha()]
    latin = sum(char.isascii() or unicodedata.name(char, "").startswith("LATIN") for char in letters)
    return 1 - latin / len(letters) if letters else 0.0


def is_of_script(text: str, scripts: Sequence[str]) -> bool:
    """At least `OF_SCRIPT` of the letters are of one of `scripts`."""
    if text.isascii():
        return "latin" in scripts and any(char.isalpha() for char in text)
    letters = [char for char in text if char.isalpha()]
    counts = dict.fromkeys(scripts, 0)
    prefixes = {script: _UNICODE_NAMES.get(script, script.upper()) for script in scripts}
    for char in letters:
        name = "LATIN" if char.isascii() else unicodedata.name(char, "")
        for script, prefix in prefixes.items():
            counts[script] += name.startswith(prefix)
    return bool(letters) and max(counts.values()) >= OF_SCRIPT * len(letters)
