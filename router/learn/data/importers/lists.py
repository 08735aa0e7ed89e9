"""Lists that a table holds as text: as JSON, as JSON with small faults, or as Python writes them.

A cell that begins as such a list and is none is refused: as a prompt it would be a text that nobody sends. A text that
only begins with a bracket stays a text.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from router.learn.data.importers.base import Broken

LARGEST = 1 << 20  #: characters of a list as Python writes it; a longer one is refused
DEEPEST = 16  #: lists and dicts in one another
#: What follows the bracket: a quote (straight, typographic, or escaped in a list that was encoded twice), an object, an
#: array, nothing at all, or an empty entry. So `[INST] hi` and `[1, 2] sum these` are texts.
_BEGINS = re.compile(
    r"""[\s\ufeff]*(?:"(?=\[\s*(?:\\"|'))|array\()?\[[\s\[]*"""
    r"""(?:[ubUB]?["'\u201c\u2018]|\\"|\{|array\(|\]\s*\Z|(?:null|None)\s*[,\]])"""
)
_TOKEN = re.compile(
    r"""\s*(?:(?P<mark>[\[\]{}:,])|[uU]?'(?P<single>(?:[^'\\]++|\\.)*+)'|[uU]?"(?P<double>(?:[^"\\]++|\\.)*+)\""""
    r"""|(?P<word>None|True|False|nan|-?\d{1,18}(?:\.\d{1,18})?(?:e[+-]?\d{1,3})?))""",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U000[0-9a-fA-F]{5}|U0010[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "\n": ""}
_END = ""


def begins(value: object) -> bool:
    """Whether a text begins as a list of texts or of objects does."""
    return isinstance(value, str) and _BEGINS.match(value) is not None


def listed(value: object, key: str) -> object:
    """The list where a text is one, else the value as it is. Half a surrogate pair becomes U+FFFD. Raises Broken."""
    if not isinstance(value, str) or not begins(value):
        return value
    text = value.strip().removeprefix("\ufeff")
    try:
        found = json.loads(text, strict=False)
        found = json.loads(found, strict=False) if isinstance(found, str) else found
    except (ValueError, RecursionError):
        found = _written_by_python(text, key)
    if not isinstance(found, list):
        raise Broken(f"{key}: expected a list as JSON, got {type(found).__name__}")
    return _whole(found, key)


def _whole(value: Any, key: str, depth: int = 0) -> Any:
    """With whole characters only."""
    if isinstance(value, str):
        # Two halves that were escaped apart are one character again; a half alone is replaced.
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if depth > DEEPEST:
        raise Broken(f"{key}: expected at most {DEEPEST} lists in one another, got more")
    if isinstance(value, list):
        return [_whole(one, key, depth + 1) for one in value]
    if isinstance(value, Mapping):
        return {name: _whole(one, key, depth + 1) for name, one in value.items()}
    return value


def _written_by_python(text: str, key: str) -> Any:
    """`repr` of lists and dicts of texts and numbers. Not by `ast`, to which `['a' 'b']`, as NumPy writes two texts,
    is one text; and in time and memory that grow with the text alone."""
    if len(text) > LARGEST:
        raise Broken(f"{key}: expected a list as JSON, got broken JSON of {len(text)} characters")
    reader = _Reader(text, key)
    found = reader.value(0)
    if reader.mark != _END:
        raise reader.fault()
    return found


class _Reader:
    """Tokens of a text, one ahead: a `mark`, or a `scalar` where the mark is `v`."""

    def __init__(self, text: str, key: str) -> None:
        self._text, self._key = text, key  # `text` has no blanks around it
        self._at = self._next = 0
        self.mark = _END
        self.scalar: Any = None
        self.step()

    def fault(self) -> Broken:
        return Broken(
            f"{self._key}: expected a list as JSON or as Python writes it, got one that breaks at character {self._at}"
        )

    def step(self) -> None:
        self._at = self._next
        if self._at == len(self._text):
            self.mark = _END
            return
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            raise self.fault()
        self._next = found.end()
        self.mark = found["mark"] or "v"
        if self.mark == "v":
            self.scalar = _scalar(found)

    def value(self, depth: int) -> Any:
        if depth > DEEPEST:
            raise Broken(f"{self._key}: expected at most {DEEPEST} lists in one another, got more")
        if self.mark == "v":
            found = self.scalar
            self.step()
            return found
        if self.mark == "[":
            return self._entries("]", depth)
        if self.mark == "{":
            return dict(self._entries("}", depth))
        raise self.fault()

    def _entries(self, end: str, depth: int) -> list[Any]:
        out: list[Any] = []
        self.step()
        while self.mark != end:
            one = self.value(depth + 1)
            out.append(self._pair(one, depth) if end == "}" else one)
            if self.mark == ",":
                self.step()
            elif self.mark != end:
                raise self.fault()
        self.step()
        return out

    def _pair(self, name: Any, depth: int) -> tuple[str, Any]:
        if self.mark != ":" or not isinstance(name, str):
            raise self.fault()
        self.step()
        return name, self.value(depth + 1)


def _scalar(found: re.Match[str]) -> Any:
    word = found["word"]
    if word is None:
        return _ESCAPE.sub(_character, found["single"] if found["single"] is not None else found["double"])
    words = {"None": None, "True": True, "False": False}
    return words[word] if word in words else float(word)


def _character(escape: re.Match[str]) -> str:
    """As Python reads it: an escape that is none stays as it is."""
    told = escape[1]
    if len(told) > 1:
        return chr(int(told[1:], 16))
    return _ESCAPED.get(told, told if told in "\\'\"" else "\\" + told)
