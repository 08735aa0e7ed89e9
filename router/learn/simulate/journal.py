"""A journal as traffic: when requests came, how long they were, and what each decision read of the scores."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from router.errors import ConfigError
from router.learn.simulate.traffic import MOST, MOST_TOKENS, Traffic
from router.observe.journal import Reader
from router.observe.record import Record
from router.policy import Settings
from router.types import DecisionNumbers, Number

_DECIDED = ("auto", "headgate/auto")
#: Settings of one journal that are told apart; more of them (thresholds, say) are refused.
_MOST_RULES = 10_000


class _Row(msgspec.Struct, frozen=True):
    at_s: float
    prompt: int
    estimate: int
    cached: int
    output: int
    max_tokens: int
    rule: int
    score: list[float]
    tokens: list[float]
    log_sd: list[float]


class _Left(Exception):
    """A record that is not replayed, and why."""


def of_journal(
    path: Path, names: Sequence[str], speed: float = 1.0, progress: Callable[[int], None] = lambda read_bytes: None
) -> Traffic:
    """Every request that was answered by a model, with the scores of `names` that its decision read.

    What was asked of a model by name, or by a threshold, is asked so again; `auto` is the pool's to decide. How long
    another model's answer would have been is not known: as long as the one that was given. Raises ConfigError where
    none can be replayed.
    """
    reader, left = Reader(path), Counter[str]()
    rules: dict[Settings, int] = {}
    rows: list[_Row] = []
    for line in reader:
        progress(reader.read_bytes)
        if not isinstance(line, Record):
            continue
        try:
            rows.append(_row(line, names, rules))
        except _Left as error:
            left[str(error)] += 1
        if len(rows) > MOST or len(rules) > _MOST_RULES:
            raise ConfigError(f"{path}: expected at most {MOST} requests and {_MOST_RULES} ways to decide")
    if reader.torn:
        left["lines that are not whole"] += reader.torn
    if reader.unknown:
        left["lines of another kind, or of a later version than this Headgate reads"] += reader.unknown
    if not rows:
        why = "; ".join(f"{count:,}: {reason}" for reason, count in left.items())
        raise ConfigError(f"{path}: no request of it can be replayed{': ' + why if why else ': it holds none'}")
    return _traffic(path, names, rows, tuple(rules), dict(left), speed)


def _row(record: Record, names: Sequence[str], rules: dict[Settings, int]) -> _Row:
    numbers = record.decision.numbers if record.decision is not None else None
    if numbers is None:
        raise _Left("without a decision's numbers: none was made, or an early release wrote it")
    if record.completion_tokens < 1 or not 1 <= record.prompt_tokens <= MOST_TOKENS:
        raise _Left("without tokens: they were not answered")
    if record.completion_tokens > MOST_TOKENS or not 0 <= record.time_s < 1e11:
        raise _Left("whose tokens or time can be none")
    places = [numbers.models.index(name) if name in numbers.models else -1 for name in names]
    if min(places) < 0:
        raise _Left(f"whose decision did not know {names[places.index(min(places))]!r}")
    most = numbers.question.get("max_tokens")
    return _Row(
        record.time_s, record.prompt_tokens, _estimate(numbers, record.prompt_tokens),
        min(max(0, record.cached_tokens), record.prompt_tokens - 1),
        record.completion_tokens, int(most) if isinstance(most, int | float) and 0 < most <= MOST_TOKENS else -1,
        _rule(record, numbers, places, rules), _scores(numbers, places),
        _told(numbers, places, "output_tokens"), _told(numbers, places, "output_log_sd"),
    )  # fmt: skip


def _estimate(numbers: DecisionNumbers, prompt_tokens: int) -> int:
    """Of the prompt's tokens, as the decision read it."""
    told = numbers.question.get("prompt_tokens")
    return told if isinstance(told, int) and 0 < told <= MOST_TOKENS else prompt_tokens


def _scores(numbers: DecisionNumbers, places: Sequence[int]) -> list[float]:
    found = _told(numbers, places, "quality")
    if not all(0 <= value <= 1 for value in found):
        raise _Left("whose scores are no qualities")
    return found


def _told(numbers: DecisionNumbers, places: Sequence[int], name: str) -> list[float]:
    column = numbers.scores.get(name)
    if column is None:  # a column of zeros is left out
        return [0.0] * len(places)
    if len(column) != len(numbers.models):
        raise _Left("whose numbers do not fit together")
    return [_number(column[at]) for at in places]


def _number(value: Number) -> float:
    return float(value) if isinstance(value, int | float) else -1.0


def _rule(record: Record, numbers: DecisionNumbers, places: Sequence[int], rules: dict[Settings, int]) -> int:
    """Index of the rule, -1: as `auto`."""
    if record.asked in _DECIDED:
        return -1
    told = numbers.settings
    here = {at: i for i, at in enumerate(places)}
    rule = told.get("rule", "utility")
    if rule == "utility":
        return -1
    strong, weak, pinned = (here.get(_index(told, key), -1) for key in ("strong", "weak", "pinned"))
    if rule == "pinned" and pinned < 0:
        raise _Left("that asked for a member which is not simulated")
    if rule == "threshold" and min(strong, weak) < 0:
        raise _Left("whose threshold is between members that are not simulated")
    settings = Settings(
        rule="pinned" if rule == "pinned" else "threshold", threshold=_number(told.get("threshold", 0.5)),
        strong=max(strong, 0), weak=max(weak, 0), pinned=pinned if rule == "pinned" else -1,
    )  # fmt: skip
    return rules.setdefault(settings, len(rules))


def _index(told: dict[str, Number], key: str) -> int:
    value = told.get(key, 0)
    return value if isinstance(value, int) else -1


def _traffic(
    path: Path, names: Sequence[str], rows: Sequence[_Row], rules: tuple[Settings, ...], left: dict[str, int],
    speed: float,
) -> Traffic:  # fmt: skip
    """A record is written as its request ends, so a journal is not in the order in which they came."""
    at_s = np.array([row.at_s for row in rows])
    order = np.argsort(at_s, kind="stable")
    output = np.array([row.output for row in rows], np.int32)[order]
    tokens, log_sd = (np.array([getattr(row, key) for row in rows])[order] for key in ("tokens", "log_sd"))
    return Traffic(
        about=f"journal {path.name}", names=tuple(names), at_s=(at_s[order] - at_s[order[0]]) / speed,
        prompt=np.array([row.prompt for row in rows], np.int32)[order],
        estimate=np.array([row.estimate for row in rows], np.int32)[order],
        cached=np.array([row.cached for row in rows], np.int32)[order],
        output=np.ascontiguousarray(np.repeat(output[:, None], len(names), axis=1)),
        score=np.ascontiguousarray(np.array([row.score for row in rows])[order]),
        lengths=(tokens, log_sd) if tokens.any() else None,
        max_tokens=np.array([row.max_tokens for row in rows], np.int32)[order],
        rule=np.array([row.rule for row in rows], np.int32)[order], rules=rules, left_out=left,
    )  # fmt: skip
