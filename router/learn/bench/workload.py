"""What is asked: prompts with or without an expected answer, from a file, or made up at given lengths."""

import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import msgspec

from router.errors import ConfigError
from router.learn.data import records

Grader = Literal["exact", "number", "choice", "regex", "command"]

NUMBER = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_PROMPT = ("prompt", "question")
_EXPECTED = ("expected", "answer", "reference", "target")
_SHOWN = 10  #: broken rows that a refusal names
_VOCABULARY = [
    "time",
    "people",
    "water",
    "number",
    "part",
    "sound",
    "place",
    "year",
    "work",
    "name",
    "help",
    "line",
    "differ",
    "turn",
    "cause",
    "much",
    "mean",
    "before",
    "move",
    "right",
    "house",
    "point",
    "page",
    "letter",
    "mother",
    "answer",
    "found",
    "study",
    "still",
    "learn",
    "plant",
    "cover",
    "food",
    "sun",
    "four",
    "state",
    "keep",
    "eye",
    "never",
    "last",
    "let",
    "thought",
    "city",
    "tree",
    "cross",
    "farm",
    "hard",
    "start",
    "might",
    "story",
    "saw",
    "far",
    "sea",
    "draw",
    "left",
    "late",
    "run",
    "while",
    "press",
    "close",
    "night",
    "real",
]


class Turn(msgspec.Struct, frozen=True):
    role: str
    content: str


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One question."""

    id: str
    turns: tuple[Turn, ...]
    expected: str = ""
    grader: Grader | None = None  #: None: answers are not graded
    max_tokens: int = 0  #: 0: the run's
    fixed: bool = False  #: the answer has exactly `max_tokens`, whatever the model would say
    task: str = ""

    @property
    def prompt(self) -> str:
        """The last turn."""
        return self.turns[-1].content


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    items: tuple[Item, ...]
    left_out: tuple[str, ...] = ()  #: broken rows, each with its place and fault

    @property
    def graded(self) -> bool:
        return any(item.grader is not None for item in self.items)


def read(path: Path, grader: Grader | None, *, skip_broken: bool = False) -> Workload:
    """A table with a row a question (docs/bench.md). `grader`: of rows that name none and have an expected answer.

    Raises ConfigError with the places of broken rows, unless they are to be left out.
    """
    items, faults = [], []
    for number, record in enumerate(records.read(path)):
        try:
            items.append(_item(record, grader, number))
        except _RowError as error:
            faults.append(f"{record.where}: {error}")
    if faults and not skip_broken:
        more = f"\n  and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        told = "\n  ".join(faults[:_SHOWN])
        raise ConfigError(f"{len(faults)} broken rows; --skip-broken leaves them out:\n  {told}{more}")
    if not items:
        raise ConfigError(f"{path}: expected at least one question, got none")
    return Workload(items=tuple(items), left_out=tuple(faults))


class _RowError(Exception):
    pass


def _item(record: records.Record, grader: Grader | None, number: int) -> Item:
    if record.broken:
        raise _RowError(record.broken)
    values = record.values
    expected = next((values[key] for key in _EXPECTED if values.get(key) is not None), None)
    return Item(
        id=str(values.get("id", values.get("prompt_id", number))),
        turns=_turns(values),
        expected="" if expected is None else _text(expected),
        grader=_grader(values.get("grader"), grader, expected),
        max_tokens=_whole(values.get("max_tokens")),
        task=str(values.get("task") or ""),
    )


def _turns(values: dict[str, object]) -> tuple[Turn, ...]:
    messages = values.get("messages")
    if messages is not None:
        try:
            turns = msgspec.convert(messages, tuple[Turn, ...])
        except msgspec.ValidationError as error:
            raise _RowError(f"messages: expected a list of objects with role and content: {error}") from None
        if not turns:
            raise _RowError("messages: expected at least one")
        return turns
    prompt = next((values[key] for key in _PROMPT if values.get(key) is not None), None)
    if not isinstance(prompt, str) or not prompt:
        raise _RowError(f"prompt: expected text, got {records.shown(prompt)}")
    return (Turn("user", prompt),)


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _RowError(f"expected: expected text or a number, got {records.shown(value)}")
    return str(value)


def _grader(named: object, given: Grader | None, expected: object) -> Grader | None:
    if named is None or named == "":
        found = given if expected is not None or given == "command" else None
    elif named in get_args(Grader):
        found = msgspec.convert(named, Grader)
    else:
        raise _RowError(f"grader: expected one of {', '.join(get_args(Grader))}; got {records.shown(named)}")
    if found is not None and found != "command" and expected is None:
        raise _RowError(f"expected: the grader {found} wants an expected answer, got none")
    if found is not None and (fault := _pattern_fault(found, str(expected))):
        raise _RowError(f"expected: {fault}")
    return found


def _whole(value: object) -> int:
    if value is None or value == "":
        return 0
    try:
        count = int(str(value))
    except ValueError:
        count = -1
    if not 0 < count <= 1 << 20:
        raise _RowError(f"max_tokens: expected a whole number from 1, got {records.shown(value)}")
    return count


def _pattern_fault(grader: Grader, expected: str) -> str:
    """Why the expected answer is none that the grader can compare with; empty: it is one."""
    if grader == "regex":
        try:
            re.compile(expected)
        except re.error as error:
            return f"{expected!r} is no regular expression: {error}"
    if grader == "number" and not NUMBER.search(expected):
        return f"the grader number wants a number, got {expected[:80]!r}"
    if grader == "choice" and not re.fullmatch(r"\W*[A-Za-z]\W*", expected):
        return f"the grader choice wants one letter, got {expected[:80]!r}"
    return ""


def synthetic(count: int, input_tokens: int, output_tokens: int, seed: int) -> Workload:
    """`count` different prompts of about `input_tokens` tokens: one a word. Answers of exactly `output_tokens`."""
    return Workload(
        items=tuple(_made(number, input_tokens, output_tokens, seed) for number in range(count)),
    )


def of_lengths(lengths: Sequence[tuple[int, int]], seed: int) -> Iterator[Item]:
    """One for each `(input tokens, output tokens)`, as a trace without prompts has them."""
    for number, (inputs, outputs) in enumerate(lengths):
        yield _made(number, max(1, inputs), max(1, outputs), seed)


def _made(number: int, input_tokens: int, output_tokens: int, seed: int) -> Item:
    # The number first: no two share a prefix that an engine could find in its cache.
    draw = random.Random(f"{seed}:{number}")
    words = " ".join(draw.choices(_VOCABULARY, k=max(0, input_tokens - 1)))
    turn = Turn("user", f"{number} {words}".rstrip())
    return Item(id=str(number), turns=(turn,), max_tokens=output_tokens, fixed=True)
