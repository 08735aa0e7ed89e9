"""Rules written by hand: keywords, patterns, length, script. Each that holds moves every model's log odds by a weight.

Python's `re` reads the patterns: it backtracks, so a text is read up to `READ` characters, and patterns are the
operator's own, never a client's.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import Artefact
from router.errors import ConfigError
from router.types import Segment

READ = 16384
CHARACTERS_PER_TOKEN = 4  #: of English, in most vocabularies: an estimate of size

Floats = npt.NDArray[np.float32]


class QueryRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Holds when all of its conditions hold. At least one is given."""

    name: str
    points: float = 0.5  #: log odds that the weakest model loses; the strongest loses none, others in proportion
    words: tuple[str, ...] = ()  #: any of them stands in the text, as a whole word, in whatever case
    pattern: str = ""  #: a regular expression finds something
    longer: int | None = None  #: more characters than this
    shorter: int | None = None  #: fewer characters than this
    foreign: float | None = None  #: at least this share of the letters is not Latin


class Rules:
    """Compiled rules. Immutable and safe from many threads."""

    def __init__(self, rules: Sequence[QueryRule], where: str = "rules") -> None:
        """Raises ConfigError naming the rule and what was expected."""
        if not rules:
            raise ConfigError(f"{where}: expected at least one rule, got none")
        for i, rule in enumerate(rules):
            _check(rule, f"{where}[{i}] ({rule.name})")
        names = [rule.name for rule in rules]
        if len(set(names)) < len(names):
            raise ConfigError(f"{where}: expected names that differ, got {', '.join(names)}")
        self._rules = [(rule, [re.compile(text, re.IGNORECASE) for text in _patterns(rule)]) for rule in rules]

    def matches(self, queries: Sequence[Sequence[Segment]]) -> Floats:
        """[queries, rules] in 0..1: the weighted share of the conversation's texts for which each rule holds."""
        out = np.zeros((len(queries), len(self._rules)), np.float32)
        for row, segments in zip(out, queries, strict=True):
            total = sum(weight for _, weight in segments)
            for text, weight in segments:
                if weight > 0:
                    row += np.float32(weight / total) * np.array(self._holding(text), np.float32)
        return out

    def _holding(self, text: str) -> list[bool]:
        read = text[:READ]
        share = _foreign(read) if any(rule.foreign is not None for rule, _ in self._rules) else 0.0
        return [_holds(rule, patterns, text, read, share) for rule, patterns in self._rules]


class RulesPredictor:
    """`logit q_m = b_m + sum_r w_rm [rule r holds]`."""

    def __init__(self, artefact: Artefact) -> None:
        """Raises ConfigError where the file does not fit."""
        self._rules = Rules(rules_of(artefact.meta.options, artefact.path), artefact.path)
        models, rules = len(artefact.meta.models), len(artefact.meta.options["rules"])
        self._bias = artefact.array("bias", np.float32, (models,))
        self._weights = artefact.array("weights", np.float32, (rules, models))

    def logits(self, queries: Sequence[Sequence[Segment]]) -> Floats:
        matches = self._rules.matches(queries)
        return np.asarray(self._bias + np.einsum("qr,rm->qm", matches, self._weights), np.float32)

    def tokens(self, segments: Sequence[Segment]) -> int:
        return sum(-(-len(text) // CHARACTERS_PER_TOKEN) for text, _ in segments)


def rules_of(options: Any, where: str) -> tuple[QueryRule, ...]:
    """The `rules` of plain objects, as a file or an artefact holds them. Raises ConfigError."""
    if not isinstance(options, dict) or "rules" not in options:
        raise ConfigError(f"{where}: expected `rules: [...]`, a list of rules, got {type(options).__name__}")
    try:
        return msgspec.convert(options["rules"], tuple[QueryRule, ...])
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: rules: {error}") from error


def _check(rule: QueryRule, where: str) -> None:
    if not (rule.words or rule.pattern or any(x is not None for x in (rule.longer, rule.shorter, rule.foreign))):
        raise ConfigError(f"{where}: expected one of words, pattern, longer, shorter, foreign; got none")
    if any(not word.strip() for word in rule.words):
        raise ConfigError(f"{where}: words: expected words, got an empty one")
    try:
        re.compile(rule.pattern)
    except re.error as error:
        raise ConfigError(f"{where}: pattern: expected a regular expression: {error}") from error


def _patterns(rule: QueryRule) -> list[str]:
    """Each must find something."""
    words = [rf"(?<!\w)(?:{'|'.join(map(re.escape, rule.words))})(?!\w)"] if rule.words else []
    return [*words, rule.pattern] if rule.pattern else words


def _holds(rule: QueryRule, patterns: Sequence[re.Pattern[str]], text: str, read: str, foreign: float) -> bool:
    return (
        (rule.longer is None or len(text) > rule.longer)
        and (rule.shorter is None or len(text) < rule.shorter)
        and (rule.foreign is None or foreign >= rule.foreign)
        and all(pattern.search(read) for pattern in patterns)
    )


def _foreign(text: str) -> float:
    """The share of letters that are not Latin; 0 of a text without letters."""
    if text.isascii():
        return 0.0
    letters = [char for char in text if char.isalpha()]
    latin = sum(char.isascii() or unicodedata.name(char, "").startswith("LATIN") for char in letters)
    return 1 - latin / len(letters) if letters else 0.0
