"""Rules written by hand: keywords, patterns, length, script. Each that holds moves every model's log odds by a weight.

Python's `re` reads the patterns: it backtracks, so a text is read up to `READ` characters, and patterns are the
operator's own, never a client's.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import Artefact
from router.config import TextSignals
from router.errors import ConfigError
from router.signals.text import READ, check, foreign_share, given, holds, word_patterns
from router.types import Segment

CHARACTERS_PER_TOKEN = 4  #: of English, in most vocabularies: an estimate of size

Floats = npt.NDArray[np.float32]


class QueryRule(TextSignals, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Holds when all of its conditions hold. At least one is given."""

    name: str
    points: float = 0.5  #: log odds that the weakest model loses; the strongest loses none, others in proportion


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
        self._rules = [(rule, _patterns(rule)) for rule in rules]

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
        share = foreign_share(read) if any(rule.foreign is not None for rule, _ in self._rules) else 0.0
        return [holds(rule, patterns, text, read, share) for rule, patterns in self._rules]


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
    if not given(rule):
        raise ConfigError(f"{where}: expected one of words, pattern, longer, shorter, foreign; got none")
    check(rule, where)


def _patterns(rule: QueryRule) -> list[re.Pattern[str]]:
    """Each must find something."""
    words = word_patterns(rule)
    return [*words, re.compile(rule.pattern, re.IGNORECASE)] if rule.pattern else words
